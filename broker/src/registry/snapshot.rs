//! All entries of the registry at one version.

use std::{collections::BTreeMap, fmt};

use super::{Entry, Mark, RunTimeKey, RunTimePool};
use crate::ledger::Millis;

/// Names a state of the registry: equal versions hold equal entries. It also names which registry
/// it is, so one that lost its data is not taken for an earlier state of the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version(pub(super) String);

/// An entry with what the registry knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The entry.
    pub value: T,
    /// It differs for every change of the entry.
    pub revision: u64,
    /// When it was made, by the registry's clock.
    pub created: Millis,
    /// When it was last changed, by the registry's clock.
    pub updated: Millis,
}

/// All entries of the registry at one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The version.
    pub version: Version,
    /// Keys given at run time, by id.
    pub keys: BTreeMap<String, Stored<RunTimeKey>>,
    /// Pools made at run time, by name.
    pub pools: BTreeMap<String, Stored<RunTimePool>>,
    /// Keys that are not to be leased, by id.
    pub marks: BTreeMap<String, Stored<Mark>>,
    /// Learned: the quota model of each model.
    pub aliases: BTreeMap<String, String>,
}

/// An entry as the store has it: name, revision, created, updated, body.
pub(super) type Row = (String, u64, Millis, Millis, String);

impl Snapshot {
    /// Reads the rows of a store. One that cannot be read is named in the log and left out: a newer
    /// version may have written it, and the others are still good.
    pub(super) fn of_rows(version: Version, rows: impl IntoIterator<Item = Row>) -> Self {
        let mut snapshot = Self { version, ..Self::default() };
        for (name, revision, created, updated, body) in rows {
            match Entry::read(&name, &body) {
                Ok(Some(Entry::Key(value))) => {
                    let id = value.id.clone();
                    snapshot.keys.insert(id, Stored { value, revision, created, updated });
                }
                Ok(Some(Entry::Pool(value))) => {
                    let name = value.name.clone();
                    snapshot.pools.insert(name, Stored { value, revision, created, updated });
                }
                Ok(Some(Entry::Mark(value))) => {
                    let id = value.key_id.clone();
                    snapshot.marks.insert(id, Stored { value, revision, created, updated });
                }
                Ok(Some(Entry::Alias(model, quota_model))) => {
                    snapshot.aliases.insert(model, quota_model);
                }
                Ok(None) => tracing::warn!(name, "the registry holds an entry of an unknown kind"),
                Err(error) => tracing::error!(name, %error, "an entry of the registry cannot be read"),
            }
        }
        snapshot
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
