//! What a pool's leases and refusals tell of it, as events.
//!
//! A [`Watch`] is told of settles, refusals and failures of the ledger; each call only queues and returns.
//! A monitor beside it asks the ledger for the accounts concerned, at most once a second and only while
//! something has happened or is cooling down, and emits events. What is told of one settle is decided by
//! pure functions (`findings`); so is which keys are able to serve (`standing`) and which cooldowns
//! have ended (`cooling`).

mod alarm;
mod cooling;
mod findings;
mod monitor;
mod reader;
mod standing;
mod subjects;
mod told;

#[cfg(test)]
mod tests;

use std::{sync::Arc, sync::Mutex, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use crate::{
    catalogue,
    claims::FleetTurns,
    events::{Event, EventKind, Events, Redacted, Redactor, Subject},
    gemini::Decision,
    ledger::{Ledger, LedgerError, Millis},
};
use monitor::Monitor;
pub use reader::ReadAccounts;

/// How many settles and refusals may wait for the monitor.
const LONGEST_QUEUE: usize = 1024;
/// A failure of the ledger this long after the last one is news again.
const EPISODE: Duration = Duration::from_secs(60);

/// What the monitor is told.
#[derive(Debug)]
enum Happened {
    /// A lease was settled with an answer that says something about its accounts.
    Settled(Settled),
    /// A lease for this quota model was refused.
    Refused(String),
}

/// A lease that was settled, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The key's id.
    pub key_id: String,
    /// The quota model.
    pub quota_model: String,
    /// What the ledger remembered of the request.
    pub note: super::note::Note,
    /// What the answer meant.
    pub decision: Decision,
    /// Whether the ledger learned a limit by it that it did not know.
    pub learned_news: bool,
    /// The ledger's clock.
    pub at: Millis,
}

/// Watches a pool. Dropping it ends the monitor.
pub struct Watch {
    queue: mpsc::Sender<Happened>,
    events: Events,
    redactor: Redactor,
    pool: String,
    failed: Mutex<Option<Instant>>,
}

impl Watch {
    /// Starts the monitor of a pool.
    pub fn start(pool: catalogue::Pool, ledger: Arc<dyn Ledger>, events: Events, turns: FleetTurns) -> Self {
        Self::start_reading(pool, Arc::new(ledger), events, turns)
    }

    fn start_reading(
        pool: catalogue::Pool,
        reader: Arc<dyn ReadAccounts>,
        events: Events,
        turns: FleetTurns,
    ) -> Self {
        let keys = pool.projects.iter().flat_map(|project| &project.keys);
        let redactor = Redactor::new(keys.map(|key| key.secret.clone()));
        let (queue, happened) = mpsc::channel(LONGEST_QUEUE);
        let name = pool.name.clone();
        let monitor = Monitor::new(pool, reader, events.clone(), turns, redactor.clone());
        tokio::spawn(monitor.run(happened));
        Self { queue, events, redactor, pool: name, failed: Mutex::default() }
    }

    /// A text of whoever calls, without what may be a key.
    pub fn redacted(&self, text: &str) -> Redacted {
        self.redactor.text(text)
    }

    /// Takes in a lease that was settled, in time or late. `make` is called only for an answer that
    /// says something about the lease's accounts. It never waits.
    pub fn settled(&self, decision: &Decision, make: impl FnOnce() -> Settled) {
        if !decision.blocks.is_empty() || !decision.learned.is_empty() {
            self.happened(Happened::Settled(make()));
        }
    }

    /// Takes in that a lease for a quota model was refused. It never waits.
    pub fn refused(&self, quota_model: &str) {
        self.happened(Happened::Refused(quota_model.to_owned()));
    }

    /// Takes in that the ledger gave no answer: the first failure of an episode is told. An episode ends
    /// when nothing failed for a minute.
    pub fn ledger_failed(&self, error: &LedgerError) {
        let now = Instant::now();
        let last = self.failed.lock().expect("no holder of this lock panics").replace(now);
        if last.is_some_and(|last| now - last < EPISODE) {
            return;
        }
        let subject = Subject { pool: self.redactor.text(&self.pool), ..Subject::default() };
        let reason = self.redactor.text(error.name());
        // The ledger's clock cannot be had.
        let at = jiff::Timestamp::now().as_millisecond();
        self.events.emit(Event { reason, ..Event::new(EventKind::LedgerUnavailable, at, subject) });
    }

    fn happened(&self, happened: Happened) {
        // A monitor that is so far behind has enough to tell; what happens again is told then.
        if self.queue.try_send(happened).is_err() {
            tracing::debug!(pool = self.pool, "the monitor of a pool is behind; an observation is left out");
        }
    }
}
