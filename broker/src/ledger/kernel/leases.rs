//! What is remembered of leases and of what they used.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use super::{HeldLease, Kernel, LeaseRow};
use crate::ledger::{calendar::Calendar, types::*};

const PARTS: usize = 256;

/// Leases by id, each with until when it is remembered. A table that grows moves all it holds, and nobody is
/// answered meanwhile: here one part of many grows at a time.
#[derive(Debug, Clone)]
pub(super) struct Leases {
    parts: Vec<HashMap<Arc<str>, (Millis, LeaseRow)>>,
    chooses: RandomState,
}

impl Default for Leases {
    fn default() -> Self {
        Self { parts: vec![HashMap::new(); PARTS], chooses: RandomState::new() }
    }
}

impl Leases {
    fn part(&self, id: &str) -> usize {
        // The remainder is less than the number of parts.
        usize::try_from(self.chooses.hash_one(id) % PARTS as u64).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(HashMap::len).sum()
    }

    pub(super) fn get(&self, id: &str) -> Option<&(Millis, LeaseRow)> {
        self.parts[self.part(id)].get(id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut (Millis, LeaseRow)> {
        let part = self.part(id);
        self.parts[part].get_mut(id)
    }

    pub(super) fn insert(&mut self, id: Arc<str>, lease: (Millis, LeaseRow)) -> Option<(Millis, LeaseRow)> {
        let part = self.part(&id);
        self.parts[part].insert(id, lease)
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<(Millis, LeaseRow)> {
        let part = self.part(id);
        self.parts[part].remove(id)
    }

    fn rows(&self) -> impl Iterator<Item = &LeaseRow> {
        self.parts.iter().flat_map(HashMap::values).map(|(_, row)| row)
    }
}

impl Kernel {
    pub(super) fn keep_lease(&mut self, id: Arc<str>, until: Millis, row: LeaseRow) {
        self.changes.leases.insert(id.clone());
        if let Some((old, _)) = self.leases.insert(id.clone(), (until, row)) {
            self.forget.remove(&(old, id.clone()));
        }
        self.forget.insert((until, id));
    }

    /// How many leases of a candidate, of whatever shard, that were granted before an instant are neither settled nor
    /// expired.
    pub fn held(&self, candidate: &str, granted_before: Millis, clock: Millis) -> usize {
        let now = self.now.max(clock);
        let held = |row: &&LeaseRow| match row {
            LeaseRow::Held(held) => {
                &*held.candidate == candidate && held.granted_at < granted_before && held.expires_at > now
            }
            LeaseRow::Settled { .. } => false,
        };
        self.leases.rows().filter(held).count()
    }

    /// Forgets leases whose time is over; one that was never reported is recorded as such.
    pub(super) fn forget(&mut self, at_most: usize, calendar: &Calendar) {
        for _ in 0..at_most {
            let Some((until, _)) = self.forget.first() else { break };
            if *until > self.now {
                break;
            }
            let (_, id) = self.forget.pop_first().expect("a first one was seen");
            if let Some((_, LeaseRow::Held(held))) = self.leases.remove(&id) {
                let Amounts { permits, input, total, spend } = held.amounts;
                self.record(&held, UNREPORTED, Used(1, permits, input, total, spend, 0), calendar);
            }
            self.changes.leases.insert(id);
        }
    }

    /// Forgets passing accounts of which all has ended.
    pub(super) fn forget_idle(&mut self, at_most: usize) {
        let slots: Vec<usize> =
            self.changes.accounts.iter().copied().filter(|slot| self.accounts[*slot].1.passing).collect();
        for slot in slots {
            let (id, account) = &mut self.accounts[slot];
            let until = account.counts_until();
            self.idle.remove(&(account.idle_from, id.clone()));
            account.idle_from = until;
            self.idle.insert((until, id.clone()));
        }
        for _ in 0..at_most {
            let Some((until, id)) = self.idle.first().cloned() else { break };
            if until > self.now {
                break;
            }
            self.drop_account(&id);
            self.changes.gone.insert(id);
        }
    }

    /// Adds to what was used today, under the name of the lease and what came of it.
    pub(super) fn record(&mut self, held: &HeldLease, outcome: &str, used: Used, calendar: &Calendar) {
        if held.usage.is_empty() || outcome.is_empty() {
            return;
        }
        let tag =
            self.shards.get(&held.shard).and_then(|shard| Some(&shard.get(shard.find(&held.candidate)?).tag));
        let tag = tag.map_or("", |tag| tag);
        let name = [&held.usage, tag, &*held.candidate, outcome].join(&USAGE_MARK.to_string());
        let over = if held.over { used.1 } else { 0 };
        let sums = self.changes.usage.entry((calendar.day_end(self.now), name)).or_default();
        *sums += Used(used.0, used.1, used.2, used.3, used.4, over);
    }
}
