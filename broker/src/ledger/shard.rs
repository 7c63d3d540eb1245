//! The candidates of one quota model: ready ones by rank, parked ones by when they become ready.
//!
//! A rank is a priority class and a virtual time. A grant advances the virtual time of its candidate by a
//! step, so that the next in order is always the one most owed. What the step is makes the order: a fixed
//! share ([`Order::Share`]), one that grows as the key's health falls ([`Order::Health`]), how much of its
//! limits the grant took ([`Order::LeastUtilized`]); or the candidate moves to the present
//! ([`Order::LeastRecent`]).

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::types::{Millis, Order};

/// The step of a candidate of weight 1.
pub const SCALE: i64 = 100_000;
/// A rank is `class * CLASS_SPAN + virtual time`; 16 classes stay exact in a double.
pub const CLASS_SPAN: i64 = 1 << 48;
/// From how much virtual time on a class is rebased, far below [`CLASS_SPAN`].
pub const REBASE_AT: i64 = 1 << 47;
/// Virtual time a millisecond, where it is taken from the clock: a rank stays below [`CLASS_SPAN`] until the
/// year 2248.
pub const TICKS: i64 = 32;
/// The number of priority classes.
pub const CLASSES: usize = 16;

/// Where a candidate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In the ready order, with its rank.
    Ready(i64),
    /// In the parked order until the instant, with the rank it had.
    Parked(Millis, i64),
}

/// A key for a quota model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The key's id.
    pub name: Arc<str>,
    /// The priority class.
    pub class: i64,
    /// By how much a grant advances its virtual time.
    pub step: i64,
    /// Slots of the accounts with limits.
    pub limited: Vec<usize>,
    /// Slots of the accounts that only hold blocks.
    pub sparse: Vec<usize>,
    /// What usage is recorded under beside its name.
    pub tag: Arc<str>,
    /// Where it stands; changed through the shard only.
    pub place: Place,
}

/// All candidates of one quota model under one catalogue.
#[derive(Debug, Clone, Default)]
pub struct Shard {
    candidates: Vec<Candidate>,
    by_name: HashMap<Arc<str>, usize>,
    // Candidates are numbered in the order of their names, so that equal ranks and instants are
    // ordered as Redis orders them.
    ready: BTreeSet<(i64, usize)>,
    parked: BTreeSet<(Millis, usize)>,
    /// The virtual time of each class: that of its last grant.
    pub virtual_time: [i64; CLASSES],
    /// The last early release of capacity that this shard's parked candidates were checked for.
    pub epoch: i64,
    /// In which order its candidates are leased.
    pub order: Order,
}

impl Shard {
    /// Builds the shard; candidates must have distinct names.
    pub fn new(
        mut candidates: Vec<Candidate>,
        virtual_time: [i64; CLASSES],
        epoch: i64,
        order: Order,
    ) -> Self {
        candidates.sort_by(|a, b| a.name.cmp(&b.name));
        let mut shard = Self { virtual_time, epoch, order, ..Self::default() };
        for (index, candidate) in candidates.iter().enumerate() {
            shard.by_name.insert(candidate.name.clone(), index);
            match candidate.place {
                Place::Ready(rank) => shard.ready.insert((rank, index)),
                Place::Parked(at, _) => shard.parked.insert((at, index)),
            };
        }
        shard.candidates = candidates;
        shard
    }

    /// All candidates.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The candidate with that number.
    pub fn get(&self, index: usize) -> &Candidate {
        &self.candidates[index]
    }

    /// The number of the candidate with that name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The first ready candidate after `last` in the order of ranks.
    pub fn next_ready(&self, last: Option<(i64, usize)>) -> Option<(i64, usize)> {
        self.ready.range((after(last), Bound::Unbounded)).next().copied()
    }

    /// The first parked candidate after `last` in the order of instants.
    pub fn next_parked(&self, last: Option<(Millis, usize)>) -> Option<(Millis, usize)> {
        self.parked.range((after(last), Bound::Unbounded)).next().copied()
    }

    /// The rank a candidate has, or would have if it came back from parking now: by shares, what is owed
    /// to it or by it is at most one step.
    pub fn rank(&self, index: usize) -> i64 {
        let candidate = &self.candidates[index];
        match candidate.place {
            Place::Ready(rank) => rank,
            Place::Parked(_, rank) if self.order == Order::LeastRecent => rank,
            Place::Parked(_, rank) => {
                let base = candidate.class * CLASS_SPAN + self.virtual_time[candidate.class as usize];
                rank.clamp(base, base + candidate.step)
            }
        }
    }

    /// Moves a candidate.
    pub fn place(&mut self, index: usize, place: Place) {
        match self.candidates[index].place {
            Place::Ready(rank) => self.ready.remove(&(rank, index)),
            Place::Parked(at, _) => self.parked.remove(&(at, index)),
        };
        match place {
            Place::Ready(rank) => self.ready.insert((rank, index)),
            Place::Parked(at, _) => self.parked.insert((at, index)),
        };
        self.candidates[index].place = place;
    }

    /// Parks a candidate until `at`; it keeps its rank.
    pub fn park(&mut self, index: usize, at: Millis) {
        let rank = match self.candidates[index].place {
            Place::Ready(rank) | Place::Parked(_, rank) => rank,
        };
        self.place(index, Place::Parked(at, rank));
    }

    /// Brings a candidate back into the ready order.
    pub fn unpark(&mut self, index: usize) {
        self.place(index, Place::Ready(self.rank(index)));
    }

    /// Moves a candidate behind, because it was granted a lease at `now`. `health` is its key's, 0 to
    /// 100; `share` how much of the limit nearest to its end the grant took, 0 to 1.
    pub fn advance(&mut self, index: usize, now: Millis, health: i64, share: f64) {
        let rank = self.rank(index);
        let Candidate { class, step, .. } = self.candidates[index];
        let base = class * CLASS_SPAN;
        let passed = self.virtual_time[class as usize];
        let (time, behind) = match self.order {
            Order::Share => (rank - base, rank + step),
            Order::Health => (rank - base, rank + step * 100 / health.max(1)),
            // The same in Lua, which counts in doubles.
            Order::LeastUtilized => (rank - base, rank + ((step as f64 * share).floor() as i64).max(1)),
            Order::LeastRecent => {
                let time = passed.max(now * TICKS) + 1;
                (time, base + time)
            }
        };
        self.virtual_time[class as usize] = passed.max(time);
        self.place(index, Place::Ready(behind));
    }

    /// Starts virtual time anew in classes that reached `rebase_at`; returns who was moved.
    pub fn rebase(&mut self, rebase_at: i64) -> Vec<usize> {
        let mut moved = Vec::new();
        if self.order == Order::LeastRecent {
            return moved;
        }
        for class in 0..CLASSES as i64 {
            let passed = self.virtual_time[class as usize];
            if passed < rebase_at {
                continue;
            }
            self.virtual_time[class as usize] = 0;
            let base = class * CLASS_SPAN;
            let members: Vec<_> = self.ready.range((base, 0)..(base + CLASS_SPAN, 0)).copied().collect();
            for (rank, index) in members {
                self.place(index, Place::Ready((rank - passed).max(base)));
                moved.push(index);
            }
        }
        moved
    }
}

fn after(last: Option<(i64, usize)>) -> Bound<(i64, usize)> {
    last.map_or(Bound::Unbounded, Bound::Excluded)
}
