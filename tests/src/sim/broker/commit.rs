//! Group commit: while a call to a pool's ledger is under way, what comes in queues; then all of it goes in the next call.

use keybroker::ledger::{
    Acquire, AcquireState, Acquired, Batch, FOREVER, Millis, Renew, RenewState, Reply, Settle, SettleState,
    calendar::Calendar,
};

use super::{Flight, Job, LARGEST_BATCH, LEDGER_PATIENCE, index};
use crate::sim::{
    events::{Answer, Event, Grant},
    run::Run,
    setting::MINUTE,
};

impl Run {
    pub(super) fn enqueue(&mut self, broker: usize, pool: usize, job: Job) {
        self.brokers[broker].pools[pool].queue.push_back(job);
        self.commit(broker, pool);
    }

    /// If no call is under way, all that is queued goes in the next one.
    pub(in crate::sim) fn commit(&mut self, broker: usize, pool: usize) {
        let at_pool = &mut self.brokers[broker].pools[pool];
        if at_pool.flight.is_some() || at_pool.queue.is_empty() {
            return;
        }
        let most = at_pool.queue.len().min(LARGEST_BATCH);
        let jobs: Vec<Job> = at_pool.queue.drain(..most).collect();
        let calendar = self.calendar_of(broker);
        let it = &mut self.brokers[broker];
        let mut batch = Batch::empty(&it.pools[pool].ledger_id, 0, &calendar);
        let mut under_way = Vec::new();
        for job in jobs {
            match &job {
                // Whoever gave up meanwhile is not granted anything.
                Job::Acquire { call, .. } if !it.askers.contains_key(call) => continue,
                Job::Acquire { shard, op, commons, .. } => {
                    let shard = index(&mut batch.shards, shard);
                    let common = commons.iter().map(|common| index(&mut batch.commons, common)).collect();
                    batch.acquires.push(Acquire { shard, common, ..op.clone() });
                }
                Job::Settle { shard, op, .. } => {
                    let shard = index(&mut batch.shards, shard);
                    batch.settles.push(Settle { shard, ..op.clone() });
                }
                Job::Renew { shard, op, .. } => {
                    let shard = index(&mut batch.shards, shard);
                    batch.renews.push(Renew { shard, ..op.clone() });
                }
            }
            under_way.push(job);
        }
        if under_way.is_empty() {
            return self.commit(broker, pool);
        }
        it.calls += 1;
        it.operations += under_way.len() as u64;
        let (life, number) = (it.life, it.calls);
        it.pools[pool].flight = Some(Flight { number, jobs: under_way });
        if let Some(delay) = self.ledger_delay() {
            let event = Event::Calls { broker, life, flight: number, batch: Box::new(batch), pool };
            self.events.plan(self.now + delay, event);
        }
        let event = Event::LedgerTimesOut { broker, life, pool, flight: number };
        self.events.plan(self.now + LEDGER_PATIENCE, event);
    }

    /// The calendar by the broker's own clock, which may be off.
    pub(in crate::sim) fn calendar_of(&mut self, broker: usize) -> Calendar {
        let it = &mut self.brokers[broker];
        let clock = self.now + it.clock_off;
        match &it.calendar {
            Some((made, calendar)) if clock - made < MINUTE => calendar.clone(),
            _ => {
                let calendar = Calendar::around(clock);
                it.calendar = Some((clock, calendar.clone()));
                calendar
            }
        }
    }

    /// A call reaches the ledger, which runs it as one step.
    pub(in crate::sim) fn called(
        &mut self,
        broker: usize,
        life: u32,
        flight: u64,
        batch: &Batch,
        pool: usize,
    ) {
        let clock = self.now - self.set_back;
        let Some(reply) = self.seam.execute(pool, clock, batch) else { return };
        self.note_batch(broker, pool, batch, &reply);
        if let Some(delay) = self.ledger_delay() {
            let event = Event::Replies { broker, life, pool, flight, reply: Box::new(reply) };
            self.events.plan(self.now + delay, event);
        }
    }

    fn take_flight(&mut self, broker: usize, life: u32, pool: usize, flight: u64) -> Option<Flight> {
        let it = &mut self.brokers[broker];
        if !it.alive || it.life != life {
            return None;
        }
        it.pools[pool].flight.take_if(|known| known.number == flight)
    }

    /// A reply reaches the broker: everybody is answered. A reply that comes too late reaches nobody.
    pub(in crate::sim) fn replied(
        &mut self,
        broker: usize,
        life: u32,
        pool: usize,
        flight: u64,
        reply: Reply,
    ) {
        let Some(flight) = self.take_flight(broker, life, pool, flight) else { return };
        let (mut settles, mut renews) = (reply.settles.into_iter(), reply.renews.into_iter());
        let mut acquires = reply.acquires.into_iter();
        let mut freed = false;
        for job in flight.jobs {
            match job {
                Job::Settle { op, caller, .. } => {
                    let answer = settles.next().expect("every settle has an answer");
                    freed |= matches!(answer.0, SettleState::Settled | SettleState::Late);
                    let memo = if answer.0 == SettleState::Already { answer.2 } else { op.memo };
                    if let Some(caller) = caller {
                        self.answer(caller, Answer::Advice { memo });
                    }
                }
                Job::Renew { caller, .. } => {
                    let answer = renews.next().expect("every renewal has an answer");
                    let until = (answer.0 == RenewState::Renewed).then_some(answer.1 - reply.now);
                    self.answer(caller, Answer::Renewed(until));
                }
                Job::Acquire { shard, op, call, .. } => {
                    let answer = acquires.next().expect("every acquire has an answer");
                    self.acquired(broker, pool, &shard, &op, call, answer, reply.now);
                }
            }
        }
        if freed {
            self.freed(broker, pool);
        }
        self.commit(broker, pool);
    }

    #[allow(clippy::too_many_arguments, reason = "an answer is read where its question is known")]
    pub(in crate::sim) fn acquired(
        &mut self,
        broker: usize,
        pool: usize,
        shard: &str,
        op: &Acquire,
        call: u64,
        answer: Acquired,
        ledger_now: Millis,
    ) {
        let Acquired(state, at, who, why) = answer;
        let it = &mut self.brokers[broker];
        let Some(asker) = it.askers.get(&call) else {
            // The lease never left the broker: it is given back.
            if state == AcquireState::Granted {
                let give_back = Settle::not_sent(&op.lease);
                let job = Job::Settle { shard: shard.to_owned(), op: give_back, caller: None };
                it.pools[pool].queue.push_back(job);
            }
            return;
        };
        let (caller, model, consumer) = (asker.caller, asker.wish.model, asker.wish.consumer);
        let (in_line, over, wait) = (asker.in_line, asker.over, asker.wish.wait);
        match state {
            AcquireState::Granted => {
                let grant = Grant {
                    unique: op.lease.clone(),
                    shard: shard.to_owned(),
                    key: who,
                    send_within: asker.waited + op.send_within,
                    expires_in: at - ledger_now,
                };
                self.leave(broker, call, Some(consumer));
                self.answer(caller, Answer::Granted(grant));
            }
            AcquireState::Refused => {
                let left = (at < FOREVER).then_some(at - ledger_now);
                let ends = asker.arrived + wait;
                let hopeless = left.is_none_or(|left| self.now + left > ends);
                if in_line && !over && !hopeless {
                    self.rest(broker, pool, model, consumer, &who, left);
                } else if !in_line && wait > 0 && !hopeless {
                    it.askers.get_mut(&call).expect("it was there a moment ago").in_line = true;
                    self.join_line(broker, pool, model, call, wait);
                } else {
                    self.leave(broker, call, None);
                    self.answer(caller, Answer::Refused { wait: left, why });
                }
            }
            AcquireState::Missing => {
                self.leave(broker, call, None);
                self.answer(caller, Answer::Failed);
            }
        }
        self.work_line(broker, pool, model);
    }

    /// The ledger gave no answer in time. What it was asked may have happened, or may still happen.
    pub(in crate::sim) fn no_reply(&mut self, broker: usize, life: u32, pool: usize, flight: u64) {
        let Some(flight) = self.take_flight(broker, life, pool, flight) else { return };
        self.say(format_args!("broker {broker} hears nothing of call {}", flight.number));
        for job in flight.jobs {
            match job {
                Job::Settle { caller: Some(caller), .. } | Job::Renew { caller, .. } => {
                    self.answer(caller, Answer::Failed);
                }
                Job::Settle { .. } => {}
                Job::Acquire { call, .. } => {
                    let Some(asker) = self.brokers[broker].askers.get(&call) else { continue };
                    let (caller, in_line, model) = (asker.caller, asker.in_line, asker.wish.model);
                    self.leave(broker, call, None);
                    self.answer(caller, Answer::Failed);
                    if in_line {
                        self.end_line(broker, pool, model);
                    }
                }
            }
        }
        self.commit(broker, pool);
    }
}
