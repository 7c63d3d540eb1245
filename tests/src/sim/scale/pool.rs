//! A pool's day: what its consumers want, how a broker asks for it, and what the kernel does.
//!
//! One broker's group commit and line stand for those of all brokers of the pool. A call to the ledger takes
//! [`CALL`] milliseconds of virtual time, and the time that the kernel takes is measured beside it.

mod line;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use keybroker::ledger::{
    AccountSpec, Acquire, AcquireState, Amounts, Batch, CandidateSpec, Charge, Dimension, LimitSpec, Millis,
    Mode, Order, Reply, Settle, ShardSpec, Span, UNLIMITED, calendar::Calendar, kernel::Kernel, shard,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    curve::load,
    fleet::{Plan, WEIGHTS},
};
use crate::sim::setting::{HOUR, MINUTE, SECOND};
use line::{Line, Waiter};

/// How long a call to the ledger is under way.
const CALL: i64 = 1;
/// The most operations in one call, as in the product.
const LARGEST_BATCH: usize = 256;
/// For how long a request waits before its worker gives it up.
const PATIENCE: i64 = 30 * SECOND;
/// The time to send within.
const SEND_WITHIN: i64 = SECOND;
/// When a run begins: a Pacific midnight, 2026-07-01 07:00 UTC. The hour of the load is counted beside it.
const DAWN: Millis = 1_782_889_200_000;
/// Answers take so long on average.
const LATENCY: f64 = 4_000.0;
/// How often the rate of the streams is brought up to date.
const STREAM_STEP: i64 = 10 * SECOND;

/// What came of a pool's day, by minutes.
#[derive(Debug, Clone, Default)]
pub struct Day {
    /// Requests that workers wanted to make.
    pub wanted: Vec<u64>,
    /// Leases that were granted.
    pub granted: Vec<u64>,
    /// Requests that were given up.
    pub given_up: Vec<u64>,
    /// Calls to the ledger.
    pub calls: Vec<u64>,
    /// Operations in them.
    pub operations: Vec<u64>,
    /// For how many of its milliseconds somebody waited.
    pub waited: Vec<i64>,
    /// What each consumer wanted, by hours.
    pub wanted_by: Vec<[u64; WEIGHTS.len()]>,
    /// What each consumer got, by hours.
    pub granted_by: Vec<[u64; WEIGHTS.len()]>,
    /// How many calls had so many operations.
    pub batches: BTreeMap<usize, u64>,
    /// The most leases that were held at once.
    pub most_held: usize,
    /// The time that the kernel took.
    pub kernel: Duration,
    /// Trailing minutes at Google that were over the limit.
    pub over_limit: u64,
}

enum Event {
    /// A request of a consumer comes, if its stream is still the one of that number.
    Comes(usize, u64),
    /// The rates of the streams are brought up to date.
    Streams,
    /// A reply comes.
    Replies,
    /// A request reaches Google.
    Arrives(usize),
    /// A lease's request is answered and reported.
    Ends(String, usize),
    /// The line asks again.
    Wakes,
    /// Waiters that waited too long are given up.
    GivesUp,
}

enum Asked {
    Settle,
    /// By whom, and under which name.
    Acquire(Waiter, String),
}

struct Run<'a> {
    plan: &'a Plan,
    now: Millis,
    rng: StdRng,
    kernel: Kernel,
    calendar: (Millis, Calendar),
    events: BTreeMap<(Millis, u64), Event>,
    planned: u64,
    /// A minute's requests that all projects together allow.
    capacity: f64,
    /// Workers of each consumer: how many there are, and how many are idle.
    workers: [u64; WEIGHTS.len()],
    idle: [u64; WEIGHTS.len()],
    streams: [u64; WEIGHTS.len()],
    line: Line,
    settles: VecDeque<Settle>,
    direct: VecDeque<Waiter>,
    in_flight: Option<Vec<Asked>>,
    reply: Option<Reply>,
    names: u64,
    held: usize,
    arrivals: Vec<VecDeque<Millis>>,
    day: Day,
}

/// Simulates one pool of the plan.
pub fn simulate_pool(plan: &Plan, pool: u64) -> Day {
    let mut run = Run::new(plan, pool);
    run.go();
    run.day
}

/// A shard of so many projects with a key each, as the broker writes it.
pub(super) fn spec(projects: u64, rpm: i64) -> ShardSpec {
    let account = |project: u64| AccountSpec {
        id: format!("q/p{project}/m"),
        limits: vec![
            LimitSpec(Dimension::Requests, Span::Trailing(MINUTE), rpm),
            LimitSpec(Dimension::InputTokens, Span::Trailing(MINUTE), UNLIMITED),
            LimitSpec(Dimension::Requests, Span::Day, UNLIMITED),
            LimitSpec(Dimension::InFlight, Span::Held, UNLIMITED),
        ],
        mode: Mode::Hard,
    };
    let candidate = |project: u64| CandidateSpec {
        name: project.to_string(),
        class: 0,
        step: shard::SCALE,
        limited: vec![format!("q/p{project}/m")],
        sparse: vec![format!("k/{project}"), format!("p/p{project}"), format!("b//p{project}")],
        tag: format!("p{project}"),
    };
    ShardSpec {
        shard: "s/m".to_owned(),
        generation: 1,
        accounts: (0..projects).map(account).collect(),
        candidates: (0..projects).map(candidate).collect(),
        order: Order::Share,
    }
}

/// A batch with nothing in it.
pub(super) fn batch_at(clock: Millis, calendar: &Calendar) -> Batch {
    Batch { shards: vec!["s/m".to_owned()], ..Batch::empty("", clock, calendar) }
}

/// Asks for a lease under that name.
pub(super) fn ask(lease: String) -> Acquire {
    Acquire {
        lease,
        shard: 0,
        amounts: Amounts { permits: 1, input: 400, total: 800, spend: 0 },
        ttl: MINUTE,
        send_within: SEND_WITHIN,
        only: Vec::new(),
        exclude: Vec::new(),
        common: Vec::new(),
        usage: "c\u{1f}m".to_owned(),
        note: String::new(),
    }
}

/// Reports that the lease's request went well.
pub(super) fn report(lease: &str) -> Settle {
    Settle {
        charge: Charge::TrueUp,
        input_tokens: 300,
        total_tokens: 700,
        clear: true,
        memo: "d::ok".to_owned(),
        outcome: "ok".to_owned(),
        ..Settle::not_sent(lease)
    }
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, pool: u64) -> Self {
        let projects = plan.part(plan.projects, pool);
        let mut kernel = Kernel::default();
        kernel.apply(&spec(projects, plan.rpm.cast_signed()));
        let parts: u64 = WEIGHTS.iter().sum();
        let of_pool = plan.part(plan.workers, pool);
        let workers = WEIGHTS.map(|weight| (of_pool * weight / parts).max(1));
        let minutes = usize::try_from(plan.length / MINUTE).expect("days are short") + 1;
        let hours = minutes / 60 + 1;
        let zeros = || vec![0; minutes];
        let day = Day {
            wanted: zeros(),
            granted: zeros(),
            given_up: zeros(),
            calls: zeros(),
            operations: zeros(),
            waited: vec![0; minutes],
            wanted_by: vec![[0; WEIGHTS.len()]; hours],
            granted_by: vec![[0; WEIGHTS.len()]; hours],
            ..Day::default()
        };
        Self {
            plan,
            now: DAWN,
            rng: StdRng::seed_from_u64(pool),
            kernel,
            calendar: (DAWN, Calendar::around(DAWN)),
            events: BTreeMap::new(),
            planned: 0,
            capacity: (projects * plan.rpm) as f64,
            workers,
            idle: workers,
            streams: [0; WEIGHTS.len()],
            line: Line::default(),
            settles: VecDeque::new(),
            direct: VecDeque::new(),
            in_flight: None,
            reply: None,
            names: 0,
            held: 0,
            arrivals: (0..projects).map(|_| VecDeque::new()).collect(),
            day,
        }
    }

    fn go(&mut self) {
        self.plan(DAWN, Event::Streams);
        let end = DAWN + self.plan.length;
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at >= end {
                break;
            }
            if self.line.waits() {
                self.count_waiting(at);
            }
            self.now = at;
            match event {
                Event::Comes(consumer, stream) => self.comes(consumer, stream),
                Event::Streams => self.bring_up_to_date(),
                Event::Replies => self.replied(),
                Event::Arrives(project) => self.arrives(project),
                Event::Ends(lease, consumer) => {
                    self.idle[consumer] += 1;
                    self.held -= 1;
                    self.settles.push_back(report(&lease));
                    self.commit();
                }
                Event::Wakes => self.commit(),
                Event::GivesUp => self.give_up(),
            }
        }
    }

    fn plan(&mut self, at: Millis, event: Event) {
        self.events.insert((at, self.planned), event);
        self.planned += 1;
    }

    fn minute(&self) -> usize {
        usize::try_from((self.now - DAWN) / MINUTE).expect("the day has begun")
    }

    fn hour(&self) -> usize {
        usize::try_from((self.now - DAWN) / HOUR).expect("the day has begun")
    }

    fn count_waiting(&mut self, until: Millis) {
        let minute = self.minute();
        let ends = DAWN + (self.minute() as i64 + 1) * MINUTE;
        self.day.waited[minute] += until.min(ends) - self.now;
        if until > ends {
            self.day.waited[minute + 1] += until - ends;
        }
    }

    /// Every stream goes on at the rate of its idle workers and the hour.
    fn bring_up_to_date(&mut self) {
        for consumer in 0..WEIGHTS.len() {
            self.streams[consumer] += 1;
            self.plan_next(consumer);
        }
        self.plan(self.now + STREAM_STEP, Event::Streams);
    }

    /// The next request of a consumer: all workers are alike, so its stream has the rate of those that are idle.
    fn plan_next(&mut self, consumer: usize) {
        let all: u64 = self.workers.iter().sum();
        let a_worker = load(self.plan.from + self.now - DAWN) * self.capacity / (MINUTE as f64 * all as f64);
        let rate = a_worker * self.idle[consumer] as f64;
        if rate <= 0.0 {
            return;
        }
        let wait = -(1.0 - self.rng.random::<f64>()).ln() / rate;
        if wait < STREAM_STEP as f64 {
            let event = Event::Comes(consumer, self.streams[consumer]);
            self.plan(self.now + wait.round() as i64, event);
        }
    }

    fn comes(&mut self, consumer: usize, stream: u64) {
        if stream != self.streams[consumer] {
            return;
        }
        let (minute, hour) = (self.minute(), self.hour());
        self.day.wanted[minute] += 1;
        self.day.wanted_by[hour][consumer] += 1;
        self.idle[consumer] -= 1;
        let waiter = Waiter { consumer, arrived: self.now };
        if self.line.waits() {
            self.join(waiter);
        } else {
            self.direct.push_back(waiter);
        }
        self.commit();
        self.plan_next(consumer);
    }

    fn join(&mut self, waiter: Waiter) {
        self.plan(waiter.arrived + PATIENCE, Event::GivesUp);
        self.line.join(waiter);
    }

    fn give_up(&mut self) {
        let minute = self.minute();
        for waiter in self.line.give_up(self.now - PATIENCE) {
            self.idle[waiter.consumer] += 1;
            self.day.given_up[minute] += 1;
        }
    }

    /// If no call is under way, all that is queued goes in the next one, reports first.
    fn commit(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        let settles: Vec<Settle> = {
            let most = self.settles.len().min(LARGEST_BATCH);
            self.settles.drain(..most).collect()
        };
        let mut asked: Vec<Asked> = settles.iter().map(|_| Asked::Settle).collect();
        while asked.len() < LARGEST_BATCH
            && let Some(waiter) = self.direct.pop_front()
        {
            asked.push(self.named(waiter));
        }
        let room = LARGEST_BATCH - asked.len();
        for waiter in self.line.next(self.now, room) {
            asked.push(self.named(waiter));
        }
        if asked.is_empty() {
            return;
        }
        if self.now - self.calendar.0 > 10 * MINUTE {
            self.calendar = (self.now, Calendar::around(self.now));
        }
        let mut batch = batch_at(self.now, &self.calendar.1);
        batch.settles = settles;
        for asked in &asked {
            if let Asked::Acquire(_, lease) = asked {
                batch.acquires.push(ask(lease.clone()));
            }
        }
        let began = Instant::now();
        let reply = self.kernel.execute(self.now, &batch).expect("the calendar covers the clock");
        self.kernel.changes = Default::default();
        self.day.kernel += began.elapsed();
        let minute = self.minute();
        self.day.calls[minute] += 1;
        self.day.operations[minute] += asked.len() as u64;
        *self.day.batches.entry(asked.len()).or_default() += 1;
        self.in_flight = Some(asked);
        self.reply = Some(reply);
        self.plan(self.now + CALL, Event::Replies);
    }

    fn named(&mut self, waiter: Waiter) -> Asked {
        self.names += 1;
        Asked::Acquire(waiter, format!("{:x}", self.names))
    }

    fn replied(&mut self) {
        let (Some(asked), Some(reply)) = (self.in_flight.take(), self.reply.take()) else { return };
        let mut answers = reply.acquires.into_iter();
        let (mut refused, mut granted) = (Vec::new(), 0);
        let mut rest = None;
        for asked in asked {
            let Asked::Acquire(waiter, lease) = asked else { continue };
            let answer = answers.next().expect("every acquire has an answer");
            if answer.0 == AcquireState::Granted {
                granted += 1;
                let project = answer.2.parse().expect("candidates are numbered");
                self.granted(waiter, lease, project, reply.now);
            } else {
                rest = Some(answer.1);
                refused.push(waiter);
            }
        }
        let was_refused = !refused.is_empty();
        for waiter in refused.into_iter().rev() {
            if waiter.arrived + PATIENCE <= self.now {
                self.idle[waiter.consumer] += 1;
                let minute = self.minute();
                self.day.given_up[minute] += 1;
            } else if self.line.knows(&waiter) {
                self.line.back(waiter);
            } else {
                self.join(waiter);
            }
        }
        self.line.answered(granted, was_refused, rest);
        if let Some(at) = rest {
            self.plan(at.max(self.now), Event::Wakes);
        }
        self.commit();
    }

    fn granted(&mut self, waiter: Waiter, lease: String, project: usize, at: Millis) {
        let (minute, hour) = (self.minute(), self.hour());
        self.day.granted[minute] += 1;
        self.day.granted_by[hour][waiter.consumer] += 1;
        self.held += 1;
        self.day.most_held = self.day.most_held.max(self.held);
        // One in ten is sent at the last moment.
        let on_the_way =
            if self.rng.random_bool(0.1) { SEND_WITHIN } else { self.rng.random_range(CALL..60) };
        self.plan(at + on_the_way, Event::Arrives(project));
        let latency = (-LATENCY * (1.0 - self.rng.random::<f64>()).ln()).min(50_000.0) as i64;
        self.plan(at + on_the_way + latency, Event::Ends(lease, waiter.consumer));
    }

    /// Google counts a request, by itself.
    fn arrives(&mut self, project: usize) {
        let now = self.now;
        let arrivals = &mut self.arrivals[project];
        while arrivals.front().is_some_and(|first| first + MINUTE <= now) {
            arrivals.pop_front();
        }
        arrivals.push_back(now);
        self.day.over_limit += u64::from(arrivals.len() as u64 > self.plan.rpm);
    }
}
