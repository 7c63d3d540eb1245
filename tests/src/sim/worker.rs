//! Workers: processes with tasks, each of which asks for a lease, sends one request and reports what came of it,
//! by the rules that the SDKs keep.

mod life;
mod report;
mod request;

use keybroker::ledger::Millis;
use rand::RngExt;

use super::{
    broker::{Caller, Question, Wish},
    events::{Answer, Event},
    google::Told,
    run::Run,
    setting::{HOUR, LIMITED, MODELS, SECOND, Setting, WorkerPlan},
};

/// For how long a task waits for a broker, beside the time it is willing to wait for a lease.
const PATIENCE: i64 = 3 * SECOND;
/// How often a report is tried.
const REPORTS: u32 = 8;
/// How often a request is tried.
const TRIES: u32 = 4;

/// One request to be made.
#[derive(Debug, Clone)]
pub(super) struct Request {
    model: usize,
    /// Upper bound of input tokens, and what it takes.
    input: i64,
    actual: i64,
    permits: i64,
    exclude: Vec<String>,
    wait: i64,
    since: Millis,
    tries: u32,
}

/// What a task is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Asking,
    Holding,
    Reporting { tries: u32 },
}

/// One request at a time.
#[derive(Debug)]
pub(super) struct Task {
    worker: usize,
    pub(super) pool: usize,
    consumer: usize,
    drift: i64,
    renews_at: i64,
    pub(super) life: u32,
    turn: u32,
    state: State,
    /// The answer it waits for, which broker was asked, and when.
    call: Option<u64>,
    broker: usize,
    asked_at: Millis,
    request: Option<Request>,
    sending: Option<usize>,
}

/// A lease in the hands of a task.
#[derive(Debug)]
pub(super) struct Sending {
    task: usize,
    life: u32,
    pool: usize,
    model: usize,
    shard: String,
    unique: String,
    key: String,
    input: i64,
    permits: i64,
    told: Option<Told>,
    expires_at: Millis,
    renew_every: i64,
    /// The first advice.
    memo: Option<String>,
}

impl Run {
    pub(super) fn tasks_of(setting: &Setting) -> Vec<Task> {
        let workers = setting.workers.iter().enumerate();
        let of_worker = |(worker, plan): (usize, &WorkerPlan)| {
            let (pool, consumer, drift, renews_at) = (plan.pool, plan.consumer, plan.drift, plan.renews_at);
            (0..plan.tasks).map(move |_| Task {
                worker,
                pool,
                consumer,
                drift,
                renews_at,
                life: 0,
                turn: 0,
                state: State::Idle,
                call: None,
                broker: 0,
                asked_at: 0,
                request: None,
                sending: None,
            })
        };
        workers.flat_map(of_worker).collect()
    }

    /// Plans what a task does next.
    pub(super) fn act_in(&mut self, task: usize, delay: i64) {
        let it = &mut self.tasks[task];
        it.turn += 1;
        let (life, turn) = (it.life, it.turn);
        self.events.plan(self.now + delay, Event::Acts { task, life, turn });
    }

    /// A task does what comes next.
    pub(super) fn acts(&mut self, task: usize, life: u32, turn: u32) {
        let it = &self.tasks[task];
        if (it.life, it.turn) != (life, turn) {
            return;
        }
        match it.state {
            State::Idle if it.request.is_some() => self.ask(task),
            State::Idle if self.now < self.setting.traffic_until => {
                let pool = it.pool;
                let request = self.draw_request();
                let model = request.model;
                self.tasks[task].request = Some(request);
                self.wants(task, pool, model, 1);
                self.ask(task);
            }
            State::Reporting { .. } => self.report(task),
            State::Idle | State::Asking | State::Holding => {}
        }
    }

    fn draw_request(&mut self) -> Request {
        let input = self.rng.random_range(20..400);
        let actual = if self.rng.random_bool(0.5) { input } else { self.rng.random_range(1..=input) };
        Request {
            model: self.rng.random_range(0..MODELS.len()),
            input,
            actual,
            permits: if !self.setting.calm && self.rng.random_bool(0.05) { 2 } else { 1 },
            exclude: Vec::new(),
            wait: [0, 5 * SECOND, 30 * SECOND][self.rng.random_range(0..3)],
            since: self.now,
            tries: 0,
        }
    }

    fn new_call(&mut self, task: usize, patience: i64) -> Caller {
        self.calls += 1;
        let call = self.calls;
        let broker = self.rng.random_range(0..self.brokers.len());
        let now = self.now;
        let it = &mut self.tasks[task];
        it.call = Some(call);
        it.broker = broker;
        it.asked_at = now;
        let life = it.life;
        self.events.plan(now + patience, Event::TimesOut { task, life, call });
        Caller { task, life, call }
    }

    fn ask(&mut self, task: usize) {
        let it = &mut self.tasks[task];
        it.state = State::Asking;
        let request = it.request.as_ref().expect("who asks has a request");
        let wish = Wish {
            pool: it.pool,
            model: request.model,
            consumer: it.consumer,
            input: request.input,
            permits: request.permits,
            wait: request.wait,
            exclude: request.exclude.clone(),
        };
        let caller = self.new_call(task, wish.wait + PATIENCE);
        let broker = self.tasks[task].broker;
        self.say(format_args!(
            "task {task} of consumer {} asks broker {broker} for pool {} model {}, waiting {} ms",
            wish.consumer, wish.pool, wish.model, wish.wait
        ));
        self.send(broker, Question::Acquire(caller, wish));
    }

    /// A task stops waiting for an answer.
    pub(super) fn times_out(&mut self, task: usize, life: u32, call: u64) {
        let it = &mut self.tasks[task];
        if it.life != life || it.call != Some(call) {
            return;
        }
        it.call = None;
        let (state, broker) = (it.state, it.broker);
        if state == State::Asking {
            self.send(broker, Question::Cancel(call));
        }
        self.fails(task);
    }

    /// An answer reaches a task.
    pub(super) fn answered(&mut self, task: usize, life: u32, call: u64, answer: Answer) {
        if let Some(sending) = self.repeats.remove(&call) {
            self.check_advice(sending, &answer);
            return;
        }
        let it = &mut self.tasks[task];
        if it.life != life || it.call != Some(call) {
            return;
        }
        if let (State::Holding, Answer::Renewed(until)) = (it.state, &answer) {
            it.call = None;
            return self.renewed(task, *until);
        }
        it.call = None;
        match answer {
            Answer::Granted(grant) => self.granted(task, grant),
            Answer::Refused { wait, why } => self.refused(task, wait, &why),
            Answer::Advice { .. } => {
                let sending = self.tasks[task].sending.expect("who reports held a lease");
                self.check_advice(sending, &answer);
                self.advised(task, sending);
            }
            Answer::Renewed(_) => {}
            Answer::Failed => self.fails(task),
        }
    }

    fn refused(&mut self, task: usize, wait: Option<i64>, why: &str) {
        self.say(format_args!("task {task} is refused for {wait:?}: {why}"));
        let it = &mut self.tasks[task];
        it.state = State::Idle;
        let request = it.request.as_mut().expect("who asks has a request");
        let delay = match wait {
            Some(wait) => wait.max(1) + self.rng.random_range(0..200),
            None if request.exclude.is_empty() => 10 * SECOND,
            // No key is left but those it did not want.
            None => {
                request.exclude.clear();
                SECOND
            }
        };
        self.act_in(task, delay);
    }

    /// No answer came, or the ledger gave none.
    fn fails(&mut self, task: usize) {
        let delay = self.rng.random_range(100..1_000);
        match self.tasks[task].state {
            State::Asking => {
                self.tasks[task].state = State::Idle;
                self.act_in(task, delay);
            }
            State::Reporting { tries } if tries < REPORTS => {
                self.tasks[task].state = State::Reporting { tries: tries + 1 };
                self.act_in(task, delay);
            }
            // What is not reported stays charged.
            State::Reporting { .. } => self.finish(task),
            State::Idle | State::Holding => {}
        }
    }

    /// Counts who wants a lease and is under no limit of its own.
    fn wants(&mut self, task: usize, pool: usize, model: usize, by: i64) {
        if self.tasks[task].consumer == LIMITED {
            return;
        }
        let now = self.now;
        self.demand.entry((pool, model)).or_default().change(now, by);
    }

    /// Those who still wait though nothing is in their way any more.
    pub(super) fn starving(&self) -> Vec<String> {
        let waits = |(number, task): (usize, &Task)| {
            let request = task.request.as_ref()?;
            let waits = matches!(task.state, State::Asking | State::Idle);
            let since = request.since - self.setting.start;
            waits.then(|| format!("task {number} of pool {} waits since {since}", task.pool))
        };
        self.tasks.iter().enumerate().filter_map(waits).collect()
    }

    /// By when everybody must be served: a day's limit may be in the way until midnight, and of so many that it takes
    /// several days.
    pub(super) fn served_by(&self) -> Millis {
        self.setting.traffic_until + if self.setting.daily { 8 * 24 * HOUR } else { HOUR }
    }
}
