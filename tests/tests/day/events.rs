//! What is to happen, in the order of instants; at one instant in the order in which it was planned.

use std::{cmp::Reverse, collections::BinaryHeap};

/// What happens. Lanes, leases and the like are told by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A source's next request comes.
    Comes(usize),
    /// The instant comes that a lane's refusal named.
    AsksAgain(usize),
    /// The first request of a lane may have waited too long.
    GivesUp(usize),
    /// A request is sent again after a while.
    ComesBack(usize),
    /// A lease's request reaches Google.
    Reaches(usize),
    /// A lease is reported.
    Reports(usize),
    /// A lease is extended, because its request still runs.
    Renews(usize),
    /// Somebody else uses a project's quota.
    Outside(usize),
    /// The ledger's gauges are compared with what is in flight.
    Gauges,
}

/// The plan.
#[derive(Debug, Default)]
pub(crate) struct Events {
    heap: BinaryHeap<Reverse<(i64, u64, Event)>>,
    planned: u64,
}

impl Events {
    pub(crate) fn plan(&mut self, at: i64, event: Event) {
        self.planned += 1;
        self.heap.push(Reverse((at, self.planned, event)));
    }

    /// The instant of what comes next.
    pub(crate) fn next_at(&self) -> Option<i64> {
        self.heap.peek().map(|next| next.0.0)
    }

    /// What comes next, if it comes by then.
    pub(crate) fn next_by(&mut self, at: i64) -> Option<Event> {
        self.next_at().filter(|next| *next <= at)?;
        self.heap.pop().map(|next| next.0.2)
    }
}
