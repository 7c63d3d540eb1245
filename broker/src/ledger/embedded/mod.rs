//! The ledger inside of the broker: the kernel in memory, durable through redb.

mod checkpoint;
mod file;
mod rows;
mod store;

use std::{collections::BTreeMap, path::Path, sync::Mutex, time::Instant};

pub use checkpoint::Checkpoints;
use checkpoint::{Checkpoint, Folding};
pub use file::Reach;
pub(crate) use file::in_use;
use opentelemetry::KeyValue;
use rows::{CandidateRow, PoolRow};
use store::{Store, StoredPool};

use super::{
    Batch, Horizon, Inspection, Ledger, LedgerError, LedgerFuture, LedgerState, Millis, Opened, Reply,
    ShardSpec, UsageRow,
    calendar::wall_clock,
    kernel::{Changes, Kernel},
    steady::ClockWatch,
};
use crate::calls;

/// A ledger in a data directory, for one broker.
pub struct EmbeddedLedger {
    state: Mutex<State>,
    clock: Box<dyn Fn() -> Millis + Send + Sync>,
}

struct State {
    store: Store,
    pools: BTreeMap<String, PoolState>,
    // Of pools that are not opened yet.
    foreseen: BTreeMap<String, Horizon>,
    checkpoint: Checkpoint,
    // Set when a commit failed: memory is then ahead of the file, and nothing may be handed out.
    broken: Option<String>,
}

struct PoolState {
    row: PoolRow,
    kernel: Kernel,
    // What changed since the last checkpoint began, and what of before the one underway has not folded yet.
    unfolded: Changes,
    folding: Folding,
    clock: ClockWatch,
}

impl EmbeddedLedger {
    /// Opens the ledger in a folder.
    ///
    /// # Errors
    /// If the folder cannot be written, is in use by another broker, or holds a damaged ledger.
    pub fn open(folder: &Path, reach: Reach) -> Result<Self, LedgerError> {
        Self::open_with(folder, reach, Checkpoints::default())
    }

    /// The same with checkpoints at other times and in other parts.
    ///
    /// # Errors
    /// As [`EmbeddedLedger::open`].
    pub fn open_with(folder: &Path, reach: Reach, checkpoints: Checkpoints) -> Result<Self, LedgerError> {
        let (store, stored) = Store::open(folder, reach)?;
        let restored = |(name, StoredPool { row, kernel, unfolded }): (String, StoredPool)| {
            let (folding, clock) = (Folding::default(), ClockWatch::default());
            (name, PoolState { row, kernel, unfolded, folding, clock })
        };
        let state = State {
            store,
            pools: stored.into_iter().map(restored).collect(),
            foreseen: BTreeMap::new(),
            checkpoint: Checkpoint::new(checkpoints),
            broken: None,
        };
        Ok(Self { state: Mutex::new(state), clock: Box::new(wall_clock) })
    }

    /// Reads another clock than the system's, for tests of clocks that are set.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> Millis + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), ..self }
    }

    fn with_state<T>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let mut state =
            self.state.lock().map_err(|_| LedgerError::Unusable("the ledger panicked".to_owned()))?;
        match &state.broken {
            Some(why) => Err(LedgerError::Unusable(why.clone())),
            None => work(&mut state),
        }
    }

    /// Reads accounts at an instant that a test drives.
    ///
    /// # Errors
    /// As [`Ledger::inspect`].
    pub fn inspect_at(
        &self,
        pool: &str,
        clock: Millis,
        accounts: &[String],
    ) -> Result<Inspection, LedgerError> {
        self.with_state(|state| {
            let kernel = &state.pool(pool)?.kernel;
            let accounts = accounts.iter().map(|id| kernel.account(id).cloned()).collect();
            Ok(Inspection { now: kernel.now.max(clock), accounts })
        })
    }
}

impl State {
    fn pool(&mut self, name: &str) -> Result<&mut PoolState, LedgerError> {
        self.pools
            .get_mut(name)
            .ok_or_else(|| LedgerError::Changed { expected: name.to_owned(), found: "none".to_owned() })
    }

    fn checked(&mut self, name: &str, ledger_id: &str) -> Result<&mut PoolState, LedgerError> {
        let pool = self.pool(name)?;
        if pool.row.ledger_id != ledger_id {
            return Err(LedgerError::Changed {
                expected: ledger_id.to_owned(),
                found: pool.row.ledger_id.clone(),
            });
        }
        Ok(pool)
    }

    fn kept<T>(&mut self, outcome: Result<T, redb::Error>) -> Result<T, LedgerError> {
        outcome.map_err(|error| {
            let why = format!("the data directory cannot be written: {error}; nothing more is granted");
            self.broken = Some(why.clone());
            LedgerError::Unusable(why)
        })
    }

    fn open(&mut self, name: &str, digest: &str) -> Result<Opened, LedgerError> {
        let pool = self.pools.entry(name.to_owned()).or_insert_with(|| PoolState {
            row: PoolRow { ledger_id: format!("{:016x}", rand::random::<u64>()), ..PoolRow::default() },
            kernel: Kernel::default(),
            unfolded: Changes::default(),
            folding: Folding::default(),
            clock: ClockWatch::default(),
        });
        if let Some(horizon) = self.foreseen.remove(name) {
            pool.clock.windows.foresee(&horizon);
        }
        if pool.row.digest != digest {
            pool.row.digest = digest.to_owned();
            pool.row.generation += 1;
        }
        let row = pool.row.clone();
        let outcome = self.store.record_pool(name, &row);
        self.kept(outcome)?;
        Ok(Opened { ledger_id: row.ledger_id, generation: row.generation })
    }

    fn apply(&mut self, name: &str, ledger_id: &str, spec: &ShardSpec) -> Result<(), LedgerError> {
        let pool = self.checked(name, ledger_id)?;
        pool.clock.windows.learn_shard(spec);
        pool.kernel.apply(spec);
        let changes = std::mem::take(&mut pool.kernel.changes);
        let rows = rows::changed_rows(&pool.kernel, &changes);
        checkpoint::note(&mut pool.unfolded, changes);
        let candidate = |candidate: &super::CandidateSpec| {
            let ids = |ids: &[String]| ids.iter().map(|id| id.as_str().into()).collect();
            let (limited, sparse) = (ids(&candidate.limited), ids(&candidate.sparse));
            (
                candidate.name.clone(),
                CandidateRow {
                    class: candidate.class,
                    step: candidate.step,
                    limited,
                    sparse,
                    tag: candidate.tag.as_str().into(),
                    order: spec.order,
                },
            )
        };
        let candidates: Vec<_> = spec.candidates.iter().map(candidate).collect();
        let outcome = self.store.record_shard(name, &spec.shard, &candidates, &rows);
        self.kept(outcome)
    }

    fn execute(
        &mut self,
        name: &str,
        batch: &Batch,
        clock: impl Fn() -> Millis,
    ) -> Result<Reply, LedgerError> {
        self.checkpoint.begin_if_due(&mut self.store, &mut self.pools);
        let pool = self.checked(name, &batch.ledger_id)?;
        let clock = if batch.clock == 0 {
            let asked = Instant::now();
            let clock = clock();
            pool.clock.observe(name, clock, asked, Instant::now());
            pool.clock.admit(batch)?;
            clock
        } else {
            batch.clock
        };
        pool.clock.windows.learn_batch(batch);
        let reply = pool.kernel.execute(clock, batch).ok_or(LedgerError::Clock)?;
        let changes = std::mem::take(&mut pool.kernel.changes);
        let rows = rows::changed_rows(&pool.kernel, &changes);
        checkpoint::note(&mut pool.unfolded, changes);
        // The lease is handed out only after this: what the process promised, the file knows.
        let outcome = match self.checkpoint.next_part(reply.now, &mut self.pools) {
            None => self.store.record(name, &rows),
            Some(part) => self.store.record_with(name, &rows, &part).map(|cleared| {
                self.checkpoint.committed(part.folded.is_some(), cleared);
            }),
        };
        self.kept(outcome)?;
        Ok(reply)
    }
}

impl Ledger for EmbeddedLedger {
    fn open<'a>(&'a self, pool: &'a str, digest: &'a str) -> LedgerFuture<'a, Opened> {
        Box::pin(async move { self.with_state(|state| state.open(pool, digest)) })
    }

    fn foresee(&self, pool: &str, horizon: &Horizon) {
        // A ledger that panicked is not opened any more either.
        let _ = self.with_state(|state| {
            state.foreseen.insert(pool.to_owned(), horizon.clone());
            Ok(())
        });
    }

    fn apply<'a>(&'a self, pool: &'a str, ledger_id: &'a str, spec: &'a ShardSpec) -> LedgerFuture<'a, ()> {
        Box::pin(async move { self.with_state(|state| state.apply(pool, ledger_id, spec)) })
    }

    fn execute<'a>(&'a self, pool: &'a str, batch: &'a Batch) -> LedgerFuture<'a, Reply> {
        Box::pin(async move {
            let span = calls::child("embedded batch", || [KeyValue::new("db.system.name", "redb")]);
            let outcome = self.with_state(|state| state.execute(pool, batch, &self.clock));
            if let (Some(mut span), Err(error)) = (span, &outcome) {
                span.failed(error.name());
            }
            outcome
        })
    }

    fn inspect<'a>(&'a self, pool: &'a str, accounts: &'a [String]) -> LedgerFuture<'a, Inspection> {
        Box::pin(async move { self.inspect_at(pool, (self.clock)(), accounts) })
    }

    fn usage<'a>(&'a self, pool: &'a str, day_ends: &'a [Millis]) -> LedgerFuture<'a, Vec<UsageRow>> {
        Box::pin(async move {
            self.with_state(|state| {
                let PoolState { unfolded, folding, .. } = state.pool(pool)?;
                let mut journal = folding.usage().to_vec();
                journal.extend(unfolded.usage.iter().map(|(name, used)| (name.clone(), *used)));
                let stored = state.store.usage(pool, day_ends);
                let mut rows = state.kept(stored)?;
                for ((day_end, name), used) in journal {
                    if day_ends.contains(&day_end) {
                        *rows.entry((day_end, name)).or_default() += used;
                    }
                }
                Ok(rows.into_iter().map(|((day_end, name), used)| UsageRow { day_end, name, used }).collect())
            })
        })
    }

    fn held<'a>(&'a self, pool: &'a str, key_id: &'a str, granted_before: Millis) -> LedgerFuture<'a, usize> {
        Box::pin(async move {
            // A pool that was never opened has granted nothing.
            let held = |pool: &PoolState| pool.kernel.held(key_id, granted_before, (self.clock)());
            self.with_state(|state| Ok(state.pools.get(pool).map_or(0, held)))
        })
    }

    fn state(&self, pool: &str) -> LedgerState {
        let jumped = |pool: &PoolState| pool.clock.held_back().is_some();
        match self.with_state(|state| Ok(state.pools.get(pool).is_some_and(jumped))) {
            Ok(false) => LedgerState::Open,
            Ok(true) => LedgerState::ClockJumped,
            Err(_) => LedgerState::Unreachable,
        }
    }

    fn ping(&self) -> LedgerFuture<'_, ()> {
        Box::pin(async move { self.with_state(|_| Ok(())) })
    }
}
