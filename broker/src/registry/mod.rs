//! The registry: what a fleet of brokers shares beside the ledger's counts.
//!
//! It holds what was decided at run time (keys, pools, disabled and draining keys), what was
//! learned (model aliases), the record of every change, and claims, by which exactly one broker of
//! the fleet does something. Two implementations give the same answers: [`redis`], shared by any
//! number of brokers, and [`embedded`], for one.
//!
//! Whoever changes it decides by a [`Snapshot`], and the change is made only if the registry still
//! stands at that snapshot's version: rules between entries (an id is given once, a project is in one
//! pool) hold however many brokers change it at once.

pub mod audit;
pub mod change;
pub mod embedded;
pub mod entry;
pub mod redis;
pub mod seal;
pub mod snapshot;

use std::{future::Future, pin::Pin, time::Duration};

pub use audit::{AuditId, AuditRecord};
pub use change::{Action, Change, Changed, Edit, Who};
pub use entry::{Entry, EntryName, Mark, MarkState, RunTimeKey, RunTimePool, WrittenRule};
pub use snapshot::{Snapshot, Stored, Version};

/// How long a record of a change is kept, in milliseconds: 400 days.
pub const KEEP_RECORDS: i64 = 400 * 24 * 3600 * 1000;
/// How many records of changes are kept; the oldest go first.
pub const MOST_RECORDS: u64 = 100_000;

/// A future that a [`Registry`] returns.
pub type RegistryFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'a>>;

/// The seam between a broker and what its fleet shares, in domain verbs.
pub trait Registry: Send + Sync + 'static {
    /// All entries, or nothing if they still stand at the version that is known. It costs one short
    /// call, so every broker can ask twice a second.
    fn snapshot<'a>(&'a self, known: Option<&'a Version>) -> RegistryFuture<'a, Option<Snapshot>>;

    /// Makes a change in one atomic step: entries, version and audit records, or none of it if the
    /// registry stands at another version than the change was decided by.
    fn change<'a>(&'a self, change: &'a Change, who: &'a Who) -> RegistryFuture<'a, Changed>;

    /// Records of changes, the newest first: at most `most`, and only older ones than `before`.
    fn audit<'a>(&'a self, before: Option<AuditId>, most: usize) -> RegistryFuture<'a, Vec<AuditRecord>>;

    /// True for exactly one caller of the fleet until `span` has passed; false for all others.
    ///
    /// A claim is not given back: whoever has it, has it for the whole span, also if its process
    /// ends. Leader duty is a claim that is made again and again.
    fn claim<'a>(&'a self, name: &'a str, span: Duration) -> RegistryFuture<'a, bool>;

    /// Remembers which quota model Google counts a model under. What is known already changes nothing.
    fn learn_alias<'a>(&'a self, model: &'a str, quota_model: &'a str) -> RegistryFuture<'a, ()> {
        Box::pin(async move {
            let change = Change { decided_at: None, edits: vec![Edit::learn_alias(model, quota_model)] };
            self.change(&change, &Who::broker()).await?;
            Ok(())
        })
    }
}

/// Why the registry did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, or did not answer in time; a change may or may not have been made.
    #[error("the registry cannot be reached: {0}")]
    Unavailable(String),
    /// It cannot be used as it is: a locked or damaged file, or rows that another program wrote.
    #[error("{0}")]
    Unusable(String),
}
