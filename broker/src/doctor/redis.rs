//! Redis: whether brokers can use it, and what it forgets when it ends.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ::redis::{RedisError, cmd};
use jiff::SignedDuration;

use super::{args::DoctorArgs, clock::Clock, finding::Check};
use crate::{
    catalogue::DEFAULT_POOL,
    ledger::{
        calendar::wall_clock,
        redis::{Durability, OLDEST_VERSION, keyspace},
    },
    redis_servers::{CallError, Line, Servers, Topology, refuses_user},
    serve,
};

/// So often it is asked how long an answer takes; the middle one counts.
const PINGS: usize = 9;
/// Each batch of leases waits for one answer.
const SLOW: Duration = Duration::from_millis(50);
/// A Redis that is fuller than this, in percent, soon takes no lease.
const FULL: u64 = 90;
const SETTING: &str = "--redis-url";

pub(super) async fn check(
    args: &DoctorArgs,
    url: &str,
    mut pools: Vec<String>,
    clocks: &mut Vec<Clock>,
) -> Check {
    let mut check = Check::of("redis");
    let servers = match serve::redis_servers(&args.serve, url) {
        Ok(servers) => servers,
        Err(error) => {
            check.error("redis-url", SETTING, error, "docs/redis.md shows every form");
            return check;
        }
    };
    unencrypted(url, &servers, &mut check);
    if pools.is_empty() {
        pools.push(DEFAULT_POOL.to_owned());
    }
    let mut seen = BTreeSet::new();
    for pool in &pools {
        let key = &keyspace::keys(pool, [])[0];
        let line = match servers.line(key).await {
            Ok(line) => line,
            Err(error) => {
                refused(&error, &mut check);
                return check;
            }
        };
        ledger_clock(&line, pool, key, clocks).await;
        if seen.insert(line.address.clone()) {
            server(args, line, clocks, &mut check).await;
        }
    }
    check
}

fn refused(error: &CallError, check: &mut Check) {
    match error {
        CallError::Answered(error) if refuses_user(error) => {
            let fix = "correct user and password in the URL; docs/redis.md lists the rights that are needed";
            check.error("redis-refused", SETTING, "Redis refuses the user, the password or its rights", fix);
        }
        other => {
            let fix = "start Redis, correct the URL, or check --redis-ca, --redis-cert and --redis-key";
            check.error("redis-unreachable", SETTING, format!("cannot be reached: {other}"), fix);
        }
    }
}

fn unencrypted(url: &str, servers: &Servers, check: &mut Check) {
    let hosts = match servers.topology() {
        Topology::Standalone(address) => std::slice::from_ref(address),
        Topology::Sentinel { sentinels, .. } => sentinels,
        Topology::Cluster(nodes) => nodes,
    };
    let far = hosts.iter().find(|host| !crate::config::is_this_host(Some(&host.host)));
    if let (Some(host), false) = (far, url.trim().starts_with("rediss")) {
        let fix = "use rediss:// where the network between is not yours alone";
        check.warning("redis-not-encrypted", host, "is spoken to without encryption", fix);
    }
}

async fn server(args: &DoctorArgs, line: Line, clocks: &mut Vec<Clock>, check: &mut Check) {
    let address = line.address.to_string();
    let state = line.server.clone();
    let latency = match look(&line, &address, clocks).await {
        Ok(latency) => latency,
        Err(error) => return refused(&CallError::Answered(error), check),
    };
    check.seen = format!(
        "{}{}{address}, version {}, replicas {}, append-only file {}, {:.1} ms",
        check.seen,
        if check.seen.is_empty() { "" } else { "; " },
        state.version,
        state.replicas,
        if state.appends { "on" } else { "off" },
        latency.as_secs_f64() * 1e3,
    );
    let mut parts = state.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST_VERSION {
        let (major, minor) = OLDEST_VERSION;
        let what = format!("is version {}", state.version);
        check.error("redis-version", &address, what, &format!("use {major}.{minor} or newer"));
    }
    if latency > SLOW {
        let what = format!(
            "takes {:.0} ms to answer, and each batch of leases waits for it",
            latency.as_secs_f64() * 1e3
        );
        check.warning(
            "redis-slow",
            &address,
            what,
            "keep brokers near it, and look for slow commands of others",
        );
    }
    if !state.appends && state.replicas == 0 {
        let what = "has neither an append-only file nor a replica: what it counted is lost with it";
        check.warning("redis-not-durable", &address, what, "set appendonly yes, or add a replica");
    }
    if state.replicas > 0 && args.serve.durability == Durability::Fast {
        let what =
            "has replicas, and --durability fast does not wait for them: a failover may spend quota twice";
        check.warning("redis-durability", &address, what, "use --durability strict");
    }
    memory(&line, &address, check).await;
    rights(&line, &address, check).await;
}

/// Reads the clock, and tells how long an answer takes.
async fn look(line: &Line, address: &str, clocks: &mut Vec<Clock>) -> Result<Duration, RedisError> {
    let mut connection = line.connection.clone();
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let asked = Instant::now();
        cmd("PING").query_async::<String>(&mut connection).await?;
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    let before = wall_clock();
    let now = time(line).await?;
    let here = before + (wall_clock() - before) / 2;
    let ahead = SignedDuration::from_millis(now - here);
    clocks.push(Clock { place: address.to_owned(), id: "clock-skew", ahead, of: "this host's" });
    Ok(times[PINGS / 2])
}

async fn time(line: &Line) -> Result<i64, RedisError> {
    let (seconds, micros): (i64, i64) = cmd("TIME").query_async(&mut line.connection.clone()).await?;
    Ok(seconds * 1000 + micros / 1000)
}

/// The ledger never lets its time run backwards: it is ahead of Redis' own where that was set back.
async fn ledger_clock(line: &Line, pool: &str, meta: &str, clocks: &mut Vec<Clock>) {
    let read =
        cmd("HGET").arg(meta).arg("now").query_async::<Option<i64>>(&mut line.connection.clone()).await;
    let (Ok(Some(ledger)), Ok(now)) = (read, time(line).await) else { return };
    if ledger > now {
        clocks.push(Clock {
            place: format!("the ledger of pool {pool}"),
            id: "ledger-clock-ahead",
            ahead: SignedDuration::from_millis(ledger - now),
            of: "that of Redis, which was set back",
        });
    }
}

async fn memory(line: &Line, address: &str, check: &mut Check) {
    let read = cmd("INFO").arg("memory").query_async::<String>(&mut line.connection.clone()).await;
    let Ok(info) = read else { return };
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    };
    let policy = field("maxmemory_policy");
    if !matches!(policy.as_str(), "" | "noeviction") {
        let what = format!(
            "has the maxmemory-policy {policy}, by which it drops counts and leases when memory is short"
        );
        check.error(
            "redis-evicts",
            address,
            what,
            "set maxmemory-policy noeviction, or use a Redis that is not a cache",
        );
    }
    let number = |name| field(name).parse::<u64>().unwrap_or(0);
    let (used, most) = (number("used_memory"), number("maxmemory"));
    if most > 0 && used.saturating_mul(100) > most.saturating_mul(FULL) {
        let what = format!("uses {} of {} MiB; when it is full nothing is leased", used >> 20, most >> 20);
        check.warning("redis-memory", address, what, "raise maxmemory");
    }
}

/// Tries one command of each kind that brokers use, on a key that is not there: none of them changes anything.
async fn rights(line: &Line, address: &str, check: &mut Check) {
    const NOTHING: &str = "kb:{doctor}:nothing";
    let mut script = cmd("EVAL");
    script.arg("return redis.call('TIME')[1]").arg(1).arg(NOTHING);
    let mut commands =
        vec![("read", cmd("HGET")), ("write", cmd("UNLINK")), ("scripting", script), ("wait", cmd("WAIT"))];
    commands[0].1.arg(NOTHING).arg("nothing");
    commands[1].1.arg(NOTHING);
    commands[3].1.arg(0).arg(0);
    for (right, command) in commands {
        let answer = command.query_async::<::redis::Value>(&mut line.connection.clone()).await;
        if answer.is_err_and(|error| refuses_user(&error)) {
            let what = format!("the user of {SETTING} lacks rights: {right}");
            check.error("redis-rights", address, what, "grant those that docs/redis.md lists");
        }
    }
}
