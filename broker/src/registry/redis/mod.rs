//! The registry on Redis, shared by all brokers there.

pub mod keyspace;

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use redis::{AsyncTypedCommands, ExistenceCheck, RedisError, Script, SetExpiry, SetOptions};

use crate::redis_servers::{Line, Servers, Target, TlsFiles};

use super::{
    AuditId, AuditRecord, Change, Changed, KEEP_RECORDS, MOST_RECORDS, Registry, RegistryError,
    RegistryFuture, Snapshot, Version, Who, audit, snapshot::Row,
};

/// How long replicas may take to acknowledge a change, in milliseconds.
const ACKNOWLEDGE_WITHIN: u64 = 500;

static SNAPSHOT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/snapshot.lua")));
static CHANGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/change.lua")));

/// A registry on Redis.
pub struct RedisRegistry {
    servers: Servers,
}

impl RedisRegistry {
    /// Prepares the registry; nothing is connected yet. `deadline` bounds every call.
    ///
    /// # Errors
    /// If the URL cannot be read.
    pub fn new(url: &str, deadline: Duration) -> Result<Self, RegistryError> {
        let target = Target::parse(url, &TlsFiles::default())
            .map_err(|error| RegistryError::Unusable(error.of_option("it").to_string()))?;
        Ok(Self::on(Servers::new(target, deadline)))
    }

    /// The registry on these servers.
    #[must_use]
    pub fn on(servers: Servers) -> Self {
        Self { servers }
    }

    async fn call<T, F: Future<Output = Result<T, RedisError>>>(
        &self,
        ask: impl Fn(Line) -> F,
    ) -> Result<T, RegistryError> {
        self.servers
            .call(keyspace::META, ask)
            .await
            .map_err(|error| RegistryError::Unavailable(error.to_string()))
    }
}

impl RedisRegistry {
    async fn snapshot(&self, known: Option<&Version>) -> Result<Option<Snapshot>, RegistryError> {
        let known = known.map_or("", |known| known.0.as_str());
        let mut script = SNAPSHOT.key(keyspace::META);
        let script = &*script.key(keyspace::ENTRIES).arg(known);
        let answer: Option<(String, Vec<Vec<u8>>)> =
            self.call(|mut line| async move { script.invoke_async(&mut line.connection).await }).await?;
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
        let script = &script;
        // Replicas are given the time to have it; whether they do is not asked, as the change is made.
        let ask = |mut line: Line| async move {
            let version: Option<String> = script.invoke_async(&mut line.connection).await?;
            if version.is_some() && line.server.replicas > 0 {
                let mut wait = redis::cmd("WAIT");
                wait.arg(line.server.replicas).arg(ACKNOWLEDGE_WITHIN);
                wait.query_async::<i64>(&mut line.connection).await?;
            }
            Ok(version)
        };
        let version = self.call(ask).await?;
        Ok(version.map_or(Changed::Stale, |version| Changed::Made(Version(version))))
    }

    async fn audit(&self, before: Option<AuditId>, most: usize) -> Result<Vec<AuditRecord>, RegistryError> {
        let newest = before.map_or("+".to_owned(), |before| format!("({before}"));
        let mut command = redis::cmd("XREVRANGE");
        let command = &*command.arg(keyspace::AUDIT).arg(newest).arg("-").arg("COUNT").arg(most);
        let found: Vec<(String, HashMap<String, String>)> =
            self.call(|mut line| async move { command.query_async(&mut line.connection).await }).await?;
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
        Box::pin(self.call(move |mut line| async move {
            let options = SetOptions::default()
                .conditional_set(ExistenceCheck::NX)
                .with_expiration(SetExpiry::PX(millis));
            let set = line.connection.set_options(keyspace::claim(name), 1, options).await?;
            Ok(set.is_some())
        }))
    }
}

fn foreign(what: &str) -> RegistryError {
    RegistryError::Unusable(format!("Redis holds something that keybroker did not write: {what}"))
}
