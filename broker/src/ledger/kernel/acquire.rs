//! Grants one lease, or says when one can be granted.

use std::sync::Arc;

use super::{HeldLease, Kernel, LeaseRow, MAX_TRIES, REMEMBER_EXPIRED, whole_second};
use crate::ledger::{
    account::{Cause, FULL_HEALTH, Ramps, Readiness, SMALLEST},
    calendar::Calendar,
    types::*,
    window::Charged,
};

/// What a request asks of a candidate.
#[derive(Clone, Copy)]
struct Need {
    amounts: Amounts,
    /// When the ramp began of the accounts that the request names, such as its model's; 0 if there is none.
    ramp_from: Millis,
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
    pub(super) fn acquire(
        &mut self,
        shard: Option<&Arc<str>>,
        op: &Acquire,
        commons: &[usize],
        calendar: &Calendar,
    ) -> Acquired {
        let missing = || Acquired(AcquireState::Missing, 0, String::new(), String::new());
        let Some(shard) = shard.filter(|shard| self.shards.contains_key(*shard)) else { return missing() };
        let Some(common) =
            op.common.iter().map(|index| commons.get(*index).copied()).collect::<Option<Vec<_>>>()
        else {
            return missing();
        };
        let in_common = self.evaluate(&common, op.amounts, Ramps::default());
        let need = Need { amounts: op.amounts, ramp_from: self.ramp(&common) };
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
        let need = op.amounts;
        let over = common.iter().find_map(|slot| {
            let account = &self.accounts[*slot].1;
            Some(format!("over:{}", account.describe(account.exceeded(now, need)?)))
        });
        let shard = self.shards.get_mut(name).expect("acquire checked that the shard is there");
        let candidate = shard.get(index);
        for &slot in candidate.limited.iter().chain(common).chain(&candidate.sparse) {
            let account = &mut self.accounts[slot].1;
            for (at, window) in account.windows.iter_mut().enumerate() {
                let end = window.end_of(charged, calendar);
                self.changes.count(slot, at, end, window.add(now, end, need.of(window.dimension)));
            }
            if account.probing {
                account.probe_until = charged.expires_at;
                account.probe_lease.clone_from(&op.lease);
            }
            // A passing account is kept by when all that it counts has ended.
            if account.probing || account.passing {
                self.changes.accounts.insert(slot);
            }
        }
        let candidate = candidate.name.clone();
        let (health, share) = (self.health(name, index), self.share(name, index, need));
        self.shard_mut(name).advance(index, now, health, share);
        self.changes.candidates.insert((name.clone(), index));
        self.changes.shards.insert(name.clone());
        let row = LeaseRow::Held(HeldLease {
            shard: name.clone(),
            candidate: candidate.clone(),
            granted_at: now,
            send_within: op.send_within,
            expires_at: charged.expires_at,
            amounts: need,
            common: common.iter().map(|slot| self.accounts[*slot].0.to_string()).collect(),
            epoch: self.epoch,
            usage: op.usage.clone(),
            note: op.note.clone(),
            over: over.is_some(),
        });
        self.keep_lease(op.lease.as_str().into(), charged.expires_at + REMEMBER_EXPIRED, row);
        Acquired(AcquireState::Granted, charged.expires_at, candidate.to_string(), over.unwrap_or_default())
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
        let smallest = Need { amounts: SMALLEST, ramp_from: 0 };
        for (at, index) in places {
            let Some((ready, _)) = self.evaluate_candidate(name, index, smallest) else { continue };
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
        let own = self.ramp(&candidate.limited).max(self.ramp(&candidate.sparse));
        let ramps = Ramps { own, all: own.max(need.ramp_from) };
        let (mut ready, mut account) = self.evaluate(&candidate.limited, need.amounts, ramps);
        let (sparse, in_sparse) = self.evaluate(&candidate.sparse, need.amounts, Ramps::default());
        ready.smallest_at = ready.smallest_at.max(sparse.smallest_at);
        if sparse.at > ready.at {
            account = in_sparse;
            ready.at = sparse.at;
            ready.cause = sparse.cause;
        }
        Some((ready, account))
    }

    /// When the last ramp began of those of the accounts that last; 0 if there is none.
    fn ramp(&self, slots: &[usize]) -> Millis {
        slots.iter().map(|slot| self.accounts[*slot].1.ramp(self.now)).max().unwrap_or(0)
    }

    /// When all of the accounts can serve, and the one that is in the way longest.
    fn evaluate(&self, slots: &[usize], need: Amounts, ramps: Ramps) -> (Readiness, usize) {
        let mut all = Readiness { at: self.now, smallest_at: self.now, cause: Cause::Nothing };
        let mut account = 0;
        for &slot in slots {
            let one = self.accounts[slot].1.readiness(self.now, need, ramps);
            all.smallest_at = all.smallest_at.max(one.smallest_at);
            if one.at > all.at {
                account = slot;
                all.at = one.at;
                all.cause = one.cause;
            }
        }
        (all, account)
    }

    /// The health of a candidate's key, where the order asks for it.
    fn health(&self, name: &Arc<str>, index: usize) -> i64 {
        let shard = self.shard(name);
        if shard.order != Order::Health {
            return FULL_HEALTH;
        }
        let candidate = shard.get(index);
        let accounts = candidate.limited.iter().chain(&candidate.sparse).map(|slot| &self.accounts[*slot]);
        let damage = accounts.filter(|(id, _)| id.starts_with('k')).map(|(_, account)| account.damage).max();
        FULL_HEALTH - damage.unwrap_or(0)
    }

    /// How much of a candidate's limits a request takes, by the limit of which it takes most; where the
    /// order asks for it.
    fn share(&self, name: &Arc<str>, index: usize, need: Amounts) -> f64 {
        let shard = self.shard(name);
        if shard.order != Order::LeastUtilized {
            return 0.0;
        }
        let windows = shard.get(index).limited.iter().flat_map(|slot| &self.accounts[*slot].1.windows);
        let limited = windows.filter(|window| window.limit < UNLIMITED && window.span != Span::Held);
        limited.map(|window| need.of(window.dimension) as f64 / window.limit as f64).fold(0.0, f64::max)
    }
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
