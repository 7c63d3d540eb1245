//! What the embedded ledger stores of a pool, as rows.

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::ledger::{
    Millis, Order, Used,
    account::Account,
    kernel::{Changes, Kernel, LeaseRow},
    shard::{CLASSES, Candidate, Place, Shard},
};

/// One changed piece of a pool's state, as it is after the change.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Row {
    /// An account by its id; nothing if it was forgotten.
    Account(Arc<str>, Option<Account>),
    /// By how much the counts of an account changed: window, end, amount.
    Counts(Arc<str>, Vec<(usize, Millis, i64)>),
    /// Where a candidate stands: shard, name, place.
    Place(Arc<str>, Arc<str>, Place),
    /// A shard's virtual times and epoch.
    Shard(Arc<str>, [i64; CLASSES], i64),
    /// What was used, to be added: end of the day, name, sums.
    Usage(Millis, String, Used),
    /// The pool's clock and epoch.
    Pool(Millis, i64),
    /// A lease: until when it is remembered and what is known; nothing if it was forgotten.
    Lease(Arc<str>, Option<(Millis, LeaseRow)>),
}

/// What of a candidate never changes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CandidateRow {
    pub(super) class: i64,
    pub(super) step: i64,
    pub(super) limited: Vec<Arc<str>>,
    pub(super) sparse: Vec<Arc<str>>,
    pub(super) tag: Arc<str>,
    /// The order of its shard, which all of a shard's candidates name alike.
    pub(super) order: Order,
}

/// The identity of a pool's ledger and its catalogue.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct PoolRow {
    pub(super) ledger_id: String,
    pub(super) digest: String,
    pub(super) generation: i64,
}

/// The rows that say what changed, leases last.
pub(super) fn changed_rows(kernel: &Kernel, changes: &Changes) -> Vec<Row> {
    let mut rows = state_rows(kernel, changes);
    for id in &changes.leases {
        rows.push(Row::Lease(id.clone(), kernel.lease(id).cloned()));
    }
    rows
}

/// The same without leases.
pub(super) fn state_rows(kernel: &Kernel, changes: &Changes) -> Vec<Row> {
    let mut rows = vec![Row::Pool(kernel.now, kernel.epoch)];
    for slot in changes.accounts.iter().filter(|slot| kernel.is_live(**slot)) {
        let (id, account) = kernel.account_at(*slot);
        rows.push(Row::Account(id.clone(), Some(account.clone())));
    }
    let counts = changes.counts.iter().filter(|((slot, ..), _)| !changes.accounts.contains(slot));
    for (&(slot, window, end), &by) in counts {
        let id = &kernel.account_at(slot).0;
        match rows.last_mut() {
            Some(Row::Counts(last, counts)) if last == id => counts.push((window, end, by)),
            _ => rows.push(Row::Counts(id.clone(), vec![(window, end, by)])),
        }
    }
    for id in changes.gone.iter().filter(|id| !kernel.has_account(id)) {
        rows.push(Row::Account(id.clone(), None));
    }
    for ((day_end, name), used) in &changes.usage {
        rows.push(Row::Usage(*day_end, name.clone(), *used));
    }
    for (shard, index) in &changes.candidates {
        if let Some(state) = kernel.shard_named(shard) {
            let candidate = state.get(*index);
            rows.push(Row::Place(shard.clone(), candidate.name.clone(), candidate.place));
        }
    }
    for name in &changes.shards {
        if let Some(shard) = kernel.shard_named(name) {
            rows.push(Row::Shard(name.clone(), shard.virtual_time, shard.epoch));
        }
    }
    rows
}

/// The accounts of these rows, whole.
pub(super) fn whole_accounts(rows: &[Row]) -> Vec<&Row> {
    rows.iter().filter(|row| matches!(row, Row::Account(_, Some(_)))).collect()
}

/// What these rows add to sums, with the opposite sign.
pub(super) fn taken_back(rows: &[Row]) -> Vec<Row> {
    let taken_back = |row: &Row| match row {
        Row::Usage(day_end, name, used) => Some(Row::Usage(*day_end, name.clone(), -*used)),
        _ => None,
    };
    rows.iter().filter_map(taken_back).collect()
}

/// Until when the newest lease of these rows is remembered.
pub(super) fn remembered_until(rows: &[Row]) -> Millis {
    let until = |row: &Row| if let Row::Lease(_, Some((until, _))) = row { Some(*until) } else { None };
    rows.iter().filter_map(until).max().unwrap_or(0)
}

/// A pool's state while it is put together from rows.
#[derive(Default)]
pub(super) struct Restored {
    pub(super) kernel: Kernel,
    shards: std::collections::BTreeMap<Arc<str>, RestoredShard>,
    moved: HashSet<(Arc<str>, Arc<str>)>,
    unfolded: Changes,
}

#[derive(Default)]
struct RestoredShard {
    candidates: std::collections::BTreeMap<Arc<str>, (CandidateRow, Place)>,
    virtual_time: [i64; CLASSES],
    epoch: i64,
}

impl Restored {
    pub(super) fn candidate(&mut self, shard: &str, name: &str, row: CandidateRow) {
        let place = Place::Ready(row.class * crate::ledger::shard::CLASS_SPAN);
        self.shards.entry(shard.into()).or_default().candidates.insert(name.into(), (row, place));
    }

    /// Takes in a row of the journal that no checkpoint has folded into the tables: the next one must.
    pub(super) fn unfolded_row(&mut self, row: Row) {
        match &row {
            Row::Account(id, Some(_)) | Row::Counts(id, _) => {
                let slot = self.kernel.slot_of(id);
                self.unfolded.accounts.insert(slot);
            }
            Row::Account(id, None) => {
                self.unfolded.gone.insert(id.clone());
            }
            Row::Usage(day_end, name, used) => {
                *self.unfolded.usage.entry((*day_end, name.clone())).or_default() += *used;
            }
            Row::Place(shard, name, _) => {
                self.moved.insert((shard.clone(), name.clone()));
            }
            Row::Shard(name, ..) => {
                self.unfolded.shards.insert(name.clone());
            }
            Row::Pool(..) | Row::Lease(..) => {}
        }
        self.row(row);
    }

    pub(super) fn row(&mut self, row: Row) {
        match row {
            Row::Account(id, Some(account)) => {
                self.kernel.restore_account(&id, account);
            }
            Row::Counts(id, counts) => {
                self.kernel.restore_counts(&id, &counts);
            }
            Row::Account(id, None) => self.kernel.drop_account(&id),
            Row::Usage(..) => {}
            Row::Place(shard, name, place) => {
                if let Some(known) = self.shards.entry(shard).or_default().candidates.get_mut(&name) {
                    known.1 = place;
                }
            }
            Row::Shard(name, virtual_time, epoch) => {
                let shard = self.shards.entry(name).or_default();
                shard.virtual_time = virtual_time;
                shard.epoch = epoch;
            }
            Row::Pool(now, epoch) => {
                self.kernel.now = now;
                self.kernel.epoch = epoch;
            }
            Row::Lease(id, Some((until, lease))) => self.kernel.restore_lease(&id, until, lease),
            Row::Lease(id, None) => self.kernel.forget_lease(&id),
        }
    }

    /// The kernel, and what of it only the journal knows.
    pub(super) fn finish(mut self) -> (Kernel, Changes) {
        for (name, shard) in self.shards {
            let order = shard.candidates.values().next().map(|(row, _)| row.order).unwrap_or_default();
            let candidates = shard.candidates.into_iter().map(|(name, (row, place))| Candidate {
                name,
                class: row.class,
                step: row.step,
                limited: row.limited.iter().map(|id| self.kernel.slot_of(id)).collect(),
                sparse: row.sparse.iter().map(|id| self.kernel.slot_of(id)).collect(),
                tag: row.tag,
                place,
            });
            let candidates: Vec<_> = candidates.collect();
            self.kernel.restore_shard(name, Shard::new(candidates, shard.virtual_time, shard.epoch, order));
        }
        self.kernel.changes = Changes::default();
        for (shard, name) in self.moved {
            if let Some(index) = self.kernel.shard_named(&shard).and_then(|shard| shard.find(&name)) {
                self.unfolded.candidates.insert((shard, index));
            }
        }
        (self.kernel, self.unfolded)
    }
}
