//! Those who wait: round robin between consumers, and more at once as grants follow each other, as the broker does.

use std::collections::VecDeque;

use keybroker::ledger::Millis;

use crate::sim::scale::fleet::WEIGHTS;

/// The most that are asked for at once.
const MOST: usize = 256;

/// One who waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) consumer: usize,
    pub(super) arrived: Millis,
}

/// All who wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    of_consumer: [VecDeque<Waiter>; WEIGHTS.len()],
    waiting: usize,
    /// Those whom the ledger is being asked for.
    asked: Vec<Waiter>,
    last: usize,
    rest_until: Millis,
    /// Grants in a row.
    in_a_row: usize,
}

impl Line {
    /// Whether anybody waits.
    pub(super) fn waits(&self) -> bool {
        self.waiting + self.asked.len() > 0
    }

    pub(super) fn join(&mut self, waiter: Waiter) {
        self.of_consumer[waiter.consumer].push_back(waiter);
        self.waiting += 1;
    }

    /// Whom to ask for now, at most so many.
    pub(super) fn next(&mut self, now: Millis, room: usize) -> Vec<Waiter> {
        if now < self.rest_until || !self.asked.is_empty() {
            return Vec::new();
        }
        let most = (self.in_a_row / 4).clamp(1, MOST).min(room).min(self.waiting);
        for _ in 0..most {
            while self.of_consumer[self.last].is_empty() {
                self.last = (self.last + 1) % WEIGHTS.len();
            }
            if let Some(waiter) = self.of_consumer[self.last].pop_front() {
                self.asked.push(waiter);
            }
            self.last = (self.last + 1) % WEIGHTS.len();
        }
        self.waiting -= self.asked.len();
        self.asked.clone()
    }

    /// Whether it waited in the line when it was asked for.
    pub(super) fn knows(&self, waiter: &Waiter) -> bool {
        self.asked.iter().any(|asked| (asked.consumer, asked.arrived) == (waiter.consumer, waiter.arrived))
    }

    /// One that was refused keeps its place.
    pub(super) fn back(&mut self, waiter: Waiter) {
        self.of_consumer[waiter.consumer].push_front(waiter);
        self.waiting += 1;
    }

    /// What those were told who were asked for.
    pub(super) fn answered(&mut self, granted: usize, refused: bool, rest: Option<Millis>) {
        self.asked.clear();
        self.in_a_row = if refused { 0 } else { self.in_a_row + granted };
        if let Some(rest) = rest {
            self.rest_until = rest;
        }
    }

    /// Takes out those who came before then.
    pub(super) fn give_up(&mut self, before: Millis) -> Vec<Waiter> {
        let mut gone = Vec::new();
        for waiters in &mut self.of_consumer {
            let late = waiters.iter().take_while(|waiter| waiter.arrived <= before).count();
            gone.extend(waiters.drain(..late));
        }
        self.waiting -= gone.len();
        gone
    }
}
