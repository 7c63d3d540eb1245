//! Reports: what the ledger says of them, and what they lead to.

use std::{collections::BTreeSet, io::Write, time::Duration};

use keybroker::{
    gemini::{self, Action, Scope},
    ledger::{Amounts, FOREVER, Millis, Settle, SettleState, Settled, kernel::REMEMBER_EXPIRED},
};
use rand::RngExt;

use super::{Lease, Run, millis};
use crate::{
    demand::Request,
    events::Event,
    fate::{Answer, Fate, Kept},
    series::Leased,
    setting::{MINUTE, SECOND},
    usage::{self, Whose},
};

/// How often a request is sent at most.
const TRIES: u8 = 3;

impl Run<'_> {
    pub(super) fn settled(&mut self, pool: usize, number: usize, op: &Settle, answer: &Settled) {
        let now = self.now;
        let lease = &mut self.leases[number];
        if self.stretch.traced {
            let _ = writeln!(self.trace, "{now} reports {} {} {:?}", lease.id, op.outcome, answer.0);
        }
        let expected: &[SettleState] = match () {
            () if lease.reported => &[SettleState::Already],
            () if now < lease.expires_at => &[SettleState::Settled],
            () if now < lease.expires_at + REMEMBER_EXPIRED => &[SettleState::Late],
            () => &[SettleState::Late, SettleState::Unknown],
        };
        if !expected.contains(&answer.0) {
            self.wrong.push(format!("{now}: the report of {} is {:?}", lease.id, answer.0));
        }
        match answer.0 {
            SettleState::Settled => {}
            SettleState::Late => self.counts.late += 1,
            SettleState::Already => {
                self.counts.repeated += 1;
                if answer.2 != op.memo {
                    self.wrong.push(format!("{now}: {} is told {} and then {}", lease.id, op.memo, answer.2));
                }
                return;
            }
            SettleState::Unknown => return,
        }
        lease.reported = true;
        let held = (lease.expires_at, number);
        let told = lease.answer.clone().expect("what is reported has an answer");
        self.pools[pool].held.remove(&held);
        self.holds.ended(number, now);
        self.ends(number, Some(now).filter(|_| told.kept != Kept::Bound));
        self.record(number, now, told.outcome, told.kept);
        self.obey(number, &told);
    }

    /// A lease has ended; what it used may be known from now on.
    pub(super) fn ends(&mut self, number: usize, known_at: Option<Millis>) {
        let lease = &mut self.leases[number];
        lease.ended = true;
        let Request { bound, actual, .. } = lease.request;
        self.supply.ended(Leased {
            lane: lease.lane,
            key: lease.key,
            granted_at: lease.granted_at,
            flown_until: self.now.min(lease.expires_at),
            known_at,
            bound,
            sent: if lease.reached { actual } else { Amounts::default() },
        });
    }

    pub(super) fn record(&mut self, number: usize, at: Millis, outcome: &str, kept: Kept) {
        let lease = &self.leases[number];
        let (lane, place) = (&self.lanes[lease.lane], &self.setting.keys[lease.key]);
        let whose = Whose {
            consumer: lane.source.consumer,
            model: &lane.model,
            project: &place.project,
            key: &place.id,
            outcome,
        };
        let rows = self.rows.get_mut(&place.pool).expect("every pool has rows");
        let day_end = self.stretch.day.day_end(at);
        let Request { bound, actual, .. } = lease.request;
        usage::add(rows, day_end, whose, kept, bound, actual, lease.over);
    }

    /// Notes what is blocked by an answer, and does what is advised.
    fn obey(&mut self, number: usize, told: &Answer) {
        let decision = gemini::read(&told.outcome());
        let lease = &self.leases[number];
        if told.outcome == "ok" {
            let (project, model) = (&self.setting.keys[lease.key].project, &self.lanes[lease.lane].model);
            self.supply.served(self.now, project, model, lease.granted_at);
        }
        if told.outcome == "daily_quota" {
            let (project, model) = (&self.setting.keys[lease.key].project, &self.lanes[lease.lane].model);
            let until = self.stretch.day.day_end(lease.granted_at);
            self.spent_until.insert((project.clone(), model.clone()), until);
        }
        for block in &decision.blocks {
            self.block(number, block);
        }
        let lease = &self.leases[number];
        let gone = matches!(lease.fate, Fate::Late | Fate::RequestFault | Fate::Cancelled { .. });
        if told.outcome != "ok" && !gone && lease.request.tries < TRIES {
            let request = lease.request.clone();
            self.retry(lease.lane, lease.key, request, &decision.advice);
        }
    }

    fn block(&mut self, number: usize, block: &gemini::Block) {
        let now = self.now;
        let Lease { lane, key, granted_at, .. } = self.leases[number];
        let place = &self.setting.keys[key];
        let steps = &block.length.steps;
        let first = steps.first().copied().unwrap_or_default();
        let mut until = match steps.iter().max().copied().unwrap_or_default() {
            // No two keys of a project are lost.
            longest if longest >= gemini::FOREVER && first == Duration::ZERO => return,
            longest if longest >= gemini::FOREVER => FOREVER,
            longest => now + millis(longest),
        };
        if block.length.until_pacific_midnight {
            until = until.max(self.stretch.day.day_end(granted_at));
        }
        if block.scope == Scope::Key {
            if first >= gemini::FOREVER {
                self.dead.insert(key);
            }
            let keys = self.setting.keys.iter().enumerate();
            let others = keys.filter(|(other, _)| *other != key && !self.dead.contains(other));
            if others.filter(|(_, other)| other.project == place.project).count() > 0 {
                return;
            }
        }
        let concerned = self.setting.pool(&place.pool).projects.iter().filter(|project| match block.scope {
            Scope::Key | Scope::ProjectModel | Scope::Project => project.id == place.project,
            Scope::BillingAccount => project.billing_account == place.account,
            Scope::Model => true,
        });
        let pool = self.lanes[lane].pool;
        let of_pool = self.lanes.iter().filter(|lane| lane.pool == pool).map(|lane| &lane.model);
        let models: BTreeSet<&String> = match block.scope {
            Scope::ProjectModel | Scope::Model => [&self.lanes[lane].model].into(),
            Scope::Key | Scope::Project | Scope::BillingAccount => of_pool.collect(),
        };
        for project in concerned {
            for model in &models {
                self.supply.blocked(now, &project.id, model, until);
            }
        }
    }

    fn retry(&mut self, lane: usize, key: usize, mut request: Request, advice: &gemini::Advice) {
        let now = self.now;
        request.gives_up_at = request.gives_up_at.max(now + MINUTE);
        match advice.action {
            Action::RetryOtherKey => {
                request.exclude = vec![self.setting.keys[key].id.clone()];
                self.enqueue(lane, request, true);
            }
            Action::RetryAfter => {
                let wait = millis(advice.retry_after.unwrap_or_default()) + self.rng.random_range(0..SECOND);
                request.gives_up_at += wait;
                self.away.push((lane, Some(request)));
                self.events.plan(now + wait, Event::ComesBack(self.away.len() - 1));
            }
            Action::Done | Action::DoNotRetry => {}
        }
    }
}
