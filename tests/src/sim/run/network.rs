//! The network: what is lost, late or doubled.

use rand::RngExt;

use super::Run;
use crate::sim::{
    broker::{Caller, Question},
    events::{Answer, Event},
};

impl Run {
    /// Sends a message to a broker; it may be lost, late or doubled.
    pub(in crate::sim) fn send(&mut self, broker: usize, question: Question) {
        let once_only = matches!(question, Question::Acquire(..));
        if !once_only && self.rng.random_range(0..1_000) < self.weather.doubled {
            let delay = self.delay();
            self.events.plan(self.now + delay, Event::Reaches { broker, question: question.clone() });
        }
        if self.rng.random_range(0..1_000) < self.weather.lost {
            return;
        }
        let delay = self.delay();
        self.events.plan(self.now + delay, Event::Reaches { broker, question });
    }

    /// Answers a task; the answer may be lost or late.
    pub(in crate::sim) fn answer(&mut self, caller: Caller, answer: Answer) {
        if self.rng.random_range(0..1_000) < self.weather.lost {
            return;
        }
        let delay = self.delay();
        let Caller { task, life, call } = caller;
        self.events.plan(self.now + delay, Event::Answers { task, life, call, answer });
    }

    pub(in crate::sim) fn delay(&mut self) -> i64 {
        if self.rng.random_range(0..1_000) < self.weather.slow {
            self.rng.random_range(1..=self.weather.longest)
        } else {
            self.rng.random_range(1..20)
        }
    }

    /// How long a call to the ledger, or its reply, is on the way; none if it is lost.
    pub(in crate::sim) fn ledger_delay(&mut self) -> Option<i64> {
        if self.rng.random_range(0..1_000) < self.weather.ledger_lost {
            return None;
        }
        Some(if self.rng.random_range(0..1_000) < self.weather.ledger_slow {
            self.rng.random_range(0..=self.weather.ledger_longest)
        } else {
            self.rng.random_range(0..=self.weather.ledger_usual)
        })
    }
}
