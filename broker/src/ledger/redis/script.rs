//! The Lua scripts, put together from their files with the constants of the Rust kernel before
//! them, so that no number is written twice.

use std::{sync::LazyLock, time::Duration};

use redis::{
    Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};

use super::keyspace;
use crate::ledger::{account, kernel, shard, steady, types, window};

/// How many bytes of entries a window keeps in the row of its account, of 16 bytes each; when it has
/// more, all but the recent ones go to a field of their own.
const ENTRIES_TOGETHER: i64 = 12 * 16;
/// How many bytes of them are recent: what leases that end soon are counted in.
const ENTRIES_RECENT: i64 = 4 * 16;

/// What every script is made of that grants or settles leases, before its own text.
const LEASING: [&str; 9] = [
    include_str!("lua/prelude.lua"),
    include_str!("lua/clock.lua"),
    include_str!("lua/entries.lua"),
    include_str!("lua/window.lua"),
    include_str!("lua/account.lua"),
    include_str!("lua/shard.lua"),
    include_str!("lua/lease.lua"),
    include_str!("lua/acquire.lua"),
    include_str!("lua/settle.lua"),
];

/// The texts of the scripts that grant leases and put them back: tests run known-bad variants of them.
#[derive(Debug, Clone)]
pub struct Scripts {
    /// Runs a batch.
    pub batch: String,
    /// Says that a broker is there.
    pub beat: String,
    /// Puts back what a broker remembers.
    pub replay: String,
    /// Lets brokers agree when leases may be granted again.
    pub recover: String,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            batch: leasing(include_str!("lua/batch.lua")),
            beat: text(&[include_str!("lua/beat.lua")]),
            replay: leasing(include_str!("lua/replay.lua")),
            recover: text(&[include_str!("lua/brokers.lua"), include_str!("lua/recover.lua")]),
        }
    }
}

impl Scripts {
    /// The scripts with one text put in the place of another, wherever it stands.
    ///
    /// # Panics
    /// If it stands nowhere.
    #[must_use]
    pub fn changed(self, from: &str, to: &str) -> Self {
        let scripts = [&self.batch, &self.beat, &self.replay, &self.recover];
        assert!(scripts.iter().any(|script| script.contains(from)), "no script reads any more: {from}");
        let [batch, beat, replay, recover] = scripts.map(|script| script.replace(from, to));
        Self { batch, beat, replay, recover }
    }
}

/// Says that a broker ends in order.
pub(super) static LEAVE: LazyLock<Script> =
    LazyLock::new(|| Script::new(text(&[include_str!("lua/brokers.lua"), include_str!("lua/leave.lua")])));
/// Lets a recovery go on without what is lost.
pub(super) static ACCEPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(text(&[include_str!("lua/accept.lua")])));
/// Writes limits and candidates.
pub(super) static APPLY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(text(&[
        include_str!("lua/prelude.lua"),
        include_str!("lua/no_clock.lua"),
        include_str!("lua/entries.lua"),
        include_str!("lua/window.lua"),
        include_str!("lua/account.lua"),
        include_str!("lua/apply.lua"),
    ]))
});
/// Opens a pool's ledger.
pub(super) static OPEN: LazyLock<Script> =
    LazyLock::new(|| Script::new(text(&[include_str!("lua/open.lua")])));
/// Reads accounts.
pub(super) static INSPECT: LazyLock<Script> =
    LazyLock::new(|| Script::new(text(&[include_str!("lua/entries.lua"), include_str!("lua/inspect.lua")])));

/// A script and the hash that Redis knows it by.
pub(super) struct Script {
    /// The text.
    pub(super) code: String,
    /// Its SHA-1, in hex.
    pub(super) hash: String,
}

impl Script {
    /// The script with that text.
    pub(super) fn new(code: String) -> Self {
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }

    fn command(&self, name: &str, body: &str, keys: &[String], arguments: &[&[u8]]) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(body).arg(keys.len()).arg(keys);
        for argument in arguments {
            command.arg(*argument);
        }
        command
    }

    /// Runs by the hash, and by the text if Redis does not know it: then nothing ran, so asking again repeats nothing.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        line: &mut MultiplexedConnection,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Result<T, RedisError> {
        match self.command("EVALSHA", &self.hash, keys, arguments).query_async(line).await {
            Err(error) if is_unknown(&error) => {
                self.command("EVAL", &self.code, keys, arguments).query_async(line).await
            }
            answer => answer,
        }
    }

    /// The same of a script that answers (what, how many replicas have to acknowledge), and then waits until
    /// replicas have what it wrote; how many have. `expected` is how many it is likely to be: then one round trip is
    /// enough. None does not wait.
    pub(super) async fn run_and_wait<T: FromRedisValue>(
        &self,
        line: &mut MultiplexedConnection,
        keys: &[String],
        arguments: &[&[u8]],
        expected: Option<i64>,
        time: Duration,
    ) -> Result<((T, i64), i64), RedisError> {
        let Some(expected) = expected.filter(|expected| *expected > 0) else {
            let answer: (T, i64) = self.run(line, keys, arguments).await?;
            let acknowledged =
                if expected.is_some() && answer.1 > 0 { wait(line, answer.1, time).await? } else { 0 };
            return Ok((answer, acknowledged));
        };
        let mut answers = self.piped(("EVALSHA", &self.hash), line, keys, arguments, expected, time).await?;
        if matches!(&answers.0, Err(error) if is_unknown(error)) {
            answers = self.piped(("EVAL", &self.code), line, keys, arguments, expected, time).await?;
        }
        let answer: (T, i64) = redis::from_redis_value(answers.0?)?;
        let acknowledged: i64 = redis::from_redis_value(answers.1?)?;
        if acknowledged < answer.1 && expected < answer.1 {
            let acknowledged = wait(line, answer.1, time).await?;
            return Ok((answer, acknowledged));
        }
        Ok((answer, acknowledged))
    }

    async fn piped(
        &self,
        (name, body): (&str, &str),
        line: &mut MultiplexedConnection,
        keys: &[String],
        arguments: &[&[u8]],
        acks: i64,
        time: Duration,
    ) -> Result<(RedisResult<Value>, RedisResult<Value>), RedisError> {
        let mut pipeline = redis::pipe();
        pipeline.add_command(self.command(name, body, keys, arguments)).add_command(wait_command(acks, time));
        let answers: Vec<RedisResult<Value>> = pipeline.ignore_errors().query_async(line).await?;
        let mut answers = answers.into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Ok(Value::Nil));
        Ok((next(), next()))
    }
}

fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn wait_command(acks: i64, time: Duration) -> Cmd {
    let mut command = redis::cmd("WAIT");
    command.arg(acks).arg(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    command
}

/// Waits until so many replicas have what was written by this connection; how many have.
pub(super) async fn wait(
    line: &mut MultiplexedConnection,
    acks: i64,
    time: Duration,
) -> Result<i64, RedisError> {
    wait_command(acks, time).query_async(line).await
}

fn leasing(own: &str) -> String {
    let mut parts = LEASING.to_vec();
    parts.push(own);
    text(&parts)
}

fn text(parts: &[&str]) -> String {
    let constants = [
        ("FOREVER", types::FOREVER),
        ("SUB_BUCKETS", window::SUB_BUCKETS),
        ("CLASS_SPAN", shard::CLASS_SPAN),
        ("MAX_TRIES", kernel::MAX_TRIES as i64),
        ("REMEMBER_EXPIRED", kernel::REMEMBER_EXPIRED),
        ("REMEMBER_SETTLED", kernel::REMEMBER_SETTLED),
        ("SHARD_LIFETIME", keyspace::SHARD_LIFETIME),
        ("FORGET_AT_ONCE", kernel::FORGET_AT_ONCE as i64),
        ("POOL_KEYS", keyspace::POOL_KEYS as i64),
        ("USAGE_LIFETIME", types::USAGE_LIFETIME),
        ("UNLIMITED", types::UNLIMITED),
        ("CLOCK_STANDS", steady::CLOCK_STANDS),
        ("BROKER_LIFETIME", keyspace::BROKER_LIFETIME),
        ("BROKER_SILENT", super::BROKER_SILENT),
        ("RECOVERY_LIFETIME", keyspace::RECOVERY_LIFETIME),
        ("RECOVERY_GRACE", super::RECOVERY_GRACE),
        ("OLD_DATA", super::OLD_DATA),
        ("ENTRIES_TOGETHER", ENTRIES_TOGETHER),
        ("ENTRIES_RECENT", ENTRIES_RECENT),
        ("RAMP_STAGE", window::RAMP_STAGE),
        ("RAMP", window::RAMP),
        ("FULL_HEALTH", account::FULL_HEALTH),
        ("TICKS", shard::TICKS),
        ("HARD", u8::from(types::Mode::Hard).into()),
        ("SOFT", u8::from(types::Mode::Soft).into()),
        ("LEARNING", u8::from(types::Mode::Learning).into()),
        ("BY_HEALTH", u8::from(types::Order::Health).into()),
        ("LEAST_RECENT", u8::from(types::Order::LeastRecent).into()),
        ("LEAST_UTILIZED", u8::from(types::Order::LeastUtilized).into()),
    ];
    let mut code: String =
        constants.iter().map(|(name, value)| format!("local {name} = {value}\n")).collect();
    code.push_str(&format!(
        "local HAS_LEFT, UNREPORTED, USAGE_MARK = '{}', '{}', '\\{}'\n",
        super::HAS_LEFT,
        types::UNREPORTED,
        types::USAGE_MARK as u32
    ));
    for part in parts {
        code.push_str(part);
        code.push('\n');
    }
    code
}
