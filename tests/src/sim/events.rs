//! What is to happen, in order: by instant, and at one instant as it was planned.

use std::collections::BTreeMap;

use keybroker::ledger::{Amounts, Batch, Millis, Reply};

use super::{broker::Question, google::Told};

/// What a worker's task is told by a broker.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// A lease.
    Granted(Grant),
    /// None before so many milliseconds; none at all if they are not known.
    Refused { wait: Option<i64>, why: String },
    /// What came of a report: the advice as the ledger keeps it.
    Advice { memo: String },
    /// The new time to live, if the lease was renewed.
    Renewed(Option<i64>),
    /// No answer from the ledger, or nobody there.
    Failed,
}

/// A lease as a worker gets it.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) unique: String,
    pub(super) shard: String,
    pub(super) key: String,
    /// From the sending of the question on.
    pub(super) send_within: i64,
    pub(super) expires_in: i64,
}

/// Something to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A message reaches a broker.
    Reaches { broker: usize, question: Question },
    /// An answer reaches a task.
    Answers { task: usize, life: u32, call: u64, answer: Answer },
    /// A task stops waiting for an answer.
    TimesOut { task: usize, life: u32, call: u64 },
    /// A call reaches the ledger.
    Calls { broker: usize, life: u32, flight: u64, batch: Box<Batch>, pool: usize },
    /// Its reply reaches the broker.
    Replies { broker: usize, life: u32, pool: usize, flight: u64, reply: Box<Reply> },
    /// A broker stops waiting for the ledger.
    LedgerTimesOut { broker: usize, life: u32, pool: usize, flight: u64 },
    /// A line of a broker may ask again.
    LineWakes { broker: usize, life: u32, pool: usize, model: usize },
    /// A waiter's time is over.
    WaitEnds { broker: usize, life: u32, pool: usize, model: usize, call: u64 },
    /// A task does what comes next.
    Acts { task: usize, life: u32, turn: u32 },
    /// A request reaches Google.
    Arrives(usize),
    /// Google's answer, or the lack of it, reaches a task.
    Hears { task: usize, life: u32, sending: usize, told: Told },
    /// A lease is to be renewed.
    Renews { task: usize, life: u32, sending: usize },
    /// A task reports once more what it has reported.
    Repeats { sending: usize },
    /// A broker dies.
    BrokerDies(usize),
    /// A broker is back.
    BrokerReturns(usize),
    /// A worker dies with all it holds.
    WorkerDies(usize),
    /// A worker is back.
    WorkerReturns(usize),
    /// Somebody else uses a project's quota.
    Outside { quota: usize, amounts: Amounts },
    /// The file of limits changes.
    FileChanges(usize),
    /// A broker reads it.
    Reloads(usize),
    /// The ledger's clock is set back.
    ClockSetBack(i64),
    /// No more trouble from here on.
    Calms,
}

/// All that is to happen.
#[derive(Debug, Default)]
pub(super) struct Events {
    planned: BTreeMap<(Millis, u64), Box<Event>>,
    next: u64,
}

impl Events {
    pub(super) fn plan(&mut self, at: Millis, event: Event) {
        self.planned.insert((at, self.next), Box::new(event));
        self.next += 1;
    }

    pub(super) fn pop(&mut self) -> Option<(Millis, Event)> {
        self.planned.pop_first().map(|((at, _), event)| (at, *event))
    }
}
