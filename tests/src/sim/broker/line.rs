//! The line of those who wait for a model at a broker: round robin between consumers, one question at a time.

use super::ASKS_ANEW;
use crate::sim::{
    events::{Answer, Event},
    run::Run,
    setting::{CONSUMERS, MODELS, SECOND},
};

impl Run {
    pub(in crate::sim) fn join_line(
        &mut self,
        broker: usize,
        pool: usize,
        model: usize,
        call: u64,
        wait: i64,
    ) {
        let it = &mut self.brokers[broker];
        let life = it.life;
        it.pools[pool].lines.entry(model).or_default().waiters.push(call);
        let ends = it.askers[&call].arrived + wait;
        self.events.plan(ends, Event::WaitEnds { broker, life, pool, model, call });
        self.work_line(broker, pool, model);
    }

    /// Asks for the waiter whose turn it is, if any may be asked for now.
    pub(in crate::sim) fn work_line(&mut self, broker: usize, pool: usize, model: usize) {
        let now = self.now;
        let it = &mut self.brokers[broker];
        let Some(line) = it.pools[pool].lines.get_mut(&model) else { return };
        if line.asking.is_some() || line.waiters.is_empty() || line.rest_until > now {
            return;
        }
        line.stand_still.retain(|_, until| *until > now);
        let consumers = CONSUMERS.len();
        for turn in 1..=consumers {
            let consumer = (line.last + turn) % consumers;
            if line.stand_still.contains_key(&consumer) {
                continue;
            }
            let of_consumer = |call: &&u64| it.askers[*call].wish.consumer == consumer;
            if let Some(&call) = line.waiters.iter().find(of_consumer) {
                line.asking = Some(call);
                self.ask_ledger(broker, call);
                return;
            }
        }
        // All who wait stand still.
        if let Some(&until) = line.stand_still.values().min() {
            let life = it.life;
            self.events.plan(until.min(now + ASKS_ANEW), Event::LineWakes { broker, life, pool, model });
        }
    }

    /// Something came back: whoever is next in a line is asked for at once.
    pub(in crate::sim) fn freed(&mut self, broker: usize, pool: usize) {
        for model in 0..MODELS.len() {
            if let Some(line) = self.brokers[broker].pools[pool].lines.get_mut(&model) {
                line.rest_until = 0;
                line.stand_still.clear();
            }
            self.work_line(broker, pool, model);
        }
    }

    /// The one whose turn it is was refused: it keeps its turn, unless only its own limit is in the way.
    pub(in crate::sim) fn rest(
        &mut self,
        broker: usize,
        pool: usize,
        model: usize,
        consumer: usize,
        who: &str,
        left: Option<i64>,
    ) {
        let now = self.now;
        let it = &mut self.brokers[broker];
        let life = it.life;
        let line = it.pools[pool].lines.get_mut(&model).expect("who waits has a line");
        line.asking = None;
        let until = now + left.unwrap_or(ASKS_ANEW);
        if who.starts_with("c/") {
            line.stand_still.insert(consumer, until);
        } else {
            line.rest_until = until.min(now + ASKS_ANEW);
            let at = line.rest_until;
            self.events.plan(at, Event::LineWakes { broker, life, pool, model });
        }
    }

    /// An asker leaves, served or not.
    pub(in crate::sim) fn leave(&mut self, broker: usize, call: u64, served: Option<usize>) {
        let it = &mut self.brokers[broker];
        let Some(asker) = it.askers.remove(&call) else { return };
        let Some(line) = it.pools[asker.wish.pool].lines.get_mut(&asker.wish.model) else { return };
        line.waiters.retain(|waiter| *waiter != call);
        if line.asking == Some(call) {
            line.asking = None;
        }
        if let Some(consumer) = served {
            line.last = consumer;
        }
        if line.waiters.is_empty() {
            line.rest_until = 0;
        }
    }

    /// A caller is gone. If the ledger is being asked for it, what it is granted is given back.
    pub(in crate::sim) fn gone(&mut self, broker: usize, call: u64) {
        let Some(asker) = self.brokers[broker].askers.get(&call) else { return };
        let (pool, model) = (asker.wish.pool, asker.wish.model);
        self.leave(broker, call, None);
        self.work_line(broker, pool, model);
    }

    /// A waiter's time is over.
    pub(in crate::sim) fn wait_ends(&mut self, broker: usize, pool: usize, model: usize, call: u64) {
        let it = &mut self.brokers[broker];
        let asking = it.pools[pool].lines.get(&model).and_then(|line| line.asking);
        let Some(asker) = it.askers.get_mut(&call) else { return };
        if asking == Some(call) {
            asker.over = true;
            return;
        }
        let caller = asker.caller;
        self.leave(broker, call, None);
        self.answer(caller, Answer::Refused { wait: Some(SECOND), why: "waited in vain".to_owned() });
        self.work_line(broker, pool, model);
    }

    /// A ledger that fails ends all waiters of a line.
    pub(in crate::sim) fn end_line(&mut self, broker: usize, pool: usize, model: usize) {
        let Some(line) = self.brokers[broker].pools[pool].lines.get(&model) else { return };
        for call in line.waiters.clone() {
            let caller = self.brokers[broker].askers[&call].caller;
            self.leave(broker, call, None);
            self.answer(caller, Answer::Failed);
        }
    }
}
