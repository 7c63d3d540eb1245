//! What became of a hook's events, as counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one hook since the broker started; a reload does not reset them.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) delivered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) held_back: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// The counters at an instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HookCounts {
    /// Events told.
    pub delivered: u64,
    /// Events given up after every attempt failed.
    pub failed: u64,
    /// Events not told because of the cooldown.
    pub held_back: u64,
    /// Events not told because the queue was full, or they had waited in it for too long.
    pub dropped: u64,
}

impl Counts {
    pub(super) fn view(&self) -> HookCounts {
        HookCounts {
            delivered: self.delivered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            held_back: self.held_back.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
