//! What a broker did for a pool since it started.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

/// Counters of a pool.
#[derive(Debug, Default)]
pub struct Stats {
    granted: AtomicI64,
    refused: AtomicI64,
    settled: AtomicI64,
    waiting: AtomicI64,
}

/// The counters at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsView {
    /// Leases handed out.
    pub granted: i64,
    /// Acquires refused.
    pub refused: i64,
    /// Leases settled.
    pub settled: i64,
    /// Acquires that are waiting now.
    pub waiting: i64,
}

impl Stats {
    pub(super) fn granted(&self) {
        self.granted.fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn settled(&self) {
        self.settled.fetch_add(1, Relaxed);
    }

    /// Counts one who waits, until the guard is dropped.
    pub(super) fn waiting(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Relaxed);
        Waiting(self.clone())
    }

    /// The counters now.
    pub fn view(&self) -> StatsView {
        StatsView {
            granted: self.granted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            settled: self.settled.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
        }
    }
}

pub(super) struct Waiting(Arc<Stats>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}
