//! What this broker knows of one pool's ledger: whether it may be asked for leases, and what it did of late.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::AbortHandle};

use super::{
    HAS_LEFT,
    journal::{Journal, Piece},
};
use crate::ledger::{
    Batch, FOREVER, Horizon, LedgerError, LedgerState, Millis, Reply, ShardSpec,
    calendar::Calendar,
    steady::{ClockWatch, told},
};

/// When to ask again a ledger that holds back, if nothing better is known.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Longer than windows of minutes are waited for.
const LONG: Duration = Duration::from_secs(15 * 60);

/// What this broker knows of one pool's ledger.
pub(super) struct Watched {
    pub(super) pool: String,
    /// Wakes the task that watches over it.
    pub(super) wake: Notify,
    state: Mutex<State>,
    pub(super) task: Mutex<Option<AbortHandle>>,
}

struct State {
    catalogue: Catalogue,
    standing: Standing,
    acks: i64,
    journal: Journal,
    clock: ClockWatch,
    // What was applied of the current catalogue, and of older ones under which leases were granted of late.
    shards: HashMap<String, Arc<ShardSpec>>,
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
}

/// What a pool's ledger was opened for.
#[derive(Debug, Clone)]
pub(super) struct Catalogue {
    /// The identity of the ledger.
    pub(super) ledger_id: String,
    /// The catalogue's digest.
    pub(super) digest: String,
    /// The catalogue's generation.
    pub(super) generation: i64,
}

/// What a recovery is told by this broker.
pub(super) struct Memory {
    pub(super) catalogue: Catalogue,
    pub(super) watched_from: Millis,
    pub(super) last_seen: Millis,
    pub(super) cut: Millis,
    pub(super) trailing: i64,
    pub(super) calendar: Millis,
    pub(super) calendar_from: Millis,
    pub(super) brokers: Vec<(String, Millis)>,
}

impl Watched {
    /// Watches over a ledger that was opened just now; `made` if this broker has made it, so that nothing was ever
    /// granted before.
    pub(super) fn new(pool: &str, catalogue: Catalogue, made: bool) -> Self {
        Self {
            pool: pool.to_owned(),
            wake: Notify::new(),
            state: Mutex::new(State {
                catalogue,
                standing: Standing::Well,
                acks: 0,
                journal: Journal::default(),
                clock: ClockWatch::default(),
                shards: HashMap::new(),
                watched_from: i64::from(made),
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
        self.state().catalogue.ledger_id.clone()
    }

    /// What it was opened for.
    pub(super) fn catalogue(&self) -> Catalogue {
        self.state().catalogue.clone()
    }

    /// Takes in that the ledger was opened for another catalogue.
    pub(super) fn opened(&self, catalogue: Catalogue) {
        self.state().catalogue = catalogue;
    }

    /// Takes in what leases may count in.
    pub(super) fn foresee(&self, horizon: &Horizon) {
        self.state().clock.windows.foresee(horizon);
    }

    /// Takes in what is applied to the ledger.
    pub(super) fn learn(&self, spec: &ShardSpec) {
        let mut state = self.state();
        state.clock.windows.learn_shard(spec);
        if !state.shards.contains_key(&spec.shard) {
            let State { shards, journal, .. } = &mut *state;
            let remembered = journal.shards();
            shards
                .retain(|name, old| old.generation >= spec.generation || remembered.contains(name.as_str()));
        }
        state.shards.insert(spec.shard.clone(), Arc::new(spec.clone()));
    }

    /// What was applied, older catalogues first.
    pub(super) fn shards(&self) -> Vec<Arc<ShardSpec>> {
        let mut shards: Vec<_> = self.state().shards.values().cloned().collect();
        shards.sort_by_key(|spec| spec.generation);
        shards
    }

    /// How many replicas have to acknowledge, as far as is known.
    pub(super) fn acks(&self) -> i64 {
        self.state().acks
    }

    /// Whether leases may be asked for.
    pub(super) fn standing(&self) -> Standing {
        self.state().standing.clone()
    }

    /// The same in the words of every ledger.
    pub(super) fn ledger_state(&self) -> LedgerState {
        let state = self.state();
        match state.standing {
            Standing::Well if state.clock.held_back().is_some() => LedgerState::ClockJumped,
            Standing::Well => LedgerState::Open,
            Standing::Recovering { .. } => LedgerState::Recovering,
            Standing::Short { .. } => LedgerState::ShortOfReplicas,
        }
    }

    /// Whether a batch may be asked for.
    pub(super) fn admit(&self, batch: &Batch) -> Result<(), LedgerError> {
        let state = self.state();
        match &state.standing {
            Standing::Well => state.clock.admit(batch),
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
        state.clock.windows.learn_batch(batch);
        if batch.clock == 0 {
            state.saw(reply.now);
            state.clock.observe(&self.pool, reply.now, asked, answered);
        }
        state.journal.record(batch, reply);
        match &state.standing {
            Standing::Well => state.clock.admit(batch),
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
    pub(super) fn beaten(
        &self,
        now: Millis,
        acks: i64,
        brokers: Vec<(String, Millis)>,
        (asked, answered): (Instant, Instant),
    ) {
        let mut state = self.state();
        state.acks = acks;
        state.saw(now);
        state.clock.observe(&self.pool, now, asked, answered);
        for (broker, heard) in brokers {
            // One that has left does nothing any more under its own name.
            if let Some(left) = broker.strip_prefix(HAS_LEFT) {
                state.brokers.remove(left);
            }
            state.brokers.insert(broker, heard);
        }
        let oldest = now - super::keyspace::BROKER_LIFETIME;
        state.brokers.retain(|_, heard| *heard >= oldest);
    }

    /// What a recovery is told.
    pub(super) fn memory(&self, calendar: &Calendar) -> Memory {
        let state = self.state();
        Memory {
            catalogue: state.catalogue.clone(),
            // Who has seen nothing yet cannot tell what was before.
            watched_from: if state.watched_from == 0 { FOREVER } else { state.watched_from },
            last_seen: state.last_seen,
            cut: state.journal.cut(),
            trailing: state.clock.windows.trailing(),
            calendar: state.clock.windows.calendar(state.last_seen, calendar),
            calendar_from: state.clock.windows.calendar_from(state.last_seen, calendar),
            brokers: state.brokers.iter().map(|(broker, heard)| (broker.clone(), *heard)).collect(),
        }
    }

    /// What was done from an instant on.
    pub(super) fn journal_since(&self, from: Millis, most: usize) -> Vec<Piece> {
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
}

impl Standing {
    fn error(&self) -> LedgerError {
        match self {
            Self::Well => holding("it was well a moment ago".to_owned(), SOON),
            Self::Recovering { until: None } => holding(
                "Redis was restarted, or a replica was promoted: what it lacks is put back first".to_owned(),
                SOON,
            ),
            Self::Recovering { until: Some(until) } => {
                let left = until.saturating_duration_since(Instant::now());
                let why = format!(
                    "Redis came back without leases that were handed out: their windows end in at most {}{}",
                    told(left),
                    if left > LONG { "; `keybroker accept-loss` goes on without them" } else { "" }
                );
                holding(why, left.max(SOON))
            }
            Self::Short { acks, acknowledged } => LedgerError::Unavailable(format!(
                "{acknowledged} of {acks} replicas of Redis acknowledge; nothing is handed out that a failover could forget"
            )),
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
