//! Checkpoints fold what changed into the tables, a part with each batch, so that no batch waits for all of it.
//!
//! A checkpoint begins at a record of the journal and folds all that changed before it. Its parts are taken as they
//! stand when their turn comes, which is later; restoring plays the journal from where the checkpoint began over them.
//! Rows that say how something stands bear that. Rows that say by how much something changed would count twice, so each
//! part leaves amends in the journal, in the same commit: its accounts whole, after all that changed them so far; and what
//! it added to sums with the opposite sign, before the record where the checkpoint began, since at its end the changes
//! that they make up for are left behind.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    PoolState, rows,
    store::{Part, Store},
};
use crate::ledger::{Millis, Used, kernel::Changes};

/// When checkpoints begin, and how large their parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoints {
    /// How long after the end of one the next begins; at zero each batch that finds none begins one.
    pub every: Duration,
    /// How many changed rows a batch folds, and how many records it drops, at the most; at least 1.
    pub part: usize,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), part: 64 }
    }
}

/// The checkpoint that is underway, or when the next begins.
pub(super) struct Checkpoint {
    how: Checkpoints,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// None is underway until then.
    Waits(Instant),
    /// What changed before the record `from` of the journal is folded; the records from `spare` to there are for amends.
    Folds { from: u64, spare: u64 },
    /// All of it is folded, and records that are needed no more are dropped.
    Drops,
}

impl Checkpoint {
    pub(super) fn new(how: Checkpoints) -> Self {
        Self { how, stage: Stage::Waits(Instant::now() + how.every) }
    }

    /// Begins one if it is time: all that changed before the next record is to be folded.
    pub(super) fn begin_if_due(&mut self, store: &mut Store, pools: &mut BTreeMap<String, PoolState>) {
        if matches!(self.stage, Stage::Waits(until) if Instant::now() >= until) {
            let mut sums = 0;
            for pool in pools.values_mut() {
                pool.folding = Folding::of(std::mem::take(&mut pool.unfolded));
                sums += pool.folding.usage.len() as u64;
            }
            let spare = store.spare(sums);
            self.stage = Stage::Folds { from: spare + sums, spare };
        }
    }

    /// The next part of the one that is underway.
    pub(super) fn next_part<'a>(
        &mut self,
        now: Millis,
        pools: &'a mut BTreeMap<String, PoolState>,
    ) -> Option<Part<'a>> {
        let most = self.how.part.max(1);
        let (from, spare) = match &mut self.stage {
            Stage::Waits(_) => return None,
            Stage::Drops => return Some(Part { now, most, rows: Vec::new(), spare: 0, folded: None }),
            Stage::Folds { from, spare } => (*from, spare),
        };
        let (first, mut left) = (*spare, most);
        let mut parts = Vec::new();
        for (name, pool) in pools.iter_mut() {
            let before = left;
            let some = pool.folding.take(&mut left);
            *spare += some.usage.len() as u64;
            parts.push((name.as_str(), pool, some, left < before));
        }
        let is_last = parts.iter().all(|(_, pool, ..)| pool.folding.is_empty());
        // Only the last part says of every pool how its clock stands.
        parts.retain(|(.., is_any)| is_last || *is_any);
        let rows =
            parts.into_iter().map(|(name, pool, some, _)| (name, rows::state_rows(&pool.kernel, &some)));
        Some(Part { now, most, rows: rows.collect(), spare: first, folded: is_last.then_some(from) })
    }

    /// A part is committed; `cleared` if no more records of the journal can be dropped.
    pub(super) fn committed(&mut self, folded: bool, cleared: bool) {
        match self.stage {
            Stage::Folds { .. } if !folded => {}
            _ if cleared => self.stage = Stage::Waits(Instant::now() + self.how.every),
            _ => self.stage = Stage::Drops,
        }
    }
}

/// Adds what a batch changed to what is to be folded. Leases stay in the journal.
pub(super) fn note(unfolded: &mut Changes, changes: Changes) {
    unfolded.accounts.extend(changes.accounts);
    // What is folded is whole.
    unfolded.accounts.extend(changes.counts.into_keys().map(|(slot, ..)| slot));
    unfolded.gone.extend(changes.gone);
    for (name, used) in changes.usage {
        *unfolded.usage.entry(name).or_default() += used;
    }
    unfolded.candidates.extend(changes.candidates);
    unfolded.shards.extend(changes.shards);
}

/// What of a pool the checkpoint that is underway has not folded yet. A part is of neighbours, whose rows lie in few
/// pages of the file: it costs a quarter of one that is of any.
#[derive(Default)]
pub(super) struct Folding {
    accounts: Vec<usize>,
    gone: Vec<Arc<str>>,
    candidates: Vec<(Arc<str>, usize)>,
    shards: Vec<Arc<str>>,
    usage: Vec<((Millis, String), Used)>,
}

impl Folding {
    fn of(changes: Changes) -> Self {
        // Slots and indices follow the catalogue, whose order is near enough to that of the tables.
        Self {
            accounts: sorted(changes.accounts),
            gone: sorted(changes.gone),
            candidates: sorted(changes.candidates),
            shards: sorted(changes.shards),
            usage: sorted(changes.usage),
        }
    }

    /// Sums that no table has yet.
    pub(super) fn usage(&self) -> &[((Millis, String), Used)] {
        &self.usage
    }

    fn is_empty(&self) -> bool {
        let Self { accounts, gone, candidates, shards, usage } = self;
        accounts.is_empty()
            && gone.is_empty()
            && candidates.is_empty()
            && shards.is_empty()
            && usage.is_empty()
    }

    /// Takes some, `left` at the most, which becomes less by as much.
    fn take(&mut self, left: &mut usize) -> Changes {
        Changes {
            accounts: last(&mut self.accounts, left),
            gone: last(&mut self.gone, left),
            candidates: last(&mut self.candidates, left),
            shards: last(&mut self.shards, left),
            usage: last(&mut self.usage, left),
            ..Changes::default()
        }
    }
}

fn sorted<T: Ord>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort_unstable();
    all
}

fn last<T, C: FromIterator<T>>(from: &mut Vec<T>, left: &mut usize) -> C {
    let taken = from.len().min(*left);
    *left -= taken;
    from.drain(from.len() - taken..).collect()
}
