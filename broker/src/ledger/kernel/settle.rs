//! The end and the extension of a lease, and what an operator or a check changes.

use std::sync::Arc;

use super::{HeldLease, Kernel, LeaseRow, REMEMBER_EXPIRED, REMEMBER_SETTLED, whole_second};
use crate::ledger::{account::is_held, calendar::Calendar, shard::Place, types::*, window::Charged};

impl Kernel {
    pub(super) fn settle(&mut self, shard: Option<&Arc<str>>, op: &Settle, calendar: &Calendar) -> Settled {
        let now = self.now;
        let Some((_, row)) = self.leases.get(op.lease.as_str()) else { return unknown() };
        let held = match row.clone() {
            LeaseRow::Settled { candidate, memo } => {
                return Settled(SettleState::Already, candidate.to_string(), memo, String::new(), false);
            }
            LeaseRow::Held(held) => held,
        };
        let Some(shard) = shard.filter(|shard| held.shard == **shard) else { return unknown() };
        let HeldLease { candidate, granted_at, send_within, expires_at, amounts, common, epoch, .. } = &held;
        let charged = Charged { granted_at: *granted_at, send_within: *send_within, expires_at: *expires_at };
        let (slots, index) = self.accounts_of(shard, candidate, common);
        // Whether an account can serve earlier than it could: then an instant in the parked order may
        // be too late, also where the account stays full.
        let (mut freed, mut news, mut begun) = (false, false, false);
        for &slot in &slots {
            let account = &mut self.accounts[slot].1;
            let before = account.smallest_at(now);
            let mut changed = account.lease_ended(&op.lease, now, *granted_at, op.clear);
            let windows = account.windows.iter_mut().enumerate();
            for (at, window) in windows.filter(|(_, window)| *epoch >= window.since) {
                let end = window.end_of(charged, calendar);
                let amount = amounts.of(window.dimension);
                let used = match window.dimension {
                    Dimension::InputTokens => op.input_tokens,
                    Dimension::TotalTokens => op.total_tokens,
                    Dimension::Spend => op.spend,
                    Dimension::Requests | Dimension::InFlight => -1,
                };
                let correction = match op.charge {
                    _ if is_held(window) => -amount,
                    Charge::Refund => -amount,
                    Charge::TrueUp if used >= 0 => used - amount,
                    Charge::TrueUp | Charge::Keep => 0,
                };
                let by = if correction > 0 {
                    window.add(now, end, correction)
                } else {
                    -window.subtract(now, end, -correction)
                };
                self.changes.count(slot, at, end, by);
            }
            let (id, account) = &mut self.accounts[slot];
            for block in op.blocks.iter().filter(|block| has_role(id, &block.role)) {
                account.block(now, *granted_at, calendar.day_end(*granted_at), block);
                changed = true;
            }
            if has_role(id, "k") && op.health != 0 {
                changed |= account.heal(op.health);
            }
            if has_role(id, "q") {
                let known = account.windows.len();
                for limit in &op.learned {
                    news |= account.learn(limit, self.epoch + 1);
                    changed = true;
                }
                // No lease of this epoch was counted in a window that begins now.
                begun |= account.windows.len() > known;
            }
            freed |= account.smallest_at(now) < before;
            // A passing account is kept by when all that it counts has ended.
            if changed || account.passing {
                self.changes.accounts.insert(slot);
            }
        }
        self.record(&held, &op.outcome, used(op, *amounts), calendar);
        let HeldLease { candidate, expires_at, note, .. } = held;
        self.epoch += i64::from(begun);
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
        Settled(state, candidate.to_string(), String::new(), note, news)
    }

    /// Changes the standing of an account.
    pub(super) fn edit(&mut self, op: &Edit) -> bool {
        let now = self.now;
        let slot = self.slot(&op.account);
        let account = &mut self.accounts[slot].1;
        let changed = match op.action {
            EditAction::Reset => account.unblock(now, false),
            EditAction::Recover => account.unblock(now, true),
            EditAction::Unlearn => account.unlearn(),
            EditAction::Block => {
                let block = Block {
                    role: String::new(),
                    steps: vec![op.length],
                    until_day_end: false,
                    probe: true,
                    reason: op.reason.clone(),
                };
                account.block(now, now, now, &block);
                true
            }
        };
        if changed {
            self.changes.accounts.insert(slot);
            // Who was parked may be ready now.
            self.epoch += 1;
        }
        changed
    }

    pub(super) fn renew(&mut self, shard: Option<&Arc<str>>, op: &Renew) -> Renewed {
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
        let HeldLease { candidate, amounts, common, epoch, .. } = held.clone();
        let row = row.clone();
        for slot in self.accounts_of(shard, &candidate, &common).0 {
            let account = &mut self.accounts[slot].1;
            let mut changed = account.passing;
            let windows = account.windows.iter_mut().enumerate();
            for (at, window) in windows.filter(|(_, window)| is_held(window) && epoch >= window.since) {
                let amount = amounts.of(window.dimension);
                self.changes.count(slot, at, old, -window.subtract(now, old, amount));
                self.changes.count(slot, at, until, window.add(now, until, amount));
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
}

/// Whether an account has the role: its id begins with that one letter.
fn has_role(id: &str, role: &str) -> bool {
    id.chars().next().is_some_and(|first| role.chars().eq([first]))
}

fn unknown() -> Settled {
    Settled(SettleState::Unknown, String::new(), String::new(), String::new(), false)
}

/// What a settled lease used: what is known of it, else what it was charged.
fn used(op: &Settle, charged: Amounts) -> Used {
    if op.charge == Charge::Refund {
        return Used(1, 0, 0, 0, 0, 0);
    }
    let known =
        |used: i64, charged: i64| if op.charge == Charge::TrueUp && used >= 0 { used } else { charged };
    let tokens = (known(op.input_tokens, charged.input), known(op.total_tokens, charged.total));
    Used(1, charged.permits, tokens.0, tokens.1, known(op.spend, charged.spend), 0)
}
