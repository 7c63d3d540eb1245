//! Reports: made until they are answered, perhaps once more, and what is done about the advice.

use rand::RngExt;

use super::{PATIENCE, Sending, State, TRIES};
use crate::sim::{
    broker::{Caller, Question},
    events::Answer,
    google::Told,
    rules::Rule,
    run::Run,
};

impl Run {
    pub(in crate::sim) fn report(&mut self, task: usize) {
        let caller = self.new_call(task, PATIENCE);
        let it = &self.tasks[task];
        let (broker, sending) = (it.broker, it.sending.expect("who reports held a lease"));
        self.send_report(caller, broker, sending);
    }

    pub(in crate::sim) fn send_report(&mut self, caller: Caller, broker: usize, sending: usize) {
        let it = &self.sendings[sending];
        let told = it.told.clone().expect("who reports was told");
        let (pool, shard, unique, input) = (it.pool, it.shard.clone(), it.unique.clone(), it.input);
        self.say(format_args!("{unique} is reported to broker {broker}: {}", told.name()));
        self.send(broker, Question::Report { caller, pool, shard, unique, told, input });
    }

    /// What was reported is reported once more, to any broker, and nobody waits for the answer.
    pub(in crate::sim) fn repeats_report(&mut self, sending: usize) {
        self.calls += 1;
        let call = self.calls;
        self.repeats.insert(call, sending);
        let broker = self.rng.random_range(0..self.brokers.len());
        let Sending { task, life, .. } = self.sendings[sending];
        self.send_report(Caller { task, life, call }, broker, sending);
    }

    pub(in crate::sim) fn check_advice(&mut self, sending: usize, answer: &Answer) {
        let Answer::Advice { memo } = answer else { return };
        let it = &mut self.sendings[sending];
        match &it.memo {
            Some(first) if first != memo => {
                let what = format!("{} is advised {memo:?} after {first:?}", it.unique);
                self.seam.found.push((Rule::FirstAdvice, what));
            }
            Some(_) => {}
            None => it.memo = Some(memo.clone()),
        }
    }

    /// A task does what it is advised.
    pub(in crate::sim) fn advised(&mut self, task: usize, sending: usize) {
        let it = &self.sendings[sending];
        let memo = it.memo.clone().unwrap_or_default();
        let (key, pool, model) = (it.key.clone(), it.pool, it.model);
        let mut parts = memo.split(':');
        let (action, wait) = (parts.next(), parts.next().and_then(|wait| wait.parse::<i64>().ok()));
        let not_sent = matches!(it.told, Some(Told::NotSent));
        let request = self.tasks[task].request.as_mut().expect("who reports had a request");
        let again = request.tries < TRIES;
        let delay = match action {
            _ if not_sent => 0,
            Some("o" | "p") if again => {
                request.exclude = vec![key];
                0
            }
            Some("a") if again => wait.unwrap_or(0) + self.rng.random_range(0..500),
            _ => return self.finish(task),
        };
        request.since = self.now;
        let it = &mut self.tasks[task];
        it.state = State::Idle;
        it.sending = None;
        self.wants(task, pool, model, 1);
        self.act_in(task, delay);
    }

    /// A task is done with its request.
    pub(in crate::sim) fn finish(&mut self, task: usize) {
        let it = &mut self.tasks[task];
        it.request = None;
        it.sending = None;
        it.call = None;
        it.state = State::Idle;
        self.finished += 1;
        let longest = if self.setting.calm { 500 } else { 6_000 };
        let delay = self.rng.random_range(0..longest);
        if self.now + delay < self.setting.traffic_until {
            self.act_in(task, delay);
        }
    }
}
