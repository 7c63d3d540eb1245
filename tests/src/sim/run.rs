//! One run: everything that a seed decides, event by event, in one thread and in virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use keybroker::ledger::{AcquireState, Amounts, Batch, Millis, Reply, calendar::Calendar, shard::REBASE_AT};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    broker::{Broker, Caller, Question},
    events::{Answer, Event, Events},
    google::Quota,
    log::{Closed, Log},
    rules::{Rule, Violation},
    seam::Seam,
    setting::{HOUR, MINUTE, SECOND, Setting, Weather},
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

/// What happened, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Leases that reached a task.
    pub leases: usize,
    /// Leases that the ledger granted.
    pub granted: usize,
    /// Those that were reported.
    pub settled: usize,
    /// Requests that were brought to an end.
    pub finished: usize,
    /// Calls to the ledger and operations in them.
    pub calls: u64,
    /// See `calls`.
    pub operations: u64,
    /// Refusals whose instant was checked.
    pub checked_refusals: usize,
    /// The longest that anybody waited for a lease, in milliseconds.
    pub longest_wait: Millis,
    /// Quotas of which was seen how much of them is used.
    pub utilisations: usize,
}

impl Counts {
    /// Adds those of another run; of waits, the longest is kept.
    pub fn add(&mut self, other: &Self) {
        self.leases += other.leases;
        self.granted += other.granted;
        self.settled += other.settled;
        self.finished += other.finished;
        self.calls += other.calls;
        self.operations += other.operations;
        self.checked_refusals += other.checked_refusals;
        self.longest_wait = self.longest_wait.max(other.longest_wait);
        self.utilisations += other.utilisations;
    }
}

/// How many want a lease of a pool for a model.
#[derive(Debug, Default)]
pub(super) struct Demand {
    now: i64,
    since: Millis,
    /// For how long nobody did, after the first did.
    dry: Millis,
}

impl Demand {
    pub(super) fn change(&mut self, at: Millis, by: i64) {
        if self.now == 0 && self.since > 0 {
            self.dry += at - self.since;
        }
        self.now += by;
        self.since = at;
    }

    fn dry_until(&self, at: Millis) -> Millis {
        if self.since == 0 {
            return Millis::MAX;
        }
        self.dry + if self.now == 0 { at - self.since } else { 0 }
    }
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
    run.plan();
    run.go();
    run.close()
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

    /// Plans all that does not depend on what happens.
    fn plan(&mut self) {
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

    fn plan_deaths(&mut self, start: Millis, end: Millis, event: Event, every: i64) {
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

    /// Everything has ended: so must have every charge, and the books must be balanced.
    fn settle_up(&mut self) {
        self.seam.audit();
        self.take_findings();
        self.now += HOUR;
        for pool in 0..self.seam.pools.len() {
            let Calendar { day_ends, month_ends } = Calendar::around(self.now);
            let nothing = Batch {
                ledger_id: String::new(),
                clock: self.now,
                day_ends,
                month_ends,
                rebase_at: REBASE_AT,
                shards: Vec::new(),
                settles: Vec::new(),
                renews: Vec::new(),
                acquires: Vec::new(),
                commons: Vec::new(),
                edits: Vec::new(),
            };
            self.seam.execute(pool, self.now, &nothing);
            let ledger = &self.seam.pools[pool];
            let in_flight = ledger.book.account_ids().into_iter().filter_map(|id| {
                let account = ledger.kernel.account(&id)?;
                let held =
                    account.windows.iter().filter(|window| window.span == keybroker::ledger::Span::Held);
                let held: i64 = held.map(|window| window.used(ledger.kernel.now)).sum();
                (held != 0).then(|| format!("{held} in flight at {id} after everything ended"))
            });
            let in_flight: Vec<String> = in_flight.collect();
            self.seam.found.extend(in_flight.into_iter().map(|what| (Rule::InFlight, what)));
        }
        self.seam.audit();
        self.take_findings();
    }

    /// How much is used of what there is, where somebody wanted more all the time; how many quotas that was.
    fn check_utilisation(&mut self) -> usize {
        if !self.setting.calm {
            return 0;
        }
        let (mut seen, mut low) = (0, Vec::new());
        let end = self.setting.traffic_until;
        for quota in &self.quotas {
            let pool = self.setting.catalogues[0]
                .0
                .pools
                .values()
                .position(|pool| pool.projects.iter().any(|project| project.id == quota.project));
            let pool = pool.expect("every project is in a pool");
            let config = self.setting.pool(0, pool);
            let model = super::setting::MODELS.iter().position(|model| *model == quota.model);
            let model = model.expect("every quota is of a model");
            let tokens = self.setting.quotas.iter().any(|(project, model, limits)| {
                *project == quota.project && *model == quota.model && limits.input_tpm.is_some()
            });
            let dry = self.demand.get(&(pool, model)).map_or(Millis::MAX, |demand| demand.dry_until(end));
            if tokens || dry > 0 {
                continue;
            }
            seen += 1;
            // A charge lasts a minute, the time to send and a sub-bucket; then all of the limit is there again.
            let lasts = MINUTE + SECOND + super::broker::millis(config.send_within);
            let windows = (end - self.setting.start - 10 * SECOND) / lasts + 1;
            let limit = quota.rpm * u64::from(100 - config.margin_percent) / 100;
            let possible = limit * windows.unsigned_abs();
            if quota.served * 100 < possible * 85 {
                let (project, model) = (&quota.project, &quota.model);
                low.push(format!("{project} {model} served {} of {possible}", quota.served));
            }
        }
        for what in low {
            self.broken(Rule::Utilisation, what);
        }
        seen
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

    /// Sends a message to a broker; it may be lost, late or doubled.
    pub(super) fn send(&mut self, broker: usize, question: Question) {
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
    pub(super) fn answer(&mut self, caller: Caller, answer: Answer) {
        if self.rng.random_range(0..1_000) < self.weather.lost {
            return;
        }
        let delay = self.delay();
        let Caller { task, life, call } = caller;
        self.events.plan(self.now + delay, Event::Answers { task, life, call, answer });
    }

    fn delay(&mut self) -> i64 {
        if self.rng.random_range(0..1_000) < self.weather.slow {
            self.rng.random_range(1..=self.weather.longest)
        } else {
            self.rng.random_range(1..20)
        }
    }

    /// How long a call to the ledger, or its reply, is on the way; none if it is lost.
    pub(super) fn ledger_delay(&mut self) -> Option<i64> {
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
