//! Requests: how they come, wait, and go their way to Google.

use std::io::Write;

use keybroker::{gemini::TransportKind, ledger::Millis};
use rand::RngExt;

use super::{Run, Stretch};
use crate::{
    demand::Request,
    events::Event,
    fate::{Answer, Fate},
    google::{Arrival, Fault},
    setting::{MINUTE, SECOND},
};

impl Run<'_> {
    pub(super) fn comes(&mut self, lane: usize) {
        let Stretch { day, to, .. } = self.stretch;
        let price = self.setting.catalogue.price_of(&self.lanes[lane].model);
        let request = self.lanes[lane].source.draw(self.now, price, &mut self.rng);
        self.enqueue(lane, request, false);
        let next = self.lanes[lane].source.next(self.now, day, &mut self.rng);
        if next < to {
            self.events.plan(next, Event::Comes(lane));
        }
    }

    pub(super) fn enqueue(&mut self, lane: usize, request: Request, first: bool) {
        let queue = &mut self.lanes[lane].queue;
        if first {
            queue.push_front(request);
        } else {
            queue.push_back(request);
        }
        if first || queue.len() == 1 {
            self.new_first(lane);
        }
    }

    /// Another request is the first of its lane, and asks at once.
    pub(super) fn new_first(&mut self, lane: usize) {
        self.lanes[lane].refused = None;
        self.touched.insert(lane);
        if let Some(first) = self.lanes[lane].queue.front() {
            self.events.plan(first.gives_up_at.max(self.now), Event::GivesUp(lane));
            self.ask(lane);
        }
    }

    pub(super) fn ask(&mut self, lane: usize) {
        self.pools[self.lanes[lane].pool].pending.asks.insert(lane);
    }

    pub(super) fn gives_up(&mut self, lane: usize) {
        let mut gone = false;
        while self.lanes[lane].queue.front().is_some_and(|first| first.gives_up_at <= self.now) {
            self.lanes[lane].queue.pop_front();
            self.counts.gave_up += 1;
            gone = true;
        }
        if gone {
            self.new_first(lane);
        }
    }

    /// A lease's request goes its way: most are sent at once, some at the last moment.
    pub(super) fn send(&mut self, number: usize, send_within: i64) {
        let now = self.now;
        let delay = match self.rng.random_range(0..10) {
            0 => send_within,
            1..4 => self.rng.random_range(0..=send_within),
            _ => self.rng.random_range(0..60),
        };
        let lease = &mut self.leases[number];
        let (answer, reports_at) = match lease.fate {
            Fate::NotSent => (Answer::NOT_SENT, now + send_within + 5),
            Fate::NoConnection => (Answer::transport(TransportKind::Connect), now + delay + 100),
            Fate::Cancelled { sent: false } => (Answer::transport(TransportKind::Cancelled), now + delay / 2),
            Fate::Died { sent: false } => return,
            _ => return self.events.plan(now + delay, Event::Reaches(number)),
        };
        lease.answer = Some(answer);
        self.events.plan(reports_at, Event::Reports(number));
    }

    pub(super) fn reaches(&mut self, number: usize) {
        let now = self.now;
        let lease = &self.leases[number];
        let (lane, key, fate) = (lease.lane, lease.key, lease.fate);
        let actual = lease.request.actual;
        let source = &self.lanes[lane].source;
        self.counts.sent += 1;
        self.holds.arrived(now, lane, source, key, actual);
        let fault = match fate {
            Fate::RequestFault => Some(Fault::Request),
            Fate::ServerFault => Some(Fault::Server),
            _ => None,
        };
        let place = &self.setting.keys[key];
        let arrival = Arrival { at: now, key: place, model: &self.lanes[lane].model, actual, fault };
        let refused = self.google.rule(arrival, &mut self.rng);
        let refused_at_once = refused.is_some();
        let answer = refused.unwrap_or(match fate {
            Fate::TimedOut => Answer::transport(TransportKind::Timeout),
            Fate::Cancelled { .. } => Answer::transport(TransportKind::Cancelled),
            _ => Answer::SERVED,
        });
        let latency = match fate {
            _ if refused_at_once => self.rng.random_range(50..400),
            Fate::Cancelled { .. } => lease.request.latency / 2,
            _ => lease.request.latency,
        };
        if self.stretch.traced {
            let _ = writeln!(self.trace, "{now} arrives {} {}", lease.id, answer.outcome);
        }
        self.leases[number].answer = Some(answer);
        self.leases[number].reached = true;
        let done = now + latency;
        match fate {
            Fate::Died { .. } => {}
            Fate::Late if !refused_at_once => {
                let late = self.rng.random_range(0..12 * MINUTE);
                self.events.plan(done.max(self.leases[number].expires_at) + late, Event::Reports(number));
            }
            Fate::Twice => {
                self.events.plan(done, Event::Reports(number));
                self.events.plan(done + 2 * SECOND, Event::Reports(number));
                self.renew_until(number, done);
            }
            _ => {
                self.events.plan(done, Event::Reports(number));
                self.renew_until(number, done);
            }
        }
    }

    /// Long requests have their leases extended.
    pub(super) fn renew_until(&mut self, lease: usize, done: Millis) {
        let half = self.pools[self.lanes[self.leases[lease].lane].pool].ttl / 2;
        let mut at = self.leases[lease].granted_at + half;
        while at < done {
            if at > self.now {
                self.events.plan(at, Event::Renews(lease));
            }
            at += half;
        }
    }
}
