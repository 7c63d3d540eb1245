//! The registry on Redis, shared by all brokers there.

pub mod keyspace;

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use deadpool_redis::{Config, Connection, Pool, PoolError, Runtime};
use redis::{AsyncTypedCommands, ExistenceCheck, RedisError, Script, SetExpiry, SetOptions};
use tokio::time::timeout;

use super::{
    AuditId, AuditRecord, Change, Changed, KEEP_RECORDS, MOST_RECORDS, Registry, RegistryError,
    RegistryFuture, Snapshot, Version, Who, audit, snapshot::Row,
};

static SNAPSHOT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/snapshot.lua")));
static CHANGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/change.lua")));

/// A registry on Redis.
pub struct RedisRegistry {
    pool: Pool,
    deadline: Duration,
}

impl RedisRegistry {
    /// Prepares the registry; nothing is connected yet. `deadline` bounds every call.
    ///
    /// # Errors
    /// If the URL cannot be read.
    pub fn new(url: &str, deadline: Duration) -> Result<Self, RegistryError> {
        let pool = Config::from_url(url)
            .create_pool(Some(Runtime::Tokio1))
            .map_err(|error| RegistryError::Unusable(format!("the Redis URL cannot be used: {error}")))?;
        Ok(Self { pool, deadline })
    }

    async fn call<T>(
        &self,
        ask: impl AsyncFnOnce(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, RegistryError> {
        timeout(self.deadline, async {
            // The pool looks at a connection before it gives it out, so one that broke is not met twice.
            let mut connection = self.pool.get().await.map_err(|error| match error {
                PoolError::Backend(error) => unavailable(&error),
                other => RegistryError::Unavailable(other.to_string()),
            })?;
            ask(&mut connection).await.map_err(|error| unavailable(&error))
        })
        .await
        .unwrap_or_else(|_| Err(RegistryError::Unavailable(format!("no answer in {:?}", self.deadline))))
    }
}

impl RedisRegistry {
    async fn snapshot(&self, known: Option<&Version>) -> Result<Option<Snapshot>, RegistryError> {
        let known = known.map_or("", |known| known.0.as_str());
        let mut script = SNAPSHOT.key(keyspace::META);
        script.key(keyspace::ENTRIES).arg(known);
        let answer: Option<(String, Vec<Vec<u8>>)> =
            self.call(async |connection| script.invoke_async(connection).await).await?;
        let Some((version, rows)) = answer else { return Ok(None) };
        let rows: Result<Vec<Row>, _> = rows.iter().map(|row| rmp_serde::from_slice(row)).collect();
        let rows = rows.map_err(|error| foreign(&error.to_string()))?;
        Ok(Some(Snapshot::of_rows(Version(version), rows)))
    }

    async fn change(&self, change: &Change, who: &Who) -> Result<Changed, RegistryError> {
        let edits: Vec<_> = change.edits.iter().map(|edit| (edit.writes(), audit::body(edit, who))).collect();
        let edits = rmp_serde::to_vec(&edits).map_err(|error| foreign(&error.to_string()))?;
        let mut script = CHANGE.key(keyspace::META);
        script.key(keyspace::ENTRIES).key(keyspace::AUDIT);
        script.arg(change.decided_at.as_ref().map_or("", |version| version.0.as_str()));
        script.arg(format!("{:016x}", rand::random::<u64>())).arg(edits);
        script.arg(MOST_RECORDS).arg(KEEP_RECORDS);
        let version: Option<String> =
            self.call(async |connection| script.invoke_async(connection).await).await?;
        Ok(version.map_or(Changed::Stale, |version| Changed::Made(Version(version))))
    }

    async fn audit(&self, before: Option<AuditId>, most: usize) -> Result<Vec<AuditRecord>, RegistryError> {
        let newest = before.map_or("+".to_owned(), |before| format!("({before}"));
        let mut command = redis::cmd("XREVRANGE");
        command.arg(keyspace::AUDIT).arg(newest).arg("-").arg("COUNT").arg(most);
        let found: Vec<(String, HashMap<String, String>)> =
            self.call(async |connection| command.query_async(connection).await).await?;
        let record = |(id, fields): (String, HashMap<String, String>)| {
            let id = id.parse().map_err(|_| foreign("a record with a strange id"))?;
            let body = fields.get("record").ok_or_else(|| foreign("a record without a body"))?;
            AuditRecord::read(id, body)
        };
        found.into_iter().map(record).collect()
    }
}

impl Registry for RedisRegistry {
    fn snapshot<'a>(&'a self, known: Option<&'a Version>) -> RegistryFuture<'a, Option<Snapshot>> {
        Box::pin(Self::snapshot(self, known))
    }

    fn change<'a>(&'a self, change: &'a Change, who: &'a Who) -> RegistryFuture<'a, Changed> {
        Box::pin(Self::change(self, change, who))
    }

    fn audit<'a>(&'a self, before: Option<AuditId>, most: usize) -> RegistryFuture<'a, Vec<AuditRecord>> {
        Box::pin(Self::audit(self, before, most))
    }

    fn claim<'a>(&'a self, name: &'a str, span: Duration) -> RegistryFuture<'a, bool> {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
        let options =
            SetOptions::default().conditional_set(ExistenceCheck::NX).with_expiration(SetExpiry::PX(millis));
        Box::pin(self.call(async move |connection| {
            let set = connection.set_options(keyspace::claim(name), 1, options).await?;
            Ok(set.is_some())
        }))
    }
}

fn unavailable(error: &RedisError) -> RegistryError {
    RegistryError::Unavailable(error.to_string())
}

fn foreign(what: &str) -> RegistryError {
    RegistryError::Unusable(format!("Redis holds something that keybroker did not write: {what}"))
}
