//! Batches: what the broker asks of the ledger, and what becomes of the answers.

use std::io::Write;

use keybroker::{
    gemini,
    lease_id::LeaseId,
    ledger::{
        Acquire, AcquireState, Acquired, Batch, FOREVER, Millis, Renew, RenewState, Reply, Settle,
        USAGE_MARK, calendar::Calendar, kernel::REMEMBER_EXPIRED,
    },
    pool::{Report, Usage, settle},
};

use super::{Lease, Pending, Run};
use crate::{events::Event, fate::Fate, holds::Granted, lane::Refused, setting::MINUTE};

/// For how long the broker's calendar is used before it is made anew.
const CALENDAR_LIFE: i64 = 10 * MINUTE;

impl Run<'_> {
    /// Runs what a pool has to do as one batch.
    pub(super) fn batch(&mut self, pool: usize) {
        let now = self.now;
        let Pending { settles, renews, mut asks } = std::mem::take(&mut self.pools[pool].pending);
        if !settles.is_empty() {
            // Reports may make room, and go first: whoever waits asks again.
            let waiting = self.lanes.iter().enumerate();
            let waiting = waiting.filter(|(_, lane)| lane.pool == pool && lane.refused.is_some());
            asks.extend(waiting.map(|(number, _)| number));
        }
        asks.retain(|lane| !self.lanes[*lane].queue.is_empty());
        let mut asks: Vec<usize> = asks.into_iter().collect();
        asks.sort_by_key(|lane| (self.lanes[*lane].queue[0].arrived, *lane));
        let calendar = self.calendar_now();
        let mut batch = Batch::empty(&self.pools[pool].ledger_id, now, &calendar);
        for &lease in &settles {
            let op = self.settle_op(pool, lease);
            let shard = index_of(&mut batch.shards, &self.lanes[self.leases[lease].lane].shard);
            batch.settles.push(Settle { shard, ..op });
        }
        for &lease in &renews {
            let shard = index_of(&mut batch.shards, &self.lanes[self.leases[lease].lane].shard);
            let ttl = self.pools[pool].ttl;
            batch.renews.push(Renew { lease: self.leases[lease].id.clone(), shard, ttl });
        }
        for (nth, &lane) in asks.iter().enumerate() {
            let op = self.acquire_op(pool, lane, nth, &mut batch);
            batch.acquires.push(op);
        }
        let name = self.pools[pool].name.clone();
        let reply = self.ledgers.execute(&name, &batch);
        self.counts.batches += 1;
        self.take_in(pool, &batch, &reply, &settles, &renews, &asks);
    }

    pub(super) fn calendar_now(&mut self) -> Calendar {
        if self.now - self.calendar.0 >= CALENDAR_LIFE {
            self.calendar = (self.now, (self.stretch.calendar)(self.stretch.day, self.now));
        }
        self.calendar.1.clone()
    }

    pub(super) fn settle_op(&self, pool: usize, lease: usize) -> Settle {
        let Lease { id, lane, answer, request, .. } = &self.leases[lease];
        let answer = answer.as_ref().expect("what is reported has an answer");
        let outcome = answer.outcome();
        let served = matches!(outcome, gemini::Outcome::Success);
        let usage = Usage {
            input_tokens: served.then_some(request.actual.input),
            cached_tokens: None,
            total_tokens: served.then_some(request.actual.total),
        };
        let lease_id = LeaseId { pool: &self.pools[pool].name, shard: &self.lanes[*lane].shard, unique: id };
        let report = Report { lease: lease_id, outcome, usage };
        let pool = self.setting.pool(&self.pools[pool].name);
        settle(pool, &self.setting.catalogue, &report, &gemini::read(&outcome))
    }

    pub(super) fn acquire_op(&self, pool: usize, lane: usize, nth: usize, batch: &mut Batch) -> Acquire {
        let (at_work, lane) = (&self.pools[pool], &self.lanes[lane]);
        let common = lane.commons.iter().map(|spec| {
            batch.commons.iter().position(|known| known == spec).unwrap_or_else(|| {
                batch.commons.push(spec.clone());
                batch.commons.len() - 1
            })
        });
        let common = common.collect();
        let request = &lane.queue[0];
        Acquire {
            lease: format!("{}-{nth}", self.counts.batches),
            shard: index_of(&mut batch.shards, &lane.shard),
            amounts: request.bound,
            ttl: at_work.ttl,
            send_within: at_work.send_within,
            only: Vec::new(),
            exclude: request.exclude.clone(),
            common,
            usage: format!("{}{USAGE_MARK}{}", lane.source.consumer, lane.model),
            note: String::new(),
        }
    }

    pub(super) fn take_in(
        &mut self,
        pool: usize,
        batch: &Batch,
        reply: &Reply,
        settles: &[usize],
        renews: &[usize],
        asks: &[usize],
    ) {
        if reply.now != self.now {
            self.wrong.push(format!("the ledger's clock is {}, not {}", reply.now, self.now));
        }
        for ((&lease, op), answer) in settles.iter().zip(&batch.settles).zip(&reply.settles) {
            self.settled(pool, lease, op, answer);
        }
        for (&lease, answer) in renews.iter().zip(&reply.renews) {
            if answer.0 == RenewState::Renewed && !self.leases[lease].ended {
                let until = answer.1;
                self.pools[pool].held.remove(&(self.leases[lease].expires_at, lease));
                self.pools[pool].held.insert((until, lease));
                self.leases[lease].expires_at = until;
                self.holds.renewed(lease, until);
                self.counts.renewed += 1;
            } else if !self.leases[lease].ended {
                self.wrong
                    .push(format!("{}: {} was not renewed: {answer:?}", self.now, self.leases[lease].id));
            }
        }
        for ((&lane, op), answer) in asks.iter().zip(&batch.acquires).zip(&reply.acquires) {
            self.acquired(pool, lane, op, answer);
        }
        self.forget(pool);
    }

    pub(super) fn acquired(&mut self, pool: usize, lane: usize, op: &Acquire, answer: &Acquired) {
        let now = self.now;
        if self.stretch.traced {
            let _ = writeln!(self.trace, "{now} asks {lane} {} {answer:?}", op.lease);
        }
        self.touched.insert(lane);
        let Acquired(state, at, who, why) = answer;
        match state {
            AcquireState::Granted => self.granted(pool, lane, op, *at, who, why),
            AcquireState::Refused => {
                self.counts.refused += 1;
                if *at <= now || *at >= FOREVER {
                    self.wrong.push(format!("{now}: lane {lane} is refused until {at} by {who}: {why}"));
                    return;
                }
                let by_plan = who.starts_with("c/");
                self.lanes[lane].refused = Some(Refused { until: *at, by_plan });
                self.events.plan(*at, Event::AsksAgain(lane));
            }
            AcquireState::Missing => {
                self.wrong.push(format!("{now}: lane {lane} is told that {who} is missing"))
            }
        }
    }

    pub(super) fn granted(
        &mut self,
        pool: usize,
        lane: usize,
        op: &Acquire,
        expires_at: Millis,
        who: &str,
        why: &str,
    ) {
        let now = self.now;
        self.counts.leases += 1;
        let mut request = self.lanes[lane].queue.pop_front().expect("who asks has a request");
        request.tries += 1;
        request.exclude.clear();
        let key = self.setting.key_number(who);
        let over = why.starts_with("over:");
        self.counts.over_plan += usize::from(over);
        let fate = Fate::draw(&mut self.rng);
        let number = self.leases.len();
        let source = &self.lanes[lane].source;
        let granted = Granted { lane, source, key, bound: request.bound, expires_at, flagged: over };
        self.holds.granted(number, now, &granted);
        if self.dead.contains(&key) {
            self.wrong.push(format!("{now}: key {who} is leased after Google refused it for good"));
        }
        let of_project = (self.setting.keys[key].project.clone(), self.lanes[lane].model.clone());
        if self.spent_until.get(&of_project).is_some_and(|until| now < *until) {
            self.wrong.push(format!("{now}: key {who} is leased after Google refused it for the day"));
        }
        self.pools[pool].held.insert((expires_at, number));
        self.leases.push(Lease {
            id: op.lease.clone(),
            lane,
            key,
            request,
            granted_at: now,
            expires_at,
            over,
            fate,
            answer: None,
            reached: false,
            ended: false,
            reported: false,
        });
        self.send(number, op.send_within);
        self.new_first(lane);
    }

    /// After a batch the ledger gives up for lost what was due, though not too much at once: a report that
    /// comes before it gets there still counts.
    pub(super) fn forget(&mut self, pool: usize) {
        let due = self.now - REMEMBER_EXPIRED;
        while let Some(first) = self.pools[pool].held.first().copied().filter(|first| first.0 <= due) {
            self.pools[pool].held.remove(&first);
            self.holds.ended(first.1, self.now);
            self.lost.push((first.1, self.now));
        }
    }
}

fn index_of(all: &mut Vec<String>, one: &str) -> usize {
    all.iter().position(|known| known == one).unwrap_or_else(|| {
        all.push(one.to_owned());
        all.len() - 1
    })
}
