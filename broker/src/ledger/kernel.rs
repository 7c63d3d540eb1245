//! The ledger's rules in plain Rust: a pure function of (state, batch, now).
//!
//! This is the executable specification. The Lua scripts do the same step by step, down to the
//! order in which candidates are tried; the differential test holds the two equal.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    account::{Account, Cause, Need, Readiness, SMALLEST, is_held},
    calendar::Calendar,
    shard::{CLASS_SPAN, CLASSES, Candidate, Place, Shard},
    types::*,
    window::Charged,
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
    /// See [`Charged::send_within`].
    pub send_within: i64,
    /// See [`Charged::expires_at`].
    pub expires_at: Millis,
    /// Requests.
    pub permits: i64,
    /// Input tokens charged.
    pub tokens: i64,
    /// Accounts charged beside the candidate's.
    pub common: Vec<String>,
    /// The ledger's epoch at the grant; see [`super::window::Window::since`].
    pub epoch: i64,
}

/// The state of one pool.
#[derive(Debug, Default, Clone)]
pub struct Kernel {
    /// The highest instant seen: time never runs backwards.
    pub now: Millis,
    /// Counts early releases of capacity for which parked candidates may have to be checked.
    pub epoch: i64,
    slots: HashMap<Arc<str>, usize>,
    accounts: Vec<(Arc<str>, Account)>,
    shards: HashMap<Arc<str>, Shard>,
    leases: HashMap<Arc<str>, (Millis, LeaseRow)>,
    forget: BTreeSet<(Millis, Arc<str>)>,
    /// What changed since it was last taken.
    pub changes: Changes,
}

/// Names of what changed.
#[derive(Debug, Default, Clone)]
pub struct Changes {
    /// Accounts, by slot.
    pub accounts: HashSet<usize>,
    /// Leases.
    pub leases: HashSet<Arc<str>>,
    /// Candidates that moved.
    pub candidates: HashSet<(Arc<str>, usize)>,
    /// Shards whose virtual time or epoch changed.
    pub shards: HashSet<Arc<str>>,
}

#[derive(Clone, Copy)]
struct Obstacle {
    at: Millis,
    account: usize,
    cause: Cause,
}

/// A candidate that can serve, or the obstacle that ends first; none if there is no candidate.
type Found = Result<usize, Option<Obstacle>>;

impl Kernel {
    /// Writes a shard's candidates and limits; what is counted stays, and so does the order of a
    /// shard that is there already.
    pub fn apply(&mut self, spec: &ShardSpec) {
        // A raised limit may free who is parked.
        self.epoch += 1;
        for account in &spec.accounts {
            let slot = self.slot(&account.id);
            self.accounts[slot].1.set_limits(spec.generation, &account.limits, self.epoch);
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
            place: Place::Ready(candidate.class * CLASS_SPAN),
        });
        let shard = Shard::new(candidates.collect(), [0; CLASSES], self.epoch);
        self.restore_shard(spec.shard.as_str().into(), shard);
    }

    /// Runs a batch; `None` if the batch's calendar does not cover the instant.
    pub fn execute(&mut self, clock: Millis, batch: &Batch) -> Option<Reply> {
        let calendar = Calendar::of(batch);
        let now = self.now.max(clock);
        if !calendar.covers(now) {
            return None;
        }
        self.now = now;
        let names: Vec<Arc<str>> = batch.shards.iter().map(|name| self.shard_name(name)).collect();
        let settles =
            batch.settles.iter().map(|op| self.settle(names.get(op.shard), op, &calendar)).collect();
        let renews = batch.renews.iter().map(|op| self.renew(names.get(op.shard), op)).collect();
        let mut acquires: Vec<Acquired> = Vec::with_capacity(batch.acquires.len());
        let mut last_refused: Option<usize> = None;
        for (index, op) in batch.acquires.iter().enumerate() {
            // The same request, refused a moment ago in this very step, is refused again.
            let same = last_refused.filter(|at| same_request(&batch.acquires[*at], op));
            let answer = same
                .map_or_else(|| self.acquire(names.get(op.shard), op, &calendar), |at| acquires[at].clone());
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
        self.forget(FORGET_AT_ONCE + batch.settles.len() + batch.renews.len() + batch.acquires.len());
        Some(Reply { now, settles, renews, acquires })
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

    fn acquire(&mut self, shard: Option<&Arc<str>>, op: &Acquire, calendar: &Calendar) -> Acquired {
        let missing = || Acquired(AcquireState::Missing, 0, String::new(), String::new());
        let Some(shard) = shard.filter(|shard| self.shards.contains_key(*shard)) else { return missing() };
        let slot_of = |id: &String| self.slots.get(id.as_str()).copied();
        let applied = |slot: usize| self.accounts[slot].1.is_applied();
        if !op.common.iter().all(|id| slot_of(id).is_some_and(applied)) {
            return missing();
        }
        let need = Need { permits: op.permits, tokens: op.tokens };
        let common: Vec<usize> = op.common.iter().map(|id| self.slot(id)).collect();
        let in_common = self.evaluate(&common, need);
        let found = if op.only.is_empty() {
            self.search(shard, op, need)
        } else {
            self.search_named(shard, op, need)
        };
        let Some(found) = found else { return missing() };
        let obstacle = match found {
            Ok(index) if in_common.0.at <= self.now => {
                return self.grant(shard, index, op, &common, calendar);
            }
            Ok(_) => Obstacle { at: in_common.0.at, account: in_common.1, cause: in_common.0.cause },
            Err(Some(obstacle)) if obstacle.at >= in_common.0.at => obstacle,
            Err(Some(_)) => Obstacle { at: in_common.0.at, account: in_common.1, cause: in_common.0.cause },
            Err(None) => return Acquired(AcquireState::Refused, FOREVER, String::new(), "none".to_owned()),
        };
        let (id, account) = &self.accounts[obstacle.account];
        Acquired(AcquireState::Refused, obstacle.at, id.to_string(), account.describe(obstacle.cause))
    }

    /// The first candidate in order that can serve, or the obstacle that ends first; `None` if a
    /// candidate's limits are not known.
    fn search(&mut self, name: &Arc<str>, op: &Acquire, need: Need) -> Option<Found> {
        let mut best: Option<Obstacle> = None;
        let mut tries = 0;
        self.promote(name);
        loop {
            let mut last = None;
            while tries < MAX_TRIES
                && let Some(place) = self.shard(name).next_ready(last)
            {
                last = Some(place);
                let index = place.1;
                if op.exclude.iter().any(|excluded| **excluded == *self.shard(name).get(index).name) {
                    continue;
                }
                tries += 1;
                let (ready, account) = self.evaluate_candidate(name, index, need)?;
                if ready.at <= self.now {
                    return Some(Ok(index));
                }
                if ready.smallest_at > self.now {
                    self.shard_mut(name).park(index, ready.smallest_at);
                    self.changes.candidates.insert((name.clone(), index));
                }
                keep_earlier(&mut best, ready, account);
            }
            if tries < MAX_TRIES && self.promote(name) > 0 {
                continue;
            }
            if self.shard(name).epoch == self.epoch {
                break;
            }
            self.rescan(name);
        }
        // An instant in the parked order is the earliest that its candidate can be ready: who is
        // parked for longer than the best found cannot better it.
        let mut last = None;
        for _ in 0..MAX_TRIES {
            let Some(place) = self.shard(name).next_parked(last) else { break };
            if best.as_ref().is_some_and(|best| place.0 >= best.at) {
                break;
            }
            last = Some(place);
            let (at, index) = place;
            if op.exclude.iter().any(|excluded| **excluded == *self.shard(name).get(index).name) {
                continue;
            }
            let (ready, account) = self.evaluate_candidate(name, index, need)?;
            if ready.at <= self.now {
                return Some(Ok(index));
            }
            if ready.smallest_at > at {
                self.shard_mut(name).park(index, ready.smallest_at);
                self.changes.candidates.insert((name.clone(), index));
            }
            keep_earlier(&mut best, ready, account);
        }
        Some(Err(best))
    }

    /// The same among the candidates that the request names.
    fn search_named(&self, name: &Arc<str>, op: &Acquire, need: Need) -> Option<Found> {
        let shard = self.shard(name);
        let named =
            op.only.iter().filter(|only| !op.exclude.contains(only)).filter_map(|only| shard.find(only));
        let mut order: Vec<(i64, usize)> = named.map(|index| (shard.rank(index), index)).collect();
        order.sort_unstable();
        order.dedup();
        let mut best = None;
        for (_, index) in order {
            let (ready, account) = self.evaluate_candidate(name, index, need)?;
            if ready.at <= self.now {
                return Some(Ok(index));
            }
            keep_earlier(&mut best, ready, account);
        }
        Some(Err(best))
    }

    fn grant(
        &mut self,
        name: &Arc<str>,
        index: usize,
        op: &Acquire,
        common: &[usize],
        calendar: &Calendar,
    ) -> Acquired {
        let now = self.now;
        let charged =
            Charged { granted_at: now, send_within: op.send_within, expires_at: whole_second(now + op.ttl) };
        let shard = self.shards.get_mut(name).expect("acquire checked that the shard is there");
        shard.advance(index);
        let candidate = shard.get(index);
        for &slot in candidate.limited.iter().chain(common).chain(&candidate.sparse) {
            let account = &mut self.accounts[slot].1;
            for window in &mut account.windows {
                let amount = window.amount(op.permits, op.tokens);
                window.add(now, window.end_of(charged, calendar), amount);
            }
            if account.probing {
                account.probe_until = charged.expires_at;
                account.probe_lease.clone_from(&op.lease);
            }
            if account.probing || !account.windows.is_empty() {
                self.changes.accounts.insert(slot);
            }
        }
        let candidate = candidate.name.clone();
        self.changes.candidates.insert((name.clone(), index));
        self.changes.shards.insert(name.clone());
        let row = LeaseRow::Held(HeldLease {
            shard: name.clone(),
            candidate: candidate.clone(),
            granted_at: now,
            send_within: op.send_within,
            expires_at: charged.expires_at,
            permits: op.permits,
            tokens: op.tokens,
            common: op.common.clone(),
            epoch: self.epoch,
        });
        self.keep_lease(op.lease.as_str().into(), charged.expires_at + REMEMBER_EXPIRED, row);
        Acquired(AcquireState::Granted, charged.expires_at, candidate.to_string(), String::new())
    }

    fn settle(&mut self, shard: Option<&Arc<str>>, op: &Settle, calendar: &Calendar) -> Settled {
        let now = self.now;
        let Some((_, row)) = self.leases.get(op.lease.as_str()) else {
            return Settled(SettleState::Unknown, String::new(), String::new());
        };
        let held = match row.clone() {
            LeaseRow::Settled { candidate, memo } => {
                return Settled(SettleState::Already, candidate.to_string(), memo);
            }
            LeaseRow::Held(held) => held,
        };
        let Some(shard) = shard.filter(|shard| held.shard == **shard) else {
            return Settled(SettleState::Unknown, String::new(), String::new());
        };
        let HeldLease {
            candidate, granted_at, send_within, expires_at, permits, tokens, common, epoch, ..
        } = held;
        let charged = Charged { granted_at, send_within, expires_at };
        let (slots, index) = self.accounts_of(shard, &candidate, &common);
        // Whether an account can serve earlier than it could: then an instant in the parked order may
        // be too late, also where the account stays full.
        let mut freed = false;
        for &slot in &slots {
            let account = &mut self.accounts[slot].1;
            let before = account.smallest_at(now);
            let mut changed = account.lease_ended(&op.lease, granted_at, op.clear);
            for window in account.windows.iter_mut().filter(|window| epoch >= window.since) {
                let end = window.end_of(charged, calendar);
                let amount = window.amount(permits, tokens);
                let used = match window.dimension {
                    Dimension::InputTokens => op.input_tokens,
                    Dimension::TotalTokens => op.total_tokens,
                    Dimension::Requests | Dimension::InFlight => -1,
                };
                let correction = match op.charge {
                    _ if is_held(window) => -amount,
                    Charge::Refund => -amount,
                    Charge::TrueUp if used >= 0 => used - amount,
                    Charge::TrueUp | Charge::Keep => 0,
                };
                match correction {
                    0 => continue,
                    more if more > 0 => window.add(now, end, more),
                    less => window.subtract(now, end, -less),
                }
                changed = true;
            }
            let (id, account) = &mut self.accounts[slot];
            for block in op.blocks.iter().filter(|block| has_role(id, &block.role)) {
                account.block(now, granted_at, calendar.day_end(granted_at), block);
                changed = true;
            }
            freed |= account.smallest_at(now) < before;
            if changed {
                self.changes.accounts.insert(slot);
            }
        }
        if freed {
            self.epoch += 1;
            if let Some(index) = index
                && matches!(self.shard(shard).get(index).place, Place::Parked(..))
            {
                self.shard_mut(shard).unpark(index);
                self.changes.candidates.insert((shard.clone(), index));
            }
        }
        let state = if expires_at <= now { SettleState::Late } else { SettleState::Settled };
        let row = LeaseRow::Settled { candidate: candidate.clone(), memo: op.memo.clone() };
        self.keep_lease(op.lease.as_str().into(), now + REMEMBER_SETTLED, row);
        Settled(state, candidate.to_string(), String::new())
    }

    fn renew(&mut self, shard: Option<&Arc<str>>, op: &Renew) -> Renewed {
        let now = self.now;
        let Some((_, row)) = self.leases.get_mut(op.lease.as_str()) else {
            return Renewed(RenewState::Unknown, 0);
        };
        let LeaseRow::Held(held) = row else { return Renewed(RenewState::Ended, 0) };
        let Some(shard) = shard.filter(|shard| held.shard == **shard) else {
            return Renewed(RenewState::Unknown, 0);
        };
        let old = held.expires_at;
        if old <= now {
            return Renewed(RenewState::Ended, 0);
        }
        let until = old.max(whole_second(now + op.ttl));
        held.expires_at = until;
        let HeldLease { candidate, permits, tokens, common, epoch, .. } = held.clone();
        let row = row.clone();
        for slot in self.accounts_of(shard, &candidate, &common).0 {
            let account = &mut self.accounts[slot].1;
            let mut changed = false;
            for window in account.windows.iter_mut().filter(|window| is_held(window) && epoch >= window.since)
            {
                let amount = window.amount(permits, tokens);
                window.subtract(now, old, amount);
                window.add(now, until, amount);
                changed = true;
            }
            if account.probing && account.probe_lease == op.lease {
                account.probe_until = until;
                changed = true;
            }
            if changed {
                self.changes.accounts.insert(slot);
            }
        }
        self.keep_lease(op.lease.as_str().into(), until + REMEMBER_EXPIRED, row);
        Renewed(RenewState::Renewed, until)
    }

    /// Returns parked candidates whose instant has come; how many.
    fn promote(&mut self, name: &Arc<str>) -> usize {
        let mut promoted = 0;
        while promoted < MAX_TRIES
            && let Some((at, index)) = self.shard(name).next_parked(None)
            && at <= self.now
        {
            self.shard_mut(name).unpark(index);
            self.changes.candidates.insert((name.clone(), index));
            promoted += 1;
        }
        promoted
    }

    /// Checks parked candidates again, because capacity came back before it was due.
    fn rescan(&mut self, name: &Arc<str>) {
        let mut last = None;
        let mut places = Vec::new();
        while places.len() < MAX_TRIES
            && let Some(place) = self.shard(name).next_parked(last)
        {
            last = Some(place);
            places.push(place);
        }
        for (at, index) in places {
            let Some((ready, _)) = self.evaluate_candidate(name, index, SMALLEST) else { continue };
            if ready.smallest_at <= self.now {
                self.shard_mut(name).unpark(index);
            } else if ready.smallest_at != at {
                self.shard_mut(name).park(index, ready.smallest_at);
            } else {
                continue;
            }
            self.changes.candidates.insert((name.clone(), index));
        }
        let epoch = self.epoch;
        self.shard_mut(name).epoch = epoch;
        self.changes.shards.insert(name.clone());
    }

    fn evaluate_candidate(&self, name: &Arc<str>, index: usize, need: Need) -> Option<(Readiness, usize)> {
        let candidate = self.shard(name).get(index);
        // Limits that are not known may be any: without them nothing is granted.
        if !candidate.limited.iter().all(|slot| self.accounts[*slot].1.is_applied()) {
            return None;
        }
        let (mut ready, mut account) = self.evaluate(&candidate.limited, need);
        let (sparse, in_sparse) = self.evaluate(&candidate.sparse, need);
        ready.smallest_at = ready.smallest_at.max(sparse.smallest_at);
        if sparse.at > ready.at {
            account = in_sparse;
            ready.at = sparse.at;
            ready.cause = sparse.cause;
        }
        Some((ready, account))
    }

    /// When all of the accounts can serve, and the one that is in the way longest.
    fn evaluate(&self, slots: &[usize], need: Need) -> (Readiness, usize) {
        let mut all = Readiness { at: self.now, smallest_at: self.now, cause: Cause::Nothing };
        let mut account = 0;
        for &slot in slots {
            let one = self.accounts[slot].1.readiness(self.now, need);
            all.smallest_at = all.smallest_at.max(one.smallest_at);
            if one.at > all.at {
                account = slot;
                all.at = one.at;
                all.cause = one.cause;
            }
        }
        (all, account)
    }

    fn accounts_of(
        &self,
        shard: &Arc<str>,
        candidate: &str,
        common: &[String],
    ) -> (Vec<usize>, Option<usize>) {
        let mut slots = Vec::new();
        let index = self.shards.get(shard).and_then(|shard| shard.find(candidate));
        if let Some(index) = index {
            let candidate = self.shard(shard).get(index);
            slots.extend(candidate.limited.iter().chain(&candidate.sparse));
        }
        slots.extend(common.iter().filter_map(|id| self.slots.get(id.as_str())));
        (slots, index)
    }

    fn keep_lease(&mut self, id: Arc<str>, until: Millis, row: LeaseRow) {
        self.changes.leases.insert(id.clone());
        if let Some((old, _)) = self.leases.insert(id.clone(), (until, row)) {
            self.forget.remove(&(old, id.clone()));
        }
        self.forget.insert((until, id));
    }

    fn forget(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let Some((until, _)) = self.forget.first() else { break };
            if *until > self.now {
                break;
            }
            let (_, id) = self.forget.pop_first().expect("a first one was seen");
            self.leases.remove(&id);
            self.changes.leases.insert(id);
        }
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
        self.accounts.push((id.clone(), Account::default()));
        self.slots.insert(id, self.accounts.len() - 1);
        self.accounts.len() - 1
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
        self.accounts[slot].1 = account;
        slot
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

/// Leases expire on whole seconds, so that held windows stay short.
fn whole_second(at: Millis) -> Millis {
    (at + 999) / 1000 * 1000
}

fn same_request(a: &Acquire, b: &Acquire) -> bool {
    (a.shard, a.permits, a.tokens, &a.only, &a.exclude, &a.common)
        == (b.shard, b.permits, b.tokens, &b.only, &b.exclude, &b.common)
}

/// Whether an account has the role: its id begins with that one letter.
fn has_role(id: &str, role: &str) -> bool {
    id.chars().next().is_some_and(|first| role.chars().eq([first]))
}

/// Keeps the obstacle that ends first; among those that never end, a request too large says more
/// than a key that is blocked.
fn keep_earlier(best: &mut Option<Obstacle>, ready: Readiness, account: usize) {
    let says_more = |best: &Obstacle| {
        ready.at == FOREVER && best.at == FOREVER && exceeds(ready.cause) && !exceeds(best.cause)
    };
    if best.as_ref().is_none_or(|best| ready.at < best.at || says_more(best)) {
        *best = Some(Obstacle { at: ready.at, account, cause: ready.cause });
    }
}

fn exceeds(cause: Cause) -> bool {
    matches!(cause, Cause::Exceeds(..))
}
