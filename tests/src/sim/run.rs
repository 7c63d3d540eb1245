//! One run: everything that a seed decides, event by event, in one thread and in virtual time.

mod counts;
mod ending;
mod network;
mod plan;

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use keybroker::ledger::{AcquireState, Batch, Millis, Reply};
use rand::{RngExt, SeedableRng, rngs::StdRng};

pub use counts::Counts;
pub(super) use counts::Demand;

use super::{
    broker::Broker,
    events::{Event, Events},
    google::Quota,
    log::{Closed, Log},
    rules::{Rule, Violation},
    seam::Seam,
    setting::{HOUR, SECOND, Setting, Weather},
    variant::Variant,
    worker::{Sending, Task},
};

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// The ledger: right, or wrong in a way that must be found.
    pub variant: Variant,
    /// Whether all lines of the log are kept.
    pub whole_log: bool,
}

impl Options {
    /// The right ledger.
    pub fn of(seed: u64) -> Self {
        Self { seed, variant: Variant::Right, whole_log: false }
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first violation of each rule that was broken, in the order in which they were seen.
    pub violations: Vec<Violation>,
    /// The log.
    pub log: Closed,
    /// What happened, in numbers.
    pub counts: Counts,
}

/// A run under way.
pub(super) struct Run {
    seed: u64,
    pub(super) setting: Setting,
    pub(super) weather: Weather,
    pub(super) rng: StdRng,
    pub(super) now: Millis,
    pub(super) events: Events,
    pub(super) seam: Seam,
    /// By how much the ledger's clock was set back.
    pub(super) set_back: i64,
    file: usize,
    pub(super) brokers: Vec<Broker>,
    pub(super) tasks: Vec<Task>,
    pub(super) sendings: Vec<Sending>,
    pub(super) quotas: Vec<Quota>,
    /// Project and text of each key.
    pub(super) keys: BTreeMap<String, (String, String)>,
    pub(super) calls: u64,
    /// Reports that are made once more.
    pub(super) repeats: BTreeMap<u64, usize>,
    pub(super) demand: BTreeMap<(usize, usize), Demand>,
    pub(super) granted_leases: usize,
    pub(super) finished: usize,
    pub(super) longest_wait: Millis,
    log: Log,
    violations: Vec<Violation>,
    broken: BTreeSet<Rule>,
}

/// Runs a seed.
pub fn simulate(options: Options) -> Outcome {
    let mut run = Run::new(options);
    // A panic is told like any other violation, with the seed and the last events.
    let went = catch_unwind(AssertUnwindSafe(|| {
        run.plan();
        run.go();
    }));
    if let Err(panic) = went {
        run.broken(Rule::NoPanic, message(&*panic));
    }
    run.close()
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

impl Run {
    fn new(options: Options) -> Self {
        let mut rng = StdRng::seed_from_u64(options.seed);
        let setting = Setting::draw(options.seed, &mut rng);
        let brokers = (0..setting.brokers).map(|_| Broker::default()).collect();
        let quotas = setting.quotas.iter();
        Self {
            seed: options.seed,
            weather: setting.weather,
            now: setting.start,
            events: Events::default(),
            seam: Seam::new(setting.pools(), options.variant),
            set_back: 0,
            file: 0,
            brokers,
            tasks: Self::tasks_of(&setting),
            sendings: Vec::new(),
            quotas: quotas.map(|(project, model, limits)| Quota::new(project, model, *limits)).collect(),
            keys: setting.keys(),
            calls: 0,
            repeats: BTreeMap::new(),
            demand: BTreeMap::new(),
            granted_leases: 0,
            finished: 0,
            longest_wait: 0,
            log: Log::new(setting.start, options.whole_log),
            violations: Vec::new(),
            broken: BTreeSet::new(),
            setting,
            rng,
        }
    }

    fn go(&mut self) {
        let last = self.served_by();
        while let Some((at, event)) = self.events.pop() {
            if at > last {
                let starving = self.starving();
                if !starving.is_empty() {
                    self.now = last;
                    self.broken(Rule::Starvation, starving.join(", "));
                }
                // What is left is late reports.
            }
            if at > last + HOUR {
                break;
            }
            self.now = at;
            self.happen(event);
            self.take_findings();
        }
        self.settle_up();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Reaches { broker, question } => self.asked(broker, question),
            Event::Answers { task, life, call, answer } => self.answered(task, life, call, answer),
            Event::TimesOut { task, life, call } => self.times_out(task, life, call),
            Event::Calls { broker, life, flight, batch, pool } => {
                self.called(broker, life, flight, &batch, pool);
            }
            Event::Replies { broker, life, pool, flight, reply } => {
                self.replied(broker, life, pool, flight, *reply);
            }
            Event::LedgerTimesOut { broker, life, pool, flight } => self.no_reply(broker, life, pool, flight),
            Event::LineWakes { broker, life, pool, model } => {
                if self.is_at(broker, life) {
                    self.work_line(broker, pool, model);
                }
            }
            Event::WaitEnds { broker, life, pool, model, call } => {
                if self.is_at(broker, life) {
                    self.wait_ends(broker, pool, model, call);
                }
            }
            Event::Acts { task, life, turn } => self.acts(task, life, turn),
            Event::Arrives(sending) => self.arrives(sending),
            Event::Hears { task, life, sending, told } => self.hears(task, life, sending, told),
            Event::Renews { task, life, sending } => self.renews(task, life, sending),
            Event::Repeats { sending } => self.repeats_report(sending),
            Event::BrokerDies(broker) => {
                self.say(format_args!("broker {broker} dies"));
                self.kill_broker(broker);
            }
            Event::BrokerReturns(broker) => self.start_broker(broker, self.file),
            Event::WorkerDies(worker) => self.kill_worker(worker),
            Event::WorkerReturns(worker) => self.revive_worker(worker),
            Event::Outside { quota, amounts } => {
                let start = self.setting.start;
                let refused = self.quotas[quota].arrive(start, self.now, amounts.permits, amounts.input);
                self.say(format_args!("somebody else uses quota {quota}: {}", refused.is_none()));
            }
            Event::FileChanges(file) => self.file_changes(file),
            Event::Reloads(broker) => {
                if self.brokers[broker].alive {
                    self.start_broker(broker, self.file);
                }
            }
            Event::ClockSetBack(by) => {
                self.set_back += by;
                self.say(format_args!("the ledger's clock is set back by {by}"));
            }
            Event::Calms => {
                self.say(format_args!("no more trouble"));
                self.weather = Weather { late: self.weather.late, ..Weather::CALM };
            }
        }
    }

    fn is_at(&self, broker: usize, life: u32) -> bool {
        self.brokers[broker].alive && self.brokers[broker].life == life
    }

    fn file_changes(&mut self, file: usize) {
        self.file = file;
        self.say(format_args!("the limits are those of file {file}"));
        for broker in 0..self.brokers.len() {
            let delay = self.rng.random_range(0..3 * SECOND);
            self.events.plan(self.now + delay, Event::Reloads(broker));
        }
    }

    fn close(mut self) -> Outcome {
        let utilisations = self.check_utilisation();
        let books = self.seam.pools.iter().map(|ledger| &ledger.book);
        let counts = Counts {
            leases: self.granted_leases,
            granted: books.clone().map(|book| book.granted).sum(),
            settled: books.map(|book| book.settled).sum(),
            finished: self.finished,
            calls: self.brokers.iter().map(|broker| broker.calls).sum(),
            operations: self.brokers.iter().map(|broker| broker.operations).sum(),
            checked_refusals: self.seam.checked_refusals,
            longest_wait: self.longest_wait,
            utilisations,
        };
        Outcome { seed: self.seed, violations: self.violations, log: self.log.close(), counts }
    }

    fn broken(&mut self, rule: Rule, what: String) {
        if self.broken.insert(rule) {
            self.log.write(self.now, format_args!("BROKEN {rule:?}: {what}"));
            self.violations.push(Violation { rule, at: self.now - self.setting.start, what });
        }
    }

    fn take_findings(&mut self) {
        if self.seam.found.is_empty() {
            return;
        }
        for (rule, what) in std::mem::take(&mut self.seam.found) {
            self.broken(rule, what);
        }
    }

    /// Writes a line of the log.
    pub(super) fn say(&mut self, what: fmt::Arguments<'_>) {
        self.log.write(self.now, what);
    }

    pub(super) fn note_batch(&mut self, broker: usize, pool: usize, batch: &Batch, reply: &Reply) {
        self.log.write(
            self.now,
            format_args!(
                "broker {broker} calls pool {pool} at {}: {} settled, {} renewed, {} asked",
                reply.now,
                batch.settles.len(),
                batch.renews.len(),
                batch.acquires.len()
            ),
        );
        for (op, answer) in batch.settles.iter().zip(&reply.settles) {
            self.log.write(self.now, format_args!("{} {:?} {:?}", op.lease, op.charge, answer.0));
        }
        for (op, answer) in batch.renews.iter().zip(&reply.renews) {
            self.log.write(self.now, format_args!("{} {:?} {}", op.lease, answer.0, answer.1));
        }
        for (op, answer) in batch.acquires.iter().zip(&reply.acquires) {
            let word = if answer.0 == AcquireState::Granted { "gets" } else { "is refused by" };
            let (at, who, why) = (answer.1, &answer.2, &answer.3);
            self.log.write(self.now, format_args!("{} {word} {who} until {at} {why}", op.lease));
        }
    }
}
