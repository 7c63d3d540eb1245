//! The registry of a broker without Redis: `registry.redb` in the data directory, beside the ledger.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redb::{Database, ReadableDatabase, TableDefinition};

use super::{Registry, RegistryError, RegistryFuture};
use crate::ledger::Millis;

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
        Self::open_with(folder, system_clock)
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

fn broken(why: &str) -> RegistryError {
    RegistryError::Unusable(format!("registry.redb in the data directory cannot be used: {why}"))
}

fn system_clock() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}
