//! The registry of a broker without Redis: `registry.redb` in the data directory, beside the ledger.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};

use super::{
    AuditId, AuditRecord, Change, Changed, KEEP_RECORDS, MOST_RECORDS, Registry, RegistryError,
    RegistryFuture, Snapshot, Version, Who, audit,
};
use crate::ledger::{Millis, calendar::wall_clock};

/// The registry's identity and the number of its version, under one name.
const META: TableDefinition<&str, (&str, u64)> = TableDefinition::new("meta");
/// Revision, created, updated and body of an entry, by its name.
const ENTRIES: TableDefinition<&str, (u64, i64, i64, &str)> = TableDefinition::new("entries");
/// Records of changes, by instant and number.
const AUDIT: TableDefinition<(u64, u64), &str> = TableDefinition::new("audit");
/// Until when a claim is taken, by its name.
const CLAIMS: TableDefinition<&str, i64> = TableDefinition::new("claims");

/// Tells the time: milliseconds since the Unix epoch.
pub type Clock = fn() -> Millis;

/// A registry in a data directory, for one broker.
pub struct EmbeddedRegistry {
    state: Arc<State>,
}

struct State {
    database: Mutex<Database>,
    clock: Clock,
}

impl EmbeddedRegistry {
    /// Opens the registry in a folder, and makes both if need be.
    ///
    /// # Errors
    /// If the folder cannot be written, is in use by another broker, or holds a damaged registry.
    pub fn open(folder: &Path) -> Result<Self, RegistryError> {
        Self::open_with(folder, wall_clock)
    }

    /// The same by another clock.
    ///
    /// # Errors
    /// As [`EmbeddedRegistry::open`].
    pub fn open_with(folder: &Path, clock: Clock) -> Result<Self, RegistryError> {
        let path = folder.join("registry.redb");
        let unusable = |what: &str, error: String| {
            RegistryError::Unusable(format!("{} cannot be {what}: {error}", path.display()))
        };
        std::fs::create_dir_all(folder).map_err(|error| unusable("made", error.to_string()))?;
        let database = Database::create(&path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => unusable(
                "opened",
                "another broker uses it; give each broker a data directory of its own".into(),
            ),
            other => unusable("opened", other.to_string()),
        })?;
        let make_tables = || -> Result<(), redb::Error> {
            let write = database.begin_write()?;
            write.open_table(META)?;
            write.open_table(ENTRIES)?;
            write.open_table(AUDIT)?;
            write.open_table(CLAIMS)?;
            write.commit()?;
            Ok(())
        };
        make_tables().map_err(|error| unusable("used", error.to_string()))?;
        Ok(Self { state: Arc::new(State { database: Mutex::new(database), clock }) })
    }

    /// Runs on a thread that may wait for the disk.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database, Millis) -> Result<T, redb::Error> + Send + 'static,
    ) -> RegistryFuture<'static, T> {
        let state = self.state.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || {
                let database = state.database.lock().map_err(|_| broken("it panicked"))?;
                work(&database, (state.clock)()).map_err(|error| broken(&error.to_string()))
            });
            done.await.unwrap_or_else(|_| Err(broken("it panicked")))
        })
    }
}

impl Registry for EmbeddedRegistry {
    fn snapshot<'a>(&'a self, known: Option<&'a Version>) -> RegistryFuture<'a, Option<Snapshot>> {
        let known = known.cloned();
        self.call(move |database, _| {
            let read = database.begin_read()?;
            let version = version_of(&read.open_table(META)?)?.0;
            if known.as_ref() == Some(&version) {
                return Ok(None);
            }
            let mut rows = Vec::new();
            for entry in read.open_table(ENTRIES)?.iter()? {
                let (name, row) = entry?;
                let (revision, created, updated, body) = row.value();
                rows.push((name.value().to_owned(), revision, created, updated, body.to_owned()));
            }
            Ok(Some(Snapshot::of_rows(version, rows)))
        })
    }

    fn change<'a>(&'a self, change: &'a Change, who: &'a Who) -> RegistryFuture<'a, Changed> {
        let decided_at = change.decided_at.clone();
        let edits: Vec<_> = change.edits.iter().map(|edit| (edit.writes(), audit::body(edit, who))).collect();
        self.call(move |database, now| {
            let write = database.begin_write()?;
            let (version, identity, number) = version_of(&write.open_table(META)?)?;
            if decided_at.is_some_and(|decided_at| decided_at != version) {
                return Ok(Changed::Stale);
            }
            let mut records = Vec::new();
            for (writes, record) in &edits {
                if write_entries(&write, writes, number + 1, now)? {
                    records.push(record.as_str());
                }
            }
            if records.is_empty() {
                return Ok(Changed::Made(version));
            }
            let identity = identity.unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
            write.open_table(META)?.insert("registry", (identity.as_str(), number + 1))?;
            record(&write, &records, now)?;
            write.commit()?;
            Ok(Changed::Made(version_named(&identity, number + 1)))
        })
    }

    fn audit<'a>(&'a self, before: Option<AuditId>, most: usize) -> RegistryFuture<'a, Vec<AuditRecord>> {
        let end = before.map_or((u64::MAX, u64::MAX), |before| (before.0, before.1));
        let rows = self.call(move |database, _| {
            let read = database.begin_read()?.open_table(AUDIT)?;
            let mut rows = Vec::new();
            for row in read.range(..end)?.rev().take(most) {
                let (id, body) = row?;
                rows.push((id.value(), body.value().to_owned()));
            }
            Ok(rows)
        });
        Box::pin(async move {
            let read = |(id, body): ((u64, u64), String)| AuditRecord::read(AuditId(id.0, id.1), &body);
            rows.await?.into_iter().map(read).collect()
        })
    }

    fn claim<'a>(&'a self, name: &'a str, span: Duration) -> RegistryFuture<'a, bool> {
        let name = name.to_owned();
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX).max(1);
        self.call(move |database, now| {
            let taken =
                |until: Option<redb::AccessGuard<'_, i64>>| until.is_some_and(|until| until.value() > now);
            // Most callers come while it is taken, and need not wait for the disk.
            if taken(database.begin_read()?.open_table(CLAIMS)?.get(name.as_str())?) {
                return Ok(false);
            }
            let write = database.begin_write()?;
            {
                let mut claims = write.open_table(CLAIMS)?;
                claims.retain(|_, until| until > now)?;
                claims.insert(name.as_str(), now.saturating_add(millis))?;
            }
            write.commit()?;
            Ok(true)
        })
    }
}

/// The version, and the identity (none if nothing was ever written) and number it is made of.
fn version_of(
    meta: &impl ReadableTable<&'static str, (&'static str, u64)>,
) -> Result<(Version, Option<String>, u64), redb::Error> {
    Ok(match meta.get("registry")? {
        None => (Version("0".to_owned()), None, 0),
        Some(row) => {
            let (identity, number) = row.value();
            (version_named(identity, number), Some(identity.to_owned()), number)
        }
    })
}

fn version_named(identity: &str, number: u64) -> Version {
    Version(format!("{identity}-{number}"))
}

/// Writes entries, where an empty body removes; says whether anything changed by it.
fn write_entries(
    write: &WriteTransaction,
    writes: &[(String, String)],
    revision: u64,
    now: Millis,
) -> Result<bool, redb::Error> {
    let mut entries = write.open_table(ENTRIES)?;
    // What writes nothing here was done elsewhere, and is only recorded.
    let mut changed = writes.is_empty();
    for (name, body) in writes {
        if body.is_empty() {
            changed |= entries.remove(name.as_str())?.is_some();
            continue;
        }
        let known = entries.get(name.as_str())?.map(|row| (row.value().1, row.value().3 == body));
        if !known.is_some_and(|(_, same)| same) {
            let created = known.map_or(now, |(created, _)| created);
            entries.insert(name.as_str(), (revision, created, now, body.as_str()))?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Adds records, each later than all before it, and lets go of those that are too old or too many.
fn record(write: &WriteTransaction, records: &[&str], now: Millis) -> Result<(), redb::Error> {
    let mut audit = write.open_table(AUDIT)?;
    let now = now.max(0).unsigned_abs();
    for record in records {
        let last = audit.last()?.map(|(id, _)| id.value());
        let id = match last {
            Some((at, number)) if at >= now => (at, number + 1),
            _ => (now, 0),
        };
        audit.insert(id, *record)?;
    }
    while audit.len()? > MOST_RECORDS {
        audit.pop_first()?;
    }
    let oldest = now.saturating_sub(KEEP_RECORDS.unsigned_abs());
    while audit.first()?.is_some_and(|(id, _)| id.value().0 < oldest) {
        audit.pop_first()?;
    }
    Ok(())
}

fn broken(why: &str) -> RegistryError {
    RegistryError::Unusable(format!("registry.redb in the data directory cannot be used: {why}"))
}
