//! The ledger's rules in plain Rust: a pure function of (state, batch, now).
//!
//! This is the executable specification. The Lua scripts do the same step by step, down to the
//! order in which candidates are tried; the differential test holds the two equal.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

mod acquire;
mod leases;
mod settle;

use serde::{Deserialize, Serialize};

use super::{
    Batch,
    account::Account,
    calendar::Calendar,
    shard::{CLASS_SPAN, CLASSES, Candidate, Place, Shard},
    steady::CLOCK_STANDS,
    types::*,
};

/// How many candidates an acquire tries or looks up, and how many due ones return at a time.
pub const MAX_TRIES: usize = 256;
/// How long a lease is remembered after it expired, for late reports, in milliseconds.
pub const REMEMBER_EXPIRED: i64 = 600_000;
/// How long a settled lease is remembered, for repeated reports, in milliseconds.
pub const REMEMBER_SETTLED: i64 = 300_000;
/// How many leases a batch forgets at most beside one for each of its operations.
pub const FORGET_AT_ONCE: usize = 256;

/// What is known of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseRow {
    /// Not yet reported.
    Held(HeldLease),
    /// Reported.
    Settled {
        /// The candidate.
        candidate: Arc<str>,
        /// What a repeated report is told.
        memo: String,
    },
}

/// A lease that was not yet reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLease {
    /// The shard.
    pub shard: Arc<str>,
    /// The candidate.
    pub candidate: Arc<str>,
    /// When it was granted.
    pub granted_at: Millis,
    /// See [`super::window::Charged::send_within`].
    pub send_within: i64,
    /// See [`super::window::Charged::expires_at`].
    pub expires_at: Millis,
    /// What was charged.
    pub amounts: Amounts,
    /// Accounts charged beside the candidate's.
    pub common: Vec<String>,
    /// The ledger's epoch at the grant; see [`super::window::Window::since`].
    pub epoch: i64,
    /// See [`Acquire::usage`].
    pub usage: String,
    /// See [`Acquire::note`].
    pub note: String,
    /// Whether it exceeds a soft limit.
    pub over: bool,
}

/// The state of one pool.
#[derive(Debug, Default, Clone)]
pub struct Kernel {
    /// The latest instant: time stands still until it is later, unless the clock was set back by more than
    /// [`CLOCK_STANDS`].
    pub now: Millis,
    /// Counts early releases of capacity for which parked candidates may have to be checked.
    pub epoch: i64,
    slots: HashMap<Arc<str>, usize>,
    accounts: Vec<(Arc<str>, Account)>,
    shards: HashMap<Arc<str>, Shard>,
    leases: leases::Leases,
    forget: BTreeSet<(Millis, Arc<str>)>,
    // Passing accounts by when all that they count has ended, and slots of those that went.
    idle: BTreeSet<(Millis, Arc<str>)>,
    free: Vec<usize>,
    /// What changed since it was last taken.
    pub changes: Changes,
}

/// Names of what changed.
#[derive(Debug, Default, Clone)]
pub struct Changes {
    /// Accounts of which anything may have changed, by slot.
    pub accounts: HashSet<usize>,
    /// By how much the counts of other accounts changed, by slot, window and end.
    pub counts: BTreeMap<(usize, usize, Millis), i64>,
    /// Passing accounts that were forgotten.
    pub gone: HashSet<Arc<str>>,
    /// Leases.
    pub leases: HashSet<Arc<str>>,
    /// Candidates that moved.
    pub candidates: HashSet<(Arc<str>, usize)>,
    /// Shards whose virtual time or epoch changed.
    pub shards: HashSet<Arc<str>>,
    /// What was used meanwhile, by the end of the day and name: to be added to what is known.
    pub usage: HashMap<(Millis, String), Used>,
}

impl Changes {
    /// Notes that an account counts so much more, or less, until `end` in one of its windows.
    fn count(&mut self, slot: usize, window: usize, end: Millis, by: i64) {
        if by != 0 {
            *self.counts.entry((slot, window, end)).or_default() += by;
        }
    }
}

impl Kernel {
    /// Writes a shard's candidates and limits; what is counted stays, and so does the order of a
    /// shard that is there already.
    pub fn apply(&mut self, spec: &ShardSpec) {
        // A raised limit may free who is parked.
        self.epoch += 1;
        for account in &spec.accounts {
            let slot = self.slot(&account.id);
            self.accounts[slot].1.set_limits(spec.generation, &account.limits, account.mode, self.epoch);
            self.changes.accounts.insert(slot);
        }
        if self.shards.contains_key(spec.shard.as_str()) {
            return;
        }
        let candidates = spec.candidates.iter().map(|candidate| Candidate {
            name: candidate.name.as_str().into(),
            class: candidate.class,
            step: candidate.step,
            limited: candidate.limited.iter().map(|id| self.slot(id)).collect(),
            sparse: candidate.sparse.iter().map(|id| self.slot(id)).collect(),
            tag: candidate.tag.as_str().into(),
            place: Place::Ready(candidate.class * CLASS_SPAN),
        });
        let shard = Shard::new(candidates.collect(), [0; CLASSES], self.epoch, spec.order);
        self.restore_shard(spec.shard.as_str().into(), shard);
    }

    /// Runs a batch; `None` if the batch's calendar does not cover the instant.
    pub fn execute(&mut self, clock: Millis, batch: &Batch) -> Option<Reply> {
        let calendar = Calendar::of(batch);
        let set_back = batch.clock == 0 && self.now - clock > CLOCK_STANDS;
        let now = if set_back { clock } else { self.now.max(clock) };
        if !calendar.covers(now) {
            return None;
        }
        self.now = now;
        let names: Vec<Arc<str>> = batch.shards.iter().map(|name| self.shard_name(name)).collect();
        let edits = batch.edits.iter().map(|edit| self.edit(edit)).collect();
        let commons: Vec<usize> = batch.commons.iter().map(|spec| self.common(spec)).collect();
        let settles =
            batch.settles.iter().map(|op| self.settle(names.get(op.shard), op, &calendar)).collect();
        let renews = batch.renews.iter().map(|op| self.renew(names.get(op.shard), op)).collect();
        let mut acquires: Vec<Acquired> = Vec::with_capacity(batch.acquires.len());
        let mut last_refused: Option<usize> = None;
        for (index, op) in batch.acquires.iter().enumerate() {
            // The same request, refused a moment ago in this very step, is refused again.
            let same = last_refused.filter(|at| same_request(&batch.acquires[*at], op));
            let answer = same.map_or_else(
                || self.acquire(names.get(op.shard), op, &commons, &calendar),
                |at| acquires[at].clone(),
            );
            match answer.0 {
                AcquireState::Refused => last_refused = same.or(Some(index)),
                AcquireState::Granted | AcquireState::Missing => last_refused = None,
            }
            acquires.push(answer);
        }
        for name in &names {
            if let Some(shard) = self.shards.get_mut(name) {
                for index in shard.rebase(batch.rebase_at) {
                    self.changes.candidates.insert((name.clone(), index));
                }
            }
        }
        // More than a batch can add, so that what is remembered does not outgrow it.
        let at_most = FORGET_AT_ONCE + batch.settles.len() + batch.renews.len() + batch.acquires.len();
        self.forget(at_most, &calendar);
        self.forget_idle(at_most);
        Some(Reply { now, settles, renews, acquires, edits })
    }

    /// An account as it stands; none if it holds nothing.
    pub fn account(&self, id: &str) -> Option<&Account> {
        let account = &self.accounts[*self.slots.get(id)?].1;
        (!account.is_empty(self.now)).then_some(account)
    }

    /// How many leases are remembered.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    fn shard_name(&self, name: &str) -> Arc<str> {
        self.shards.get_key_value(name).map_or_else(|| name.into(), |(known, _)| known.clone())
    }

    fn shard(&self, name: &Arc<str>) -> &Shard {
        self.shards.get(name).expect("acquire checked that the shard is there")
    }

    fn shard_mut(&mut self, name: &Arc<str>) -> &mut Shard {
        self.shards.get_mut(name).expect("acquire checked that the shard is there")
    }

    fn slot(&mut self, id: &str) -> usize {
        if let Some(slot) = self.slots.get(id) {
            return *slot;
        }
        let id: Arc<str> = id.into();
        let fresh = (id.clone(), Account::default());
        let slot = match self.free.pop() {
            Some(slot) => {
                self.accounts[slot] = fresh;
                slot
            }
            None => {
                self.accounts.push(fresh);
                self.accounts.len() - 1
            }
        };
        self.slots.insert(id, slot);
        slot
    }

    /// The slot of an account that a batch brings along, with its limits up to date.
    fn common(&mut self, spec: &CommonSpec) -> usize {
        let slot = self.slot(&spec.id);
        let known = self.accounts[slot].1.generation;
        if known < spec.generation && (known > 0 || !spec.limits.is_empty()) {
            if known > 0 {
                // Leases of before were not counted under limits that are new.
                self.epoch += 1;
            }
            let epoch = self.epoch;
            let account = &mut self.accounts[slot].1;
            account.set_limits(spec.generation, &spec.limits, spec.mode, epoch);
            account.passing = spec.passing;
            self.changes.accounts.insert(slot);
        }
        slot
    }

    /// An account by slot, with its id.
    pub fn account_at(&self, slot: usize) -> &(Arc<str>, Account) {
        &self.accounts[slot]
    }

    /// A shard by name.
    pub fn shard_named(&self, name: &str) -> Option<&Shard> {
        self.shards.get(name)
    }

    /// A lease and until when it is remembered.
    pub fn lease(&self, id: &str) -> Option<&(Millis, LeaseRow)> {
        self.leases.get(id)
    }

    /// Puts an account back as it was stored.
    pub fn restore_account(&mut self, id: &str, account: Account) -> usize {
        let slot = self.slot(id);
        self.idle.remove(&(self.accounts[slot].1.idle_from, id.into()));
        if account.passing {
            self.idle.insert((account.idle_from, id.into()));
        }
        self.accounts[slot].1 = account;
        slot
    }

    /// Changes what an account counts, as it changed before: by window, end and amount.
    pub fn restore_counts(&mut self, id: &str, counts: &[(usize, Millis, i64)]) -> usize {
        let slot = self.slot(id);
        let now = self.now;
        let windows = &mut self.accounts[slot].1.windows;
        for &(window, end, by) in counts {
            if let Some(window) = windows.get_mut(window) {
                window.change(now, end, by);
            }
        }
        slot
    }

    /// Drops an account, as it was dropped before.
    pub fn drop_account(&mut self, id: &str) {
        if let Some(slot) = self.slots.remove(id) {
            self.idle.remove(&(self.accounts[slot].1.idle_from, id.into()));
            self.accounts[slot].1 = Account::default();
            self.free.push(slot);
        }
    }

    /// Whether there is anything to keep of the account of that id. One that was forgotten and is only
    /// named again has a slot, and nothing in it.
    pub fn has_account(&self, id: &str) -> bool {
        self.slots.get(id).is_some_and(|slot| self.accounts[*slot].1 != Account::default())
    }

    /// Whether the slot is that of an account, and not of one that was forgotten.
    pub fn is_live(&self, slot: usize) -> bool {
        self.slots.get(&self.accounts[slot].0) == Some(&slot)
    }

    /// Puts a lease back as it was stored.
    pub fn restore_lease(&mut self, id: &str, until: Millis, row: LeaseRow) {
        self.keep_lease(id.into(), until, row);
    }

    /// Drops a lease, as it was dropped before.
    pub fn forget_lease(&mut self, id: &str) {
        if let Some((until, _)) = self.leases.remove(id) {
            self.forget.remove(&(until, id.into()));
        }
    }

    /// Puts a shard in place, new or as it was stored.
    pub fn restore_shard(&mut self, name: Arc<str>, shard: Shard) {
        for index in 0..shard.candidates().len() {
            self.changes.candidates.insert((name.clone(), index));
        }
        self.changes.shards.insert(name.clone());
        self.shards.insert(name, shard);
    }

    /// The slot of an account, made if there is none.
    pub fn slot_of(&mut self, id: &str) -> usize {
        self.slot(id)
    }
}

fn same_request(a: &Acquire, b: &Acquire) -> bool {
    (a.shard, a.amounts, &a.only, &a.exclude, &a.common)
        == (b.shard, b.amounts, &b.only, &b.exclude, &b.common)
}

/// Leases expire on whole seconds, so that held windows stay short.
fn whole_second(at: Millis) -> Millis {
    (at + 999) / 1000 * 1000
}
