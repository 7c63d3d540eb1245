//! The ledger on Redis: every operation is one Lua script, so that any number of brokers share
//! one count.

mod held;
pub mod keyspace;
mod script;

use std::{collections::BTreeMap, time::Duration};

use deadpool_redis::{Config, Connection, Pool, Runtime};
use redis::{ErrorKind, RedisError, ServerErrorKind, aio::MultiplexedConnection};
use script::Script;
pub use script::batch_script;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::Mutex, time::timeout};

use super::{
    Batch, CandidateSpec, Inspection, Ledger, LedgerError, LedgerFuture, Millis, Opened, Reply, ShardSpec,
    UsageRow, shard::CLASSES,
};

/// The oldest version that has every command the scripts use.
pub const OLDEST_VERSION: (u32, u32) = (6, 2);
/// How many candidates or accounts one call applies.
const PIECE: usize = 500;

/// A ledger on Redis.
pub struct RedisLedger {
    pool: Pool,
    batch: Script,
    // The connection in use; calls on it are pipelined. It is dropped when it fails.
    line: Mutex<Option<Connection>>,
    deadline: Duration,
}

impl RedisLedger {
    /// Prepares the ledger; nothing is connected yet. `deadline` bounds every call.
    ///
    /// # Errors
    /// If the URL cannot be read.
    pub fn new(url: &str, deadline: Duration) -> Result<Self, LedgerError> {
        let pool = Config::from_url(url)
            .create_pool(Some(Runtime::Tokio1))
            .map_err(|error| LedgerError::Unusable(format!("the Redis URL cannot be used: {error}; correct --redis-url or KEYBROKER_REDIS_URL, such as redis://127.0.0.1:6379")))?;
        Ok(Self { pool, batch: Script::new(batch_script()), line: Mutex::new(None), deadline })
    }

    /// Runs another text as the batch script, for tests of known-bad variants.
    #[must_use]
    pub fn with_batch_script(self, code: &str) -> Self {
        Self { batch: Script::new(code.to_owned()), ..self }
    }

    /// Connects, and checks what cannot be repaired by waiting: password, version, and that nothing is evicted.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] if Redis does not answer, [`LedgerError::Unusable`] if it
    /// answers and cannot be used.
    pub async fn check(&self) -> Result<(), LedgerError> {
        let version = self.info("server", "redis_version:").await?.unwrap_or_else(|| "unknown".to_owned());
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if found < OLDEST_VERSION {
            let (major, minor) = OLDEST_VERSION;
            let text = format!("Redis is version {version}; keybroker needs {major}.{minor} or newer");
            return Err(LedgerError::Unusable(text));
        }
        // A count that Redis drops to make room is quota that is spent twice.
        match self.info("memory", "maxmemory_policy:").await? {
            Some(policy) if policy != "noeviction" => Err(LedgerError::Unusable(format!(
                "Redis has the maxmemory-policy {policy}, by which it may drop counts and leases when memory is short; \
                 set maxmemory-policy noeviction, or use a Redis that is not a cache"
            ))),
            _ => Ok(()),
        }
    }

    /// The value of a line of a section of INFO; none if there is no such line.
    async fn info(&self, section: &str, name: &str) -> Result<Option<String>, LedgerError> {
        let info: String =
            self.call(async |mut line| redis::cmd("INFO").arg(section).query_async(&mut line).await).await?;
        Ok(info.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned()))
    }

    async fn call<T>(
        &self,
        ask: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, LedgerError> {
        let answer = timeout(self.deadline, async {
            let line = self.line().await?;
            ask(line).await.map_err(unreachable_or_unusable)
        })
        .await
        .unwrap_or_else(|_| Err(LedgerError::Unavailable(format!("no answer in {:?}", self.deadline))));
        if let Err(LedgerError::Unavailable(_)) = answer {
            // A connection that failed once is not trusted again; the next call makes a new one.
            if let Some(line) = self.line.lock().await.take() {
                drop(Connection::take(line));
            }
        }
        answer
    }

    async fn line(&self) -> Result<MultiplexedConnection, LedgerError> {
        let mut line = self.line.lock().await;
        if line.is_none() {
            let fresh = self.pool.get().await.map_err(|error| match error {
                deadpool_redis::PoolError::Backend(error) => unreachable_or_unusable(error),
                other => LedgerError::Unavailable(other.to_string()),
            })?;
            *line = Some(fresh);
        }
        let mut line = (**line.as_ref().expect("it was just put there")).clone();
        // The client has a limit of its own, which is shorter than some deadlines.
        line.set_response_timeout(self.deadline);
        Ok(line)
    }

    /// Runs a script by its hash, and by its text if Redis does not know it: then nothing ran, so
    /// asking again repeats nothing.
    async fn run<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Result<T, LedgerError> {
        let command = |name: &str, body: &str| {
            let mut command = redis::cmd(name);
            command.arg(body).arg(keys.len()).arg(keys);
            arguments.iter().for_each(|argument| {
                command.arg(*argument);
            });
            command
        };
        self.call(async |mut line| match command("EVALSHA", &script.hash).query_async(&mut line).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", &script.code).query_async(&mut line).await
            }
            answer => answer,
        })
        .await
    }

    async fn open(&self, pool: &str, digest: &str) -> Result<Opened, LedgerError> {
        let id = format!("{:016x}", rand::random::<u64>());
        let keys = keyspace::keys(pool, []);
        let (ledger_id, generation) =
            self.run(&script::OPEN, &keys[..1], &[id.as_bytes(), digest.as_bytes()]).await?;
        Ok(Opened { ledger_id, generation })
    }

    async fn apply(&self, pool: &str, ledger_id: &str, spec: &ShardSpec) -> Result<(), LedgerError> {
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
        let reply: Vec<u8> = self
            .run(&self.batch, &keys, &[&input])
            .await
            .map_err(|error| changed(error, &batch.ledger_id))?;
        decode(&reply)
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

    async fn usage(&self, pool: &str, day_ends: &[Millis]) -> Result<Vec<UsageRow>, LedgerError> {
        let mut found = Vec::new();
        for &day_end in day_ends {
            let key = keyspace::usage(pool, day_end);
            let mut cursor = 0_u64;
            let mut rows: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            loop {
                let (next, part): (u64, Vec<(String, Vec<u8>)>) = self
                    .call(async |mut line| {
                        redis::cmd("HSCAN")
                            .arg(&key)
                            .arg(cursor)
                            .arg("COUNT")
                            .arg(1000)
                            .query_async(&mut line)
                            .await
                    })
                    .await?;
                rows.extend(part);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
            for (name, used) in rows {
                found.push(UsageRow { day_end, name, used: decode(&used)? });
            }
        }
        Ok(found)
    }

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
        self.inspect(pool, clock, accounts).await
    }
}

impl Ledger for RedisLedger {
    fn open<'a>(&'a self, pool: &'a str, digest: &'a str) -> LedgerFuture<'a, Opened> {
        Box::pin(Self::open(self, pool, digest))
    }

    fn apply<'a>(&'a self, pool: &'a str, ledger_id: &'a str, spec: &'a ShardSpec) -> LedgerFuture<'a, ()> {
        Box::pin(Self::apply(self, pool, ledger_id, spec))
    }

    fn execute<'a>(&'a self, pool: &'a str, batch: &'a Batch) -> LedgerFuture<'a, Reply> {
        Box::pin(Self::execute(self, pool, batch))
    }

    fn inspect<'a>(&'a self, pool: &'a str, accounts: &'a [String]) -> LedgerFuture<'a, Inspection> {
        Box::pin(Self::inspect(self, pool, 0, accounts))
    }

    fn usage<'a>(&'a self, pool: &'a str, day_ends: &'a [Millis]) -> LedgerFuture<'a, Vec<UsageRow>> {
        Box::pin(Self::usage(self, pool, day_ends))
    }

    fn held<'a>(&'a self, pool: &'a str, key_id: &'a str) -> LedgerFuture<'a, usize> {
        Box::pin(Self::held(self, pool, key_id))
    }

    fn ping(&self) -> LedgerFuture<'_, ()> {
        Box::pin(self.call(async |mut line| redis::cmd("PING").query_async(&mut line).await))
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

fn unreachable_or_unusable(error: RedisError) -> LedgerError {
    let detail = error.detail().unwrap_or_default().to_owned();
    match error.code() {
        Some("CHANGED") => LedgerError::Changed { expected: String::new(), found: detail },
        Some("CLOCK") => LedgerError::Clock,
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => {
            LedgerError::Unusable("Redis refused the user or password of the Redis URL".to_owned())
        }
        _ if error.kind() == ErrorKind::AuthenticationFailed => {
            LedgerError::Unusable("Redis refused the user or password of the Redis URL".to_owned())
        }
        _ => LedgerError::Unavailable(error.to_string()),
    }
}
