//! The ledger: accounts with windows and a block, candidates in order, and leases.
//!
//! It knows nothing of Gemini. Two implementations give the same answers to the same operations:
//! [`kernel`] (plain Rust, made durable by [`embedded`]) and [`redis`] (Lua scripts).

pub mod account;
pub(crate) mod batch;
pub mod calendar;
pub mod embedded;
pub mod kernel;
pub mod redis;
pub mod shard;
pub mod steady;
#[cfg(test)]
mod tests;
pub mod types;
pub mod window;
mod windows;

use std::{future::Future, pin::Pin, time::Duration};

pub use batch::Batch;
pub use types::*;

/// A future that a [`Ledger`] returns.
pub type LedgerFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, LedgerError>> + Send + 'a>>;

/// Whether a ledger hands out leases, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerState {
    /// It does.
    Open,
    /// The server was restarted or replaced: what it lacks is put back, or waited for.
    Recovering,
    /// Fewer replicas acknowledge than have to.
    ShortOfReplicas,
    /// Its clock jumped ahead: all that was counted has to end first.
    ClockJumped,
    /// It does not answer.
    Unreachable,
}

impl LedgerState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Open, Self::Recovering, Self::ShortOfReplicas, Self::ClockJumped, Self::Unreachable];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Recovering => "recovering",
            Self::ShortOfReplicas => "short_of_replicas",
            Self::ClockJumped => "clock_jumped",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The seam between the broker and the place where quota is counted, in domain verbs.
pub trait Ledger: Send + Sync + 'static {
    /// Makes sure that the pool's ledger exists and that `digest` is its current catalogue.
    fn open<'a>(&'a self, pool: &'a str, digest: &'a str) -> LedgerFuture<'a, Opened>;

    /// Says what leases of a pool may count in, before it is opened: for so long a ledger that lost what was counted, or
    /// whose clock jumped, holds leases back.
    fn foresee(&self, _pool: &str, _horizon: &Horizon) {}

    /// Writes the candidates of one quota model and the limits of their accounts. Counts stay.
    fn apply<'a>(&'a self, pool: &'a str, ledger_id: &'a str, spec: &'a ShardSpec) -> LedgerFuture<'a, ()>;

    /// Runs a batch as one atomic step: settles, then renewals, then acquires.
    fn execute<'a>(&'a self, pool: &'a str, batch: &'a Batch) -> LedgerFuture<'a, Reply>;

    /// Reads accounts as they stand, with the ledger's clock.
    fn inspect<'a>(&'a self, pool: &'a str, accounts: &'a [String]) -> LedgerFuture<'a, Inspection>;

    /// What was used on the Pacific days that end then.
    fn usage<'a>(&'a self, pool: &'a str, day_ends: &'a [Millis]) -> LedgerFuture<'a, Vec<UsageRow>>;

    /// How many leases of a key that were granted before an instant are neither settled nor expired, under whatever
    /// catalogue they were granted. It looks at every lease of the pool, so it is asked for keys that are being drained
    /// or rotated alone.
    fn held<'a>(&'a self, pool: &'a str, key_id: &'a str, granted_before: Millis) -> LedgerFuture<'a, usize>;

    /// Whether the ledger answers, for the readiness probe.
    fn ping(&self) -> LedgerFuture<'_, ()>;

    /// Whether it hands out leases of a pool, as far as this broker knows without asking.
    fn state(&self, _pool: &str) -> LedgerState {
        LedgerState::Open
    }

    /// Says that neither days and months whose counts are lost, nor replicas that are gone, are waited for any more;
    /// whether anything waited.
    fn accept_loss<'a>(&'a self, _pool: &'a str) -> LedgerFuture<'a, bool> {
        Box::pin(async { Ok(false) })
    }

    /// Says that this broker ends in order: every lease it granted is in the ledger.
    fn leave(&self) -> LedgerFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl LedgerError {
    /// Its name in metrics, traces and events.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Changed { .. } => "changed",
            Self::Holding { .. } => "holding",
            Self::Clock => "clock",
            Self::Unusable(_) => "unusable",
        }
    }
}

/// Why the ledger did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be reached, or did not answer in time; a batch may or may not have run.
    #[error("the ledger cannot be reached: {0}")]
    Unavailable(String),
    /// It is not the ledger this broker opened: its state is not known.
    #[error("the ledger is not the one this broker opened (expected {expected}, found {found})")]
    Changed {
        /// The identity the broker opened.
        expected: String,
        /// What stands there now.
        found: String,
    },
    /// Nothing is granted for now, because what was granted before could be spent again.
    #[error("the ledger holds back: {why}")]
    Holding {
        /// Why.
        why: String,
        /// When to ask again.
        retry_after: Duration,
    },
    /// The ledger's clock lies outside of the calendar that the broker sent: one clock is days off.
    #[error("the ledger's clock and this broker's are more than a day apart")]
    Clock,
    /// It cannot be used as it is: version, password, memory policy, a locked data directory.
    #[error("{0}")]
    Unusable(String),
}
