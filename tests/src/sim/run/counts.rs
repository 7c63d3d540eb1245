//! What is counted of a run.

use keybroker::ledger::Millis;

/// What happened, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Leases that reached a task.
    pub leases: usize,
    /// Leases that the ledger granted.
    pub granted: usize,
    /// Those that were reported.
    pub settled: usize,
    /// Requests that were brought to an end.
    pub finished: usize,
    /// Calls to the ledger and operations in them.
    pub calls: u64,
    /// See `calls`.
    pub operations: u64,
    /// Refusals whose instant was checked.
    pub checked_refusals: usize,
    /// The longest that anybody waited for a lease, in milliseconds.
    pub longest_wait: Millis,
    /// Quotas of which was seen how much of them is used.
    pub utilisations: usize,
}

impl Counts {
    /// Adds those of another run; of waits, the longest is kept.
    pub fn add(&mut self, other: &Self) {
        self.leases += other.leases;
        self.granted += other.granted;
        self.settled += other.settled;
        self.finished += other.finished;
        self.calls += other.calls;
        self.operations += other.operations;
        self.checked_refusals += other.checked_refusals;
        self.longest_wait = self.longest_wait.max(other.longest_wait);
        self.utilisations += other.utilisations;
    }
}

/// How many want a lease of a pool for a model.
#[derive(Debug, Default)]
pub(in crate::sim) struct Demand {
    now: i64,
    since: Millis,
    /// For how long nobody did, after the first did.
    dry: Millis,
}

impl Demand {
    pub(in crate::sim) fn change(&mut self, at: Millis, by: i64) {
        if self.now == 0 && self.since > 0 {
            self.dry += at - self.since;
        }
        self.now += by;
        self.since = at;
    }

    pub(super) fn dry_until(&self, at: Millis) -> Millis {
        if self.since == 0 {
            return Millis::MAX;
        }
        self.dry + if self.now == 0 { at - self.since } else { 0 }
    }
}
