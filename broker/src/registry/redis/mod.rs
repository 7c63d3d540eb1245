//! The registry on Redis, shared by all brokers there.
//!
//! Should Redis come back without the latest changes, or without any, a broker that knows them puts them back.

pub mod keyspace;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

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
static RESTORE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/restore.lua")));

/// A registry on Redis.
pub struct RedisRegistry {
    servers: Servers,
    seen: Mutex<Option<Arc<Seen>>>,
}

/// The newest state that this broker has seen.
struct Seen {
    version: VersionParts,
    rows: Vec<Vec<u8>>,
}

/// What a version consists of.
#[derive(Clone, PartialEq, Eq)]
struct VersionParts {
    registry: String,
    number: u64,
    change: String,
}

impl VersionParts {
    /// None for a registry that is empty.
    fn of(version: &str) -> Option<Self> {
        let mut parts = version.split('-');
        let (registry, number, change) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { registry: registry.to_owned(), number: number.parse().ok()?, change: change.to_owned() })
    }
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
        Self { servers, seen: Mutex::default() }
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
        let Some((version, rows)) = self.read(known).await? else { return Ok(None) };
        let found = VersionParts::of(&version);
        let (version, rows) = match self.seen().filter(|seen| seen.is_lost_in(found.as_ref())) {
            Some(seen) => {
                self.restore(&seen).await?;
                match self.read(known).await? {
                    Some(answer) => answer,
                    None => return Ok(None),
                }
            }
            None => (version, rows),
        };
        if let Some(version) = VersionParts::of(&version) {
            let seen = Seen { version, rows: rows.clone() };
            *self.seen.lock().expect("no holder of this lock panics") = Some(Arc::new(seen));
        }
        let rows: Result<Vec<Row>, _> = rows.iter().map(|row| rmp_serde::from_slice(row)).collect();
        let rows = rows.map_err(|error| foreign(&error.to_string()))?;
        Ok(Some(Snapshot::of_rows(Version(version), rows)))
    }

    async fn read(&self, known: &str) -> Result<Option<(String, Vec<Vec<u8>>)>, RegistryError> {
        let mut script = SNAPSHOT.key(keyspace::META);
        let script = &*script.key(keyspace::ENTRIES).arg(known);
        self.call(|mut line| async move { script.invoke_async(&mut line.connection).await }).await
    }

    fn seen(&self) -> Option<Arc<Seen>> {
        self.seen.lock().expect("no holder of this lock panics").clone()
    }

    async fn restore(&self, seen: &Seen) -> Result<(), RegistryError> {
        let mut script = RESTORE.key(keyspace::META);
        script.key(keyspace::ENTRIES);
        let VersionParts { registry, number, change } = &seen.version;
        script.arg(registry).arg(number).arg(change);
        for row in &seen.rows {
            script.arg(row.as_slice());
        }
        let script = &script;
        let restored: bool =
            self.call(|mut line| async move { script.invoke_async(&mut line.connection).await }).await?;
        if restored {
            tracing::warn!(
                number,
                "put back the registry of keys and pools: Redis had lost what was changed"
            );
        }
        Ok(())
    }

    async fn change(&self, change: &Change, who: &Who) -> Result<Changed, RegistryError> {
        let edits: Vec<_> = change.edits.iter().map(|edit| (edit.writes(), audit::body(edit, who))).collect();
        let edits = rmp_serde::to_vec(&edits).map_err(|error| foreign(&error.to_string()))?;
        let mut script = CHANGE.key(keyspace::META);
        script.key(keyspace::ENTRIES).key(keyspace::AUDIT);
        script.arg(change.decided_at.as_ref().map_or("", |version| version.0.as_str()));
        script.arg(format!("{:016x}", rand::random::<u64>())).arg(edits);
        let known = self.seen().map(|seen| seen.version.registry.clone());
        let identity = known.unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
        script.arg(MOST_RECORDS).arg(KEEP_RECORDS).arg(identity);
        let script = &script;
        let ask = |mut line: Line| async move {
            let version: Option<String> = script.invoke_async(&mut line.connection).await?;
            let replicas = if version.is_some() { line.state().await?.replicas } else { 0 };
            if replicas == 0 {
                return Ok((version, replicas, replicas));
            }
            let mut wait = redis::cmd("WAIT");
            wait.arg(replicas).arg(ACKNOWLEDGE_WITHIN);
            let acknowledged = wait.query_async(&mut line.connection).await?;
            Ok((version, acknowledged, replicas))
        };
        let (version, acknowledged, replicas) = self.call(ask).await?;
        if acknowledged < replicas {
            let why = format!("{acknowledged} of {replicas} replicas of Redis have the change");
            return Err(RegistryError::Unavailable(why));
        }
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

impl Seen {
    /// Whether a registry that stands at that version lacks what was seen.
    fn is_lost_in(&self, found: Option<&VersionParts>) -> bool {
        let Some(found) = found else { return true };
        found.registry == self.version.registry && found.number < self.version.number
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
