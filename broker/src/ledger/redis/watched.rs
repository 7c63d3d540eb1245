//! What this broker knows of one pool's ledger: whether it may be asked for leases, and what it did of late.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::AbortHandle};

use super::{journal::Journal, windows::Windows};
use crate::ledger::{
    Batch, LedgerError, Millis, Reply, ShardSpec,
    calendar::Calendar,
    steady::{CLOCK_MARGIN, Steadiness},
};

/// When to ask again a ledger that holds back, if nothing better is known.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// What this broker knows of one pool's ledger.
pub(super) struct Watched {
    pub(super) pool: String,
    /// Wakes the task that watches over it.
    pub(super) wake: Notify,
    state: Mutex<State>,
    pub(super) task: Mutex<Option<AbortHandle>>,
}

struct State {
    ledger_id: String,
    standing: Standing,
    acks: i64,
    journal: Journal,
    windows: Windows,
    steadiness: Steadiness,
    // Since when this broker has seen everything, and the latest instant it has seen; 0 before it saw any.
    watched_from: Millis,
    last_seen: Millis,
    // Other brokers, and when they were last heard of.
    brokers: HashMap<String, Millis>,
}

/// Whether leases may be asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Standing {
    /// They may.
    Well,
    /// The server is another one, and not blessed yet.
    Recovering {
        /// When it will be at the latest, if that is known.
        until: Option<Instant>,
    },
    /// Fewer replicas acknowledge than have to.
    Short {
        /// How many have to.
        acks: i64,
        /// How many did.
        acknowledged: i64,
    },
    /// The server's clock jumped ahead by so many milliseconds: what was counted before seems to have ended.
    Jumped {
        /// By so many milliseconds.
        by: i64,
        /// When all that was counted has ended by this process's own clock.
        until: Instant,
    },
}

/// What a recovery is told by this broker.
pub(super) struct Memory {
    pub(super) ledger_id: String,
    pub(super) watched_from: Millis,
    pub(super) last_seen: Millis,
    pub(super) cut: Millis,
    pub(super) trailing: i64,
    pub(super) calendar: Millis,
    pub(super) brokers: Vec<(String, Millis)>,
}

impl Watched {
    pub(super) fn new(pool: &str, ledger_id: &str) -> Self {
        Self {
            pool: pool.to_owned(),
            wake: Notify::new(),
            state: Mutex::new(State {
                ledger_id: ledger_id.to_owned(),
                standing: Standing::Well,
                acks: 0,
                journal: Journal::default(),
                windows: Windows::default(),
                steadiness: Steadiness::default(),
                watched_from: 0,
                last_seen: 0,
                brokers: HashMap::new(),
            }),
            task: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// The identity that the pool's ledger was opened with.
    pub(super) fn ledger_id(&self) -> String {
        self.state().ledger_id.clone()
    }

    /// Takes the identity of a ledger that was opened anew.
    pub(super) fn opened(&self, ledger_id: &str) {
        self.state().ledger_id = ledger_id.to_owned();
    }

    /// Takes in the limits of a shard.
    pub(super) fn learn(&self, spec: &ShardSpec) {
        let mut state = self.state();
        spec.accounts.iter().flat_map(|account| &account.limits).for_each(|limit| state.windows.learn(limit));
    }

    /// How many replicas have to acknowledge, as far as is known.
    pub(super) fn acks(&self) -> i64 {
        self.state().acks
    }

    /// Whether leases may be asked for.
    pub(super) fn standing(&self) -> Standing {
        self.state().standing.clone()
    }

    /// Whether a batch may be asked for. After a jump of the clock reports may, and leases may not.
    pub(super) fn admit(&self, batch: &Batch) -> Result<(), LedgerError> {
        let state = self.state();
        match &state.standing {
            Standing::Well => Ok(()),
            Standing::Jumped { .. } if batch.acquires.is_empty() => Ok(()),
            standing => Err(standing.error()),
        }
    }

    /// Takes in that a batch was executed; an error if nothing of it may be handed out.
    pub(super) fn executed(
        &self,
        batch: &Batch,
        reply: &Reply,
        (acks, acknowledged): (i64, i64),
        (asked, answered): (Instant, Instant),
    ) -> Result<(), LedgerError> {
        let mut state = self.state();
        state.acks = acks;
        if acknowledged < acks {
            state.standing = Standing::Short { acks, acknowledged };
            self.wake.notify_one();
            return Err(state.standing.error());
        }
        state.windows.learn_batch(batch);
        if batch.clock == 0 {
            state.saw(reply.now);
            if let Some(by) = state.steadiness.observe(reply.now, asked, answered) {
                let until = answered + state.until_true_time(by, reply.now);
                state.standing = Standing::Jumped { by, until };
                self.wake.notify_one();
                tracing::error!(
                    pool = self.pool,
                    milliseconds = by,
                    "the clock of Redis jumped ahead: nothing is leased until all that was counted has truly ended"
                );
            }
        }
        state.journal.record(batch, reply);
        match &state.standing {
            Standing::Well => Ok(()),
            _ if batch.acquires.is_empty() => Ok(()),
            standing => Err(standing.error()),
        }
    }

    /// Takes in that a batch failed.
    pub(super) fn failed(&self, error: LedgerError) -> LedgerError {
        match error {
            LedgerError::Holding { .. } => self.set_standing(Standing::Recovering { until: None }),
            LedgerError::Unavailable(_) | LedgerError::Changed { .. } => {}
            _ => return error,
        }
        self.wake.notify_one();
        error
    }

    /// Sets the standing.
    pub(super) fn set_standing(&self, standing: Standing) {
        self.state().standing = standing;
    }

    /// Takes in a beat: the ledger's clock, how many replicas have to acknowledge, and which brokers there are.
    pub(super) fn beaten(&self, now: Millis, acks: i64, brokers: Vec<(String, Millis)>) {
        let mut state = self.state();
        state.acks = acks;
        state.saw(now);
        state.brokers.extend(brokers);
        let oldest = now - super::keyspace::BROKER_LIFETIME;
        state.brokers.retain(|_, heard| *heard >= oldest);
    }

    /// What a recovery is told.
    pub(super) fn memory(&self, calendar: &Calendar) -> Memory {
        let state = self.state();
        Memory {
            ledger_id: state.ledger_id.clone(),
            // Who has seen nothing yet cannot tell what was before.
            watched_from: if state.watched_from == 0 { Millis::MAX >> 10 } else { state.watched_from },
            last_seen: state.last_seen,
            cut: state.journal.cut(),
            trailing: state.windows.trailing(),
            calendar: state.windows.calendar(state.last_seen, calendar),
            brokers: state.brokers.iter().map(|(broker, heard)| (broker.clone(), *heard)).collect(),
        }
    }

    /// What was done from an instant on.
    pub(super) fn journal_since(&self, from: Millis, most: usize) -> Vec<super::journal::Piece> {
        self.state().journal.since(from, most)
    }
}

impl State {
    fn saw(&mut self, now: Millis) {
        if self.watched_from == 0 {
            self.watched_from = now;
        }
        self.last_seen = now;
    }

    /// How long it takes until what was counted before a jump of the clock has truly ended.
    fn until_true_time(&self, by: i64, now: Millis) -> Duration {
        let calendar = Calendar::around(now);
        let before = now - by;
        // A day that only the jump ended goes on.
        let ends = [
            self.windows.trailing(),
            if calendar.day_end(before) <= now { calendar.day_end(before) - before } else { 0 },
        ];
        let longest = ends.into_iter().max().unwrap_or(0) + CLOCK_MARGIN;
        Duration::from_millis(longest.max(0).unsigned_abs())
    }
}

impl Standing {
    fn error(&self) -> LedgerError {
        let from_now = |until: &Instant| until.saturating_duration_since(Instant::now());
        match self {
            Self::Well => holding("it was well a moment ago".to_owned(), SOON),
            Self::Recovering { until: None } => holding(
                "Redis was restarted, or a replica was promoted: what it lacks is put back first".to_owned(),
                SOON,
            ),
            Self::Recovering { until: Some(until) } => {
                let left = from_now(until);
                let why = format!(
                    "Redis came back without leases that were handed out: their windows end in at most {left:.0?}"
                );
                holding(why, left.max(SOON))
            }
            Self::Short { acks, acknowledged } => LedgerError::Unavailable(format!(
                "{acknowledged} of {acks} replicas of Redis acknowledge; nothing is handed out that a failover could forget"
            )),
            Self::Jumped { by, until } => {
                let left = from_now(until);
                holding(
                    format!("the clock of Redis jumped ahead by {by} ms; leases go on in {left:.0?}"),
                    left,
                )
            }
        }
    }
}

fn holding(why: String, retry_after: Duration) -> LedgerError {
    LedgerError::Holding { why, retry_after }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().expect("no holder of this lock panics").take() {
            task.abort();
        }
    }
}
