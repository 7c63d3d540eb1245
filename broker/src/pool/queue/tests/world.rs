//! A queue without a ledger, at an instant that tests move.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::super::{
    Ticket,
    hold::Obstacle,
    known::Known,
    need::Need,
    scheduler::{Ask, Ended, Scheduler, Waiter},
};
use crate::{
    catalogue,
    ledger::{AcquireState, Acquired, Amounts, FOREVER},
    pool::Refusal,
};

pub(super) fn need(permits: i64) -> Need {
    Need { amounts: Amounts { permits, ..Amounts::default() }, ..Need::default() }
}

/// One that may use these keys only.
pub(super) fn pinned(permits: i64, keys: &[&str]) -> Need {
    Need { only: keys.iter().map(|key| (*key).to_owned()).collect(), ..need(permits) }
}

/// One that is charged to this account as well.
pub(super) fn charging(account: &str) -> Need {
    Need { common: vec![account.to_owned()], ..need(1) }
}

/// A refusal that lasts for so long, or for good.
fn refusal(millis: Option<u64>) -> Refusal {
    let pool = catalogue::Pool::new("default");
    let at = millis.map_or(FOREVER, u64::cast_signed);
    Refusal::of(&pool, &Acquired(AcquireState::Refused, at, "q/p/m".to_owned(), "r60000".to_owned()), 0)
}

pub(super) struct Line {
    pub(super) scheduler: Scheduler<Ticket>,
    pub(super) now: Instant,
    consumers: HashMap<Ticket, String>,
    last: Ticket,
}

impl Default for Line {
    fn default() -> Self {
        Self { scheduler: Scheduler::default(), now: Instant::now(), consumers: HashMap::new(), last: 0 }
    }
}

impl Line {
    pub(super) fn advance(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    pub(super) fn join(&mut self, consumer: &str, need: Need) -> Ticket {
        self.join_until(consumer, need, self.now + Duration::from_secs(600))
    }

    pub(super) fn join_all(&mut self, count: usize, consumer: &str, need: &Need) -> Vec<Ticket> {
        (0..count).map(|_| self.join(consumer, need.clone())).collect()
    }

    pub(super) fn join_until(&mut self, consumer: &str, need: Need, deadline: Instant) -> Ticket {
        let waiter = self.waiter(self.last + 1, consumer, need, deadline);
        let ticket = waiter.ticket;
        self.scheduler.join(waiter);
        ticket
    }

    pub(super) fn join_as(&mut self, ticket: Ticket, consumer: &str, need: Need) {
        let waiter = self.waiter(ticket, consumer, need, self.now + Duration::from_secs(600));
        self.scheduler.join(waiter);
    }

    pub(super) fn join_refused(&mut self, consumer: &str, need: Need, millis: u64) {
        let mut waiter = self.waiter(self.last + 1, consumer, need, self.now + Duration::from_secs(600));
        let known = Known::new(refusal(Some(millis)), self.now);
        waiter.told = Some((known, Obstacle::Keys(Vec::new())));
        self.scheduler.join(waiter);
    }

    fn waiter(&mut self, ticket: Ticket, consumer: &str, need: Need, deadline: Instant) -> Waiter<Ticket> {
        self.last = self.last.max(ticket);
        self.consumers.insert(ticket, consumer.to_owned());
        let need = Arc::new(need);
        Waiter { ticket, consumer: consumer.into(), need, deadline, told: None, load: ticket }
    }

    pub(super) fn consumer(&self, ticket: Ticket) -> &'static str {
        // Tests compare with their own names.
        self.consumers[&ticket].clone().leak()
    }

    /// Grants whatever is asked for, until so many were served.
    pub(super) fn serve(&mut self, count: usize) -> Vec<Ticket> {
        let mut served = Vec::new();
        while served.len() < count {
            let asks = self.scheduler.next(self.now);
            assert!(!asks.is_empty(), "nobody is asked for after {served:?}");
            for ask in asks {
                if served.len() < count {
                    assert_eq!(self.scheduler.granted(ask.ticket), Some(ask.ticket));
                    served.push(ask.ticket);
                } else {
                    // As if it had not been asked for.
                    self.scheduler.unanswered(ask.ticket);
                }
            }
        }
        served
    }

    pub(super) fn serve_consumers(&mut self, count: usize) -> Vec<&'static str> {
        self.serve(count).into_iter().map(|ticket| self.consumer(ticket)).collect()
    }

    /// The refusal of one that is asked for; who is ended by it.
    pub(super) fn refuse(&mut self, ask: &Ask, millis: u64) -> Vec<Ticket> {
        self.refuse_by(ask, millis, Obstacle::Keys(Vec::new()))
    }

    pub(super) fn refuse_by(&mut self, ask: &Ask, millis: u64, obstacle: Obstacle) -> Vec<Ticket> {
        let known = Known::new(refusal(Some(millis)), self.now);
        tickets(self.scheduler.refused(ask.ticket, known, obstacle, !ask.kept.is_empty(), self.now))
    }

    pub(super) fn refuse_for_good(&mut self, ask: &Ask, obstacle: Obstacle, kept: bool) -> Vec<Ticket> {
        let known = Known::new(refusal(None), self.now);
        tickets(self.scheduler.refused(ask.ticket, known, obstacle, kept, self.now))
    }

    pub(super) fn expire(&mut self, by: Instant) -> Vec<Ticket> {
        tickets(self.scheduler.expire(by))
    }
}

fn tickets(ended: Vec<Ended<Ticket>>) -> Vec<Ticket> {
    ended.into_iter().map(|ended| ended.load).collect()
}
