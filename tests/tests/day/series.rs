//! What was leased, by whom it concerns, so that it can be summed over any time at once.

use std::{collections::BTreeMap, rc::Rc};

use keybroker::ledger::{Amounts, Dimension};

use crate::{demand::Source, possible::Time, setting::Setting};

/// A lease that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leased {
    pub(crate) lane: usize,
    pub(crate) key: usize,
    pub(crate) granted_at: i64,
    /// When it held no slot any more.
    pub(crate) flown_until: i64,
    /// When it was reported what it used; none if the whole charge was kept.
    pub(crate) known_at: Option<i64>,
    pub(crate) bound: Amounts,
    /// What it used; nothing if its request never reached Google.
    pub(crate) sent: Amounts,
}

impl Leased {
    /// What it was charged over a time, in amount times milliseconds, by a trailing window in which a charge
    /// counts for so long.
    pub(crate) fn charge(&self, dimension: Dimension, counts_for: i64, (from, to): Time) -> i64 {
        let overlap = |start: i64, end: i64| (end.min(to) - start.max(from)).max(0);
        let ends = self.granted_at + counts_for;
        let known_at = self.known_at.unwrap_or(ends).min(ends);
        self.bound.of(dimension) * overlap(self.granted_at, known_at)
            + self.sent.of(dimension) * overlap(known_at, ends)
    }

    /// What was charged for good and not used.
    fn lost(&self, dimension: Dimension) -> i64 {
        if self.known_at.is_some() { 0 } else { self.bound.of(dimension) - self.sent.of(dimension) }
    }
}

/// Whom leases concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner<'a> {
    ProjectModel(&'a str, &'a str),
    Project(&'a str),
    AccountModel(&'a str, &'a str),
    Account(&'a str),
    PoolModel(&'a str, &'a str),
    Pool(&'a str),
    Consumer(&'a str, &'a str),
}

impl Owner<'_> {
    fn name(&self) -> String {
        format!("{self:?}")
    }
}

const DIMENSIONS: [Dimension; 4] =
    [Dimension::Requests, Dimension::InputTokens, Dimension::TotalTokens, Dimension::Spend];

/// The leases of one owner by the instants of their grants, with running sums.
#[derive(Debug, Default)]
pub(crate) struct Series {
    all: Rc<[Leased]>,
    members: Vec<usize>,
    /// Before each member, what was sent and what was lost, by dimension.
    sums: Vec<[(i64, i64); 4]>,
    largest: [i64; 4],
}

impl Series {
    fn push(&mut self, number: usize) {
        let leased = self.all[number];
        let mut sums = self.sums.last().copied().unwrap_or_default();
        for (at, dimension) in DIMENSIONS.into_iter().enumerate() {
            sums[at].0 += leased.sent.of(dimension);
            sums[at].1 += leased.lost(dimension);
            self.largest[at] = self.largest[at].max(leased.bound.of(dimension));
        }
        self.members.push(number);
        self.sums.push(sums);
    }

    fn range(&self, (from, to): Time) -> std::ops::Range<usize> {
        let until = |at: i64| self.members.partition_point(|member| self.all[*member].granted_at < at);
        until(from)..until(to)
    }

    /// Those granted in a time.
    pub(crate) fn between(&self, time: Time) -> impl Iterator<Item = &Leased> {
        self.members[self.range(time)].iter().map(|member| &self.all[*member])
    }

    /// What those granted in a time sent, and what was lost by them.
    pub(crate) fn sums(&self, time: Time, dimension: Dimension) -> (i64, i64) {
        let Some(at) = DIMENSIONS.iter().position(|known| *known == dimension) else { return (0, 0) };
        let range = self.range(time);
        let before = |end: usize| end.checked_sub(1).map_or((0, 0), |last| self.sums[last][at]);
        let (first, last) = (before(range.start), before(range.end));
        (last.0 - first.0, last.1 - first.1)
    }

    /// The largest upper bound of any of its requests; at least 1.
    pub(crate) fn largest(&self, dimension: Dimension) -> i64 {
        DIMENSIONS.iter().position(|known| *known == dimension).map_or(1, |at| self.largest[at].max(1))
    }
}

/// All series.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    series: BTreeMap<String, Series>,
    nothing: Series,
}

impl Shelf {
    pub(crate) fn new(mut all: Vec<Leased>, setting: &Setting, sources: &[Source]) -> Self {
        all.sort_by_key(|leased| leased.granted_at);
        let all: Rc<[Leased]> = all.into();
        let mut shelf = Self::default();
        let mut owners_of: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
        for (number, Leased { lane, key, .. }) in all.iter().enumerate() {
            let owners = owners_of.entry((*lane, *key)).or_insert_with(|| {
                let (source, key) = (&sources[*lane], &setting.keys[*key]);
                let model = setting.catalogue.quota_model(source.model);
                let account = key.account.as_deref().unwrap_or_default();
                let owners = [
                    Owner::ProjectModel(&key.project, model),
                    Owner::Project(&key.project),
                    Owner::AccountModel(account, model),
                    Owner::Account(account),
                    Owner::PoolModel(&key.pool, model),
                    Owner::Pool(&key.pool),
                    Owner::Consumer(&key.pool, source.consumer),
                ];
                owners.iter().map(Owner::name).collect()
            });
            for owner in owners {
                let new = || Series { all: all.clone(), ..Series::default() };
                if !shelf.series.contains_key(owner) {
                    shelf.series.insert(owner.clone(), new());
                }
                shelf.series.get_mut(owner).expect("it was just put there").push(number);
            }
        }
        shelf
    }

    pub(crate) fn of(&self, owner: Owner<'_>) -> &Series {
        self.series.get(&owner.name()).unwrap_or(&self.nothing)
    }
}
