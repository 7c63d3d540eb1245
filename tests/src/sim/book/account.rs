//! An account of the book: its limits and what counts against them.

use std::collections::{BTreeMap, VecDeque};

use keybroker::ledger::{Dimension, Millis, Mode, Span, UNLIMITED};

/// What is known of one account.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) generation: i64,
    pub(super) mode: Mode,
    pub(super) windows: BTreeMap<(Dimension, Span), Limit>,
    /// Nothing may be granted before.
    pub(super) blocked_until: Millis,
    /// Whether one lease goes out alone.
    pub(super) probing: bool,
    /// That lease.
    pub(super) probe: Option<usize>,
}

/// A limit, what counts against it, and what arrived.
#[derive(Debug, Default)]
pub(super) struct Limit {
    pub(super) configured: i64,
    pub(super) learned: Option<i64>,
    /// Amounts by when they end.
    sums: BTreeMap<Millis, i64>,
    arrivals: VecDeque<Arrival>,
}

#[derive(Debug)]
struct Arrival {
    at: Millis,
    /// The lease by the order of grants.
    lease: usize,
    amount: i64,
    limit: i64,
}

impl Limit {
    /// One that only counts.
    pub(super) fn unlimited() -> Self {
        Self { configured: UNLIMITED, ..Self::default() }
    }

    /// The limit that holds.
    pub(super) fn limit(&self) -> i64 {
        self.learned.map_or(self.configured, |learned| learned.min(self.configured))
    }

    pub(super) fn change(&mut self, end: Millis, by: i64) {
        if by != 0 {
            *self.sums.entry(end).or_default() += by;
        }
    }

    pub(super) fn forget(&mut self, now: Millis) {
        while let Some(first) = self.sums.first_entry().filter(|first| *first.key() <= now) {
            first.remove();
        }
    }

    pub(super) fn used(&self, now: Millis) -> i64 {
        self.sums.range(now + 1..).map(|(_, amount)| amount).sum()
    }

    /// Counts an arrival; the sum and the limit, if the window that ends with it is over.
    ///
    /// A window is held to the limit of its lease that was granted last: a limit that was lowered later did not hold
    /// for those before.
    pub(super) fn arrive(
        &mut self,
        at: Millis,
        length: i64,
        lease: usize,
        amount: i64,
        limit: i64,
    ) -> Option<(i64, i64)> {
        while self.arrivals.front().is_some_and(|first| first.at + length <= at) {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(Arrival { at, lease, amount, limit });
        let sum: i64 = self.arrivals.iter().map(|arrival| arrival.amount).sum();
        let last = self.arrivals.iter().max_by_key(|arrival| arrival.lease)?;
        (sum > last.limit).then_some((sum, last.limit))
    }
}
