//! The ledger on Redis: every operation is one Lua script, so that any number of brokers share
//! one count.
//!
//! Redis may forget what it has acknowledged: when a replica is promoted, or when it is started again with what
//! was on its disk. So a strict ledger hands nothing out before the replicas have it, serves only the run of a
//! server that is blessed, and puts back what a server lacks before it blesses it (`keeper.rs`, `lua/recover.lua`).

mod durability;
mod held;
mod journal;
mod keeper;
pub mod keyspace;
mod script;
mod watched;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use opentelemetry::KeyValue;
use redis::RedisError;
use script::Script;
pub use script::Scripts;
use serde::{Serialize, de::DeserializeOwned};

pub use self::durability::Durability;
use self::watched::{Catalogue, Watched};
use super::{
    Batch, CandidateSpec, Horizon, Inspection, Ledger, LedgerError, LedgerFuture, LedgerState, Millis,
    Opened, Reply, ShardSpec, UsageRow, shard::CLASSES,
};
use crate::{
    calls,
    redis_servers::{Address, CallError, Line, Servers, Target, TlsFiles, refuses_user},
};

/// The oldest version that has every command the scripts use.
pub const OLDEST_VERSION: (u32, u32) = (6, 2);
/// How many candidates or accounts one call applies.
const PIECE: usize = 500;
/// How many rows one step of a scan looks at: it bounds how long Redis is busy with it.
const SCAN_STEP: usize = 1000;
/// A broker whose last beat is older than this when a server dies is not waited for, in milliseconds.
const BROKER_SILENT: i64 = 5_000;
/// What stands before the name of a broker that ended in order.
const HAS_LEFT: &str = "left-";
/// How long a recovery takes at least, so that every broker can come, in milliseconds.
const RECOVERY_GRACE: i64 = 2_000;
/// A server that comes back without so much of the latest, in milliseconds, came back with old data.
const OLD_DATA: i64 = 10_000;

/// A ledger on Redis.
pub struct RedisLedger {
    shared: Arc<Shared>,
}

/// What the ledger and the tasks that watch over its pools have in common.
struct Shared {
    servers: Servers,
    batch: Script,
    beat: Script,
    replay: Script,
    recover: Script,
    durability: Durability,
    // The name of this broker among those of the ledger.
    broker: String,
    pools: Mutex<HashMap<String, Arc<Watched>>>,
    // Of pools, what is taken in as they are opened.
    foreseen: Mutex<HashMap<String, Horizon>>,
}

impl RedisLedger {
    /// Prepares the ledger; nothing is connected yet. `deadline` bounds every call.
    ///
    /// # Errors
    /// If the URL cannot be read.
    pub fn new(url: &str, deadline: Duration) -> Result<Self, LedgerError> {
        let target = Target::parse(url, &TlsFiles::default())
            .map_err(|error| LedgerError::Unusable(error.of_option("it").to_string()))?;
        Ok(Self::on(Servers::new(target, deadline), Durability::Strict))
    }

    /// The ledger on these servers.
    #[must_use]
    pub fn on(servers: Servers, durability: Durability) -> Self {
        let Scripts { batch, beat, replay, recover } = Scripts::default();
        let shared = Shared {
            servers,
            batch: Script::new(batch),
            beat: Script::new(beat),
            replay: Script::new(replay),
            recover: Script::new(recover),
            durability,
            broker: format!("{:016x}", rand::random::<u64>()),
            pools: Mutex::default(),
            foreseen: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs other texts, for tests of known-bad variants.
    ///
    /// # Panics
    /// If a pool was opened already.
    #[must_use]
    pub fn with_scripts(self, scripts: Scripts) -> Self {
        let shared = Arc::into_inner(self.shared).expect("no pool is opened yet");
        let [batch, beat, replay, recover] =
            [scripts.batch, scripts.beat, scripts.replay, scripts.recover].map(Script::new);
        Self { shared: Arc::new(Shared { batch, beat, replay, recover, ..shared }) }
    }

    /// Connects, and checks what cannot be repaired by waiting: password, version, and that nothing is evicted.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] if Redis does not answer, [`LedgerError::Unusable`] if it
    /// answers and cannot be used.
    pub async fn check(&self) -> Result<(), LedgerError> {
        let line = self.shared.servers.line(PROBE_KEY).await.map_err(of_call)?;
        let version = &line.server.version;
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if found < OLDEST_VERSION {
            let (major, minor) = OLDEST_VERSION;
            let text = format!("Redis is version {version}; keybroker needs {major}.{minor} or newer");
            return Err(LedgerError::Unusable(text));
        }
        self.shared.check_memory(PROBE_KEY).await
    }
}

/// A key of no pool, by which it is found whether Redis answers at all.
const PROBE_KEY: &str = "kb:{default}:meta";

impl Shared {
    /// Whether the server of a key keeps what is counted: a count that it drops to make room is quota that is spent
    /// twice.
    async fn check_memory(&self, key: &str) -> Result<(), LedgerError> {
        let ask = |mut line: Line| async move {
            redis::cmd("INFO").arg("memory").query_async::<String>(&mut line.connection).await
        };
        let memory = self.call(key, ask).await?;
        let policy = memory.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
        match policy.unwrap_or_default().trim() {
            "" | "noeviction" => Ok(()),
            policy => Err(LedgerError::Unusable(format!(
                "Redis has the maxmemory-policy {policy}, by which it may drop counts and leases when memory is short; \
                 set maxmemory-policy noeviction, or use a Redis that is not a cache"
            ))),
        }
    }

    async fn call<T, F: Future<Output = Result<T, RedisError>>>(
        &self,
        key: &str,
        ask: impl Fn(Line) -> F,
    ) -> Result<T, LedgerError> {
        self.servers.call(key, ask).await.map_err(of_call)
    }

    /// Runs a script.
    async fn run<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Result<T, LedgerError> {
        let ask = |mut line: Line| async move { script.run(&mut line.connection, keys, arguments).await };
        self.call(&keys[0], ask).await
    }

    async fn open(self: &Arc<Self>, pool: &str, digest: &str) -> Result<Opened, LedgerError> {
        let keys = keyspace::keys(pool, []);
        let keys = &keys[..1];
        self.check_memory(&keys[0]).await?;
        let known = self.watched(pool).map(|watched| watched.catalogue());
        let id = known.as_ref().map(|known| known.ledger_id.clone());
        let id = id.unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
        // A ledger that is known and not there is made anew by a recovery, which blesses it.
        let (blesses, least) = (known.is_none(), known.map_or(0, |known| known.generation).to_string());
        let least = least.as_bytes();
        let new_id = id.as_bytes();
        let ask = |mut line: Line| async move {
            let replicas = line.server.replicas.to_string();
            let run = if blesses { line.server.run.as_bytes() } else { b"" };
            let arguments = [new_id, digest.as_bytes(), run, replicas.as_bytes(), least];
            script::OPEN.run(&mut line.connection, keys, &arguments).await
        };
        let (ledger_id, generation): (String, i64) = self.call(&keys[0], ask).await?;
        if self.durability == Durability::Strict {
            let made = blesses && ledger_id == id;
            let catalogue = Catalogue { ledger_id: ledger_id.clone(), digest: digest.to_owned(), generation };
            self.watch_over(pool, catalogue, made);
        }
        Ok(Opened { ledger_id, generation })
    }

    async fn apply(&self, pool: &str, ledger_id: &str, spec: &ShardSpec) -> Result<(), LedgerError> {
        if let Some(watched) = self.watched(pool) {
            watched.learn(spec);
        }
        self.write_shard(pool, ledger_id, spec).await
    }

    async fn write_shard(&self, pool: &str, ledger_id: &str, spec: &ShardSpec) -> Result<(), LedgerError> {
        let keys = keyspace::keys(pool, [spec.shard.as_str()]);
        let pieces = spec.accounts.len().max(spec.candidates.len()).div_ceil(PIECE).max(1);
        for piece in 0..pieces {
            let last = piece + 1 == pieces;
            let input = encode(&(
                ledger_id,
                spec.generation,
                &spec.shard,
                part(&spec.accounts, piece),
                part::<CandidateSpec>(&spec.candidates, piece),
                CLASSES,
                last,
                keyspace::SHARD_LIFETIME,
                spec.order,
            ))?;
            self.run::<String>(&script::APPLY, &keys, &[&input])
                .await
                .map_err(|error| changed(error, ledger_id))?;
        }
        Ok(())
    }

    async fn execute(&self, pool: &str, batch: &Batch) -> Result<Reply, LedgerError> {
        let mut keys = keyspace::keys(pool, batch.shards.iter().map(String::as_str));
        keys.extend(batch.day_ends.iter().map(|day_end| keyspace::usage(pool, *day_end)));
        let input = encode(batch)?;
        let watched = self.watched(pool);
        if let Some(watched) = &watched {
            watched.admit(batch)?;
        }
        let acks = watched.as_ref().map(|watched| watched.acks());
        let asked = Instant::now();
        let (keys, input) = (keys.as_slice(), input.as_slice());
        let ask = |mut line: Line| async move {
            let run = if acks.is_some() { line.server.run.as_bytes() } else { b"" };
            let (connection, time) = (&mut line.connection, self.ack_time());
            let ran = self.batch.run_and_wait(connection, keys, &[input, run], acks, time).await?;
            Ok((ran, line.address))
        };
        let span = calls::client("EVALSHA batch", || {
            [
                KeyValue::new("db.system.name", "redis"),
                KeyValue::new("db.operation.name", "EVALSHA"),
                KeyValue::new("db.stored_procedure.name", "batch"),
            ]
        });
        let answer: Result<((Vec<u8>, i64), i64, _), _> = match self.call(&keys[0], ask).await {
            Ok((((reply, acks), acknowledged), address)) => Ok(((reply, acks), acknowledged, address)),
            Err(error) => Err(changed(error, &batch.ledger_id)),
        };
        if let Some(span) = span {
            of_server(span, answer.as_ref().map(|(_, _, address)| address));
        }
        let Some(watched) = watched else { return decode(&answer?.0.0) };
        match answer {
            Ok(((reply, acks), acknowledged, address)) => {
                let reply: Reply = decode(&reply)?;
                if acknowledged < acks {
                    // Who is not heard by its replicas may not be the primary any more.
                    self.servers.distrust(&address);
                }
                let times = (asked, Instant::now());
                if let Err(error) = watched.executed(batch, &reply, (acks, acknowledged), times) {
                    if matches!(error, LedgerError::Holding { .. })
                        && let Some(back) = batch.not_sent(&reply)
                    {
                        // If this gets no answer either, they stay charged.
                        let _ = Box::pin(self.execute(pool, &back)).await;
                    }
                    return Err(error);
                }
                Ok(reply)
            }
            Err(error) => Err(watched.failed(error)),
        }
    }

    /// How long replicas may take to acknowledge.
    fn ack_time(&self) -> Duration {
        self.servers.deadline() / 2
    }

    fn watched(&self, pool: &str) -> Option<Arc<Watched>> {
        self.pools.lock().expect("no holder of this lock panics").get(pool).cloned()
    }

    async fn inspect(
        &self,
        pool: &str,
        clock: Millis,
        accounts: &[String],
    ) -> Result<Inspection, LedgerError> {
        let keys = keyspace::keys(pool, []);
        let clock = clock.to_string();
        let arguments: Vec<&[u8]> =
            std::iter::once(clock.as_bytes()).chain(accounts.iter().map(String::as_bytes)).collect();
        let mut rows: Vec<Option<Vec<u8>>> = self.run(&script::INSPECT, &keys[..2], &arguments).await?;
        let now = rows.first().and_then(Option::as_deref).map(String::from_utf8_lossy);
        let now = now.and_then(|now| now.parse().ok()).ok_or_else(|| unreadable("no clock"))?;
        let accounts =
            rows.drain(1..).map(|row| row.map(|row| decode(&row)).transpose()).collect::<Result<_, _>>()?;
        Ok(Inspection { now, accounts })
    }

    /// Looks at every row of a hash; at one that comes or goes meanwhile perhaps twice or not at all.
    async fn scan(
        &self,
        key: &str,
        mut look: impl FnMut(String, Vec<u8>) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let mut cursor = 0_u64;
        loop {
            let ask = |mut line: Line| async move {
                let mut scan = redis::cmd("HSCAN");
                scan.arg(key).arg(cursor).arg("COUNT").arg(SCAN_STEP);
                scan.query_async::<(u64, Vec<(String, Vec<u8>)>)>(&mut line.connection).await
            };
            let (next, rows) = self.call(key, ask).await?;
            rows.into_iter().try_for_each(|(name, row)| look(name, row))?;
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn usage(&self, pool: &str, day_ends: &[Millis]) -> Result<Vec<UsageRow>, LedgerError> {
        let mut found = Vec::new();
        for &day_end in day_ends {
            let mut rows: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            self.scan(&keyspace::usage(pool, day_end), |name, row| {
                rows.insert(name, row);
                Ok(())
            })
            .await?;
            for (name, used) in rows {
                found.push(UsageRow { day_end, name, used: decode(&used)? });
            }
        }
        Ok(found)
    }
}

impl RedisLedger {
    /// Reads accounts at an instant that a test drives.
    ///
    /// # Errors
    /// As [`Ledger::inspect`].
    pub async fn inspect_at(
        &self,
        pool: &str,
        clock: Millis,
        accounts: &[String],
    ) -> Result<Inspection, LedgerError> {
        self.shared.inspect(pool, clock, accounts).await
    }
}

impl Ledger for RedisLedger {
    fn open<'a>(&'a self, pool: &'a str, digest: &'a str) -> LedgerFuture<'a, Opened> {
        Box::pin(self.shared.open(pool, digest))
    }

    fn foresee(&self, pool: &str, horizon: &Horizon) {
        let mut foreseen = self.shared.foreseen.lock().expect("no holder of this lock panics");
        foreseen.insert(pool.to_owned(), horizon.clone());
    }

    fn apply<'a>(&'a self, pool: &'a str, ledger_id: &'a str, spec: &'a ShardSpec) -> LedgerFuture<'a, ()> {
        Box::pin(self.shared.apply(pool, ledger_id, spec))
    }

    fn execute<'a>(&'a self, pool: &'a str, batch: &'a Batch) -> LedgerFuture<'a, Reply> {
        Box::pin(self.shared.execute(pool, batch))
    }

    fn inspect<'a>(&'a self, pool: &'a str, accounts: &'a [String]) -> LedgerFuture<'a, Inspection> {
        Box::pin(self.shared.inspect(pool, 0, accounts))
    }

    fn usage<'a>(&'a self, pool: &'a str, day_ends: &'a [Millis]) -> LedgerFuture<'a, Vec<UsageRow>> {
        Box::pin(self.shared.usage(pool, day_ends))
    }

    fn held<'a>(&'a self, pool: &'a str, key_id: &'a str, granted_before: Millis) -> LedgerFuture<'a, usize> {
        Box::pin(self.shared.held(pool, key_id, granted_before))
    }

    fn state(&self, pool: &str) -> LedgerState {
        self.shared.watched(pool).map_or(LedgerState::Open, |watched| watched.ledger_state())
    }

    fn ping(&self) -> LedgerFuture<'_, ()> {
        let ask = |mut line: Line| async move { redis::cmd("PING").query_async(&mut line.connection).await };
        Box::pin(self.shared.call(PROBE_KEY, ask))
    }

    fn accept_loss<'a>(&'a self, pool: &'a str) -> LedgerFuture<'a, bool> {
        Box::pin(self.shared.accept_loss(pool))
    }

    fn leave(&self) -> LedgerFuture<'_, ()> {
        Box::pin(self.shared.leave())
    }
}

/// Says where a script ran, or that it failed.
fn of_server(mut span: calls::Recorded, answer: Result<&Address, &LedgerError>) {
    match answer {
        Ok(address) => span.describe([
            KeyValue::new("server.address", address.host.clone()),
            KeyValue::new("server.port", i64::from(address.port)),
        ]),
        Err(error) => span.failed(error.name()),
    }
}

fn part<T>(all: &[T], piece: usize) -> &[T] {
    let start = (piece * PIECE).min(all.len());
    &all[start..all.len().min(start + PIECE)]
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, LedgerError> {
    rmp_serde::to_vec(value).map_err(|error| unreadable(&error.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LedgerError> {
    rmp_serde::from_slice(bytes).map_err(|error| unreadable(&error.to_string()))
}

fn unreadable(what: &str) -> LedgerError {
    LedgerError::Unusable(format!("Redis holds something that keybroker did not write: {what}"))
}

fn changed(error: LedgerError, expected: &str) -> LedgerError {
    match error {
        LedgerError::Changed { found, .. } => LedgerError::Changed { expected: expected.to_owned(), found },
        other => other,
    }
}

fn of_call(error: CallError) -> LedgerError {
    let error = match error {
        CallError::Unreachable(why) => return LedgerError::Unavailable(why),
        CallError::Answered(error) => error,
    };
    let detail = error.detail().unwrap_or_default().to_owned();
    match error.code() {
        Some("RUN") => LedgerError::Holding {
            why: "Redis was restarted, or a replica was promoted: what it lacks is put back first".to_owned(),
            retry_after: watched::SOON,
        },
        Some("CHANGED") => LedgerError::Changed { expected: String::new(), found: detail },
        Some("CLOCK") => LedgerError::Clock,
        _ if refuses_user(&error) => {
            LedgerError::Unusable("Redis refused the user or password of the Redis URL".to_owned())
        }
        _ => LedgerError::Unavailable(error.to_string()),
    }
}
