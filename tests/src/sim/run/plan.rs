//! What is planned before anything happens.

use keybroker::ledger::{Amounts, Millis};
use rand::RngExt;

use super::Run;
use crate::sim::{
    events::Event,
    setting::{HOUR, MINUTE, SECOND},
};

impl Run {
    /// Plans all that does not depend on what happens.
    pub(in crate::sim) fn plan(&mut self) {
        let (start, end) = (self.setting.start, self.setting.traffic_until);
        for broker in 0..self.brokers.len() {
            self.brokers[broker].clock_off = self.rng.random_range(-HOUR..HOUR);
            self.start_broker(broker, 0);
        }
        for task in 0..self.tasks.len() {
            let delay = self.rng.random_range(0..3 * SECOND);
            self.act_in(task, delay);
        }
        self.events.plan(end, Event::Calms);
        if self.weather.deaths {
            for broker in 0..self.brokers.len() {
                self.plan_deaths(start, end, Event::BrokerDies(broker), 90 * SECOND);
            }
            for worker in 0..self.setting.workers.len() {
                self.plan_deaths(start, end, Event::WorkerDies(worker), 2 * MINUTE);
            }
            // A day's limit is the one thing that needs the ledger's clock to be that of the world.
            let steps = if self.setting.daily { 0 } else { self.rng.random_range(0..3) };
            for _ in 0..steps {
                let at = self.rng.random_range(start..end);
                let by = self.rng.random_range(1..5 * SECOND);
                self.events.plan(at, Event::ClockSetBack(by));
            }
        }
        if self.weather.outside {
            for quota in 0..self.quotas.len() {
                let burst = self.rng.random_range(0..2 * self.quotas[quota].rpm);
                let at = self.rng.random_range(start..end);
                for nth in 0..burst {
                    let amounts = Amounts { permits: 1, input: 50, total: 50, spend: 0 };
                    let nth = i64::try_from(nth).expect("bursts are small");
                    self.events.plan(at + nth * 300, Event::Outside { quota, amounts });
                }
            }
        }
        if self.weather.changes {
            let at = self.rng.random_range(start..end);
            self.events.plan(at, Event::FileChanges(1));
            self.events.plan(self.rng.random_range(at..=end), Event::FileChanges(0));
        }
    }

    pub(in crate::sim) fn plan_deaths(&mut self, start: Millis, end: Millis, event: Event, every: i64) {
        if !self.rng.random_bool(0.7) {
            return;
        }
        let mut at = start + self.rng.random_range(0..2 * every);
        while at < end {
            let away = self.rng.random_range(100..20_000);
            let (dies, returns) = match event {
                Event::BrokerDies(broker) => (Event::BrokerDies(broker), Event::BrokerReturns(broker)),
                Event::WorkerDies(worker) => (Event::WorkerDies(worker), Event::WorkerReturns(worker)),
                _ => return,
            };
            self.events.plan(at, dies);
            self.events.plan(at + away, returns);
            at += away + self.rng.random_range(0..2 * every);
        }
    }
}
