//! Workers: processes with tasks, each of which asks for a lease, sends one request and reports what came of it,
//! by the rules that the SDKs keep.

use keybroker::{gemini::TransportKind, ledger::Millis};
use rand::RngExt;

use super::{
    broker::{Caller, Question, Wish},
    events::{Answer, Event, Grant},
    google::{Told, trouble},
    rules::Rule,
    run::Run,
    setting::{HOUR, LIMITED, MINUTE, MODELS, SECOND},
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
    pub(super) fn tasks_of(setting: &super::setting::Setting) -> Vec<Task> {
        let workers = setting.workers.iter().enumerate();
        let of_worker = |(worker, plan): (usize, &super::setting::WorkerPlan)| {
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

    fn report(&mut self, task: usize) {
        let caller = self.new_call(task, PATIENCE);
        let it = &self.tasks[task];
        let (broker, sending) = (it.broker, it.sending.expect("who reports held a lease"));
        self.send_report(caller, broker, sending);
    }

    fn send_report(&mut self, caller: Caller, broker: usize, sending: usize) {
        let it = &self.sendings[sending];
        let told = it.told.clone().expect("who reports was told");
        let (pool, shard, unique, input) = (it.pool, it.shard.clone(), it.unique.clone(), it.input);
        self.say(format_args!("{unique} is reported to broker {broker}: {}", told.name()));
        self.send(broker, Question::Report { caller, pool, shard, unique, told, input });
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

    fn granted(&mut self, task: usize, grant: Grant) {
        let now = self.now;
        let weather = self.weather;
        let it = &mut self.tasks[task];
        let request = it.request.as_mut().expect("who asks has a request");
        request.tries += 1;
        request.exclude.clear();
        let (pool, model) = (it.pool, request.model);
        self.longest_wait = self.longest_wait.max(now - request.since);
        let sending = self.sendings.len();
        it.sending = Some(sending);
        it.state = State::Holding;
        // Its timer ran from when it sent its question, and may run slow.
        let allowed = grant.send_within * (1_000_000 + it.drift) / 1_000_000;
        let deadline = it.asked_at + allowed;
        let renew_every = (grant.expires_in * it.renews_at / 200).max(500);
        let (life, actual, permits) = (it.life, request.actual, request.permits);
        self.sendings.push(Sending {
            task,
            life,
            pool,
            model,
            shard: grant.shard,
            unique: grant.unique,
            key: grant.key,
            input: actual,
            permits,
            told: None,
            expires_at: now + grant.expires_in,
            renew_every,
            memo: None,
        });
        self.granted_leases += 1;
        self.wants(task, pool, model, -1);
        let dice = self.rng.random_range(0..1_000);
        let told = if now > deadline {
            Some((Told::NotSent, 1))
        } else if dice < weather.not_sent {
            Some((Told::NotSent, deadline - now + 5))
        } else if weather.trouble && dice >= 995 {
            Some((Told::Transport(TransportKind::Connect), 100))
        } else {
            None
        };
        if let Some((told, delay)) = told {
            self.events.plan(now + delay, Event::Hears { task, life, sending, told });
            return;
        }
        let room = deadline - now;
        let on_the_way = if self.rng.random_range(0..1_000) < weather.last_moment {
            room - self.rng.random_range(0..3).min(room)
        } else {
            self.rng.random_range(1..60).min(room)
        };
        self.events.plan(now + on_the_way, Event::Arrives(sending));
        self.events.plan(now + renew_every, Event::Renews { task, life, sending });
    }

    /// A request reaches Google.
    pub(super) fn arrives(&mut self, sending: usize) {
        let now = self.now;
        let start = self.setting.start;
        let Sending { task, life, pool, model, input, permits, .. } = self.sendings[sending];
        let unique = self.sendings[sending].unique.clone();
        let project = &self.keys[&self.sendings[sending].key].0;
        let quota =
            self.quotas.iter().position(|quota| quota.project == *project && quota.model == MODELS[model]);
        let quota = &mut self.quotas[quota.expect("every project is offered every model")];
        let refusal = quota.arrive(start, now, permits, input);
        let found = self.seam.pools[pool].book.arrived(&unique, input, now);
        self.seam.found.extend(found);
        let told = match refusal {
            Some(_) if !self.setting.weather.outside => {
                let what = format!("Google refuses {unique}, and nobody else uses {project}");
                self.seam.found.push((Rule::NoOverSpend, what));
                Told::Transport(TransportKind::Timeout)
            }
            Some(body) => Told::Http(body),
            None => {
                let quota = self.quotas.iter_mut().find(|quota| {
                    quota.project == self.keys[&self.sendings[sending].key].0 && quota.model == MODELS[model]
                });
                let quota = quota.expect("every project is offered every model");
                // What is served in the time that is looked at for utilisation.
                quota.served += if now < self.setting.traffic_until { permits.unsigned_abs() } else { 0 };
                self.fate_at_google(sending)
            }
        };
        let latency = match told {
            Told::Http(_) => self.rng.random_range(30..400),
            _ if !self.setting.calm && self.rng.random_bool(0.05) => self.rng.random_range(5_000..90_000),
            _ => self.rng.random_range(200..5_000),
        };
        let key = self.sendings[sending].key.clone();
        self.say(format_args!("{unique} reaches {key} at Google: {}", told.name()));
        self.events.plan(now + latency, Event::Hears { task, life, sending, told });
    }

    fn fate_at_google(&mut self, sending: usize) -> Told {
        if !self.weather.trouble {
            return Told::Success;
        }
        let (key, text) = {
            let key = &self.sendings[sending].key;
            (key.clone(), self.keys[key].1.clone())
        };
        let dice = self.rng.random_range(0..1_000);
        // The first key of a project is always well, so that there is one to be had in the end.
        let dice = if key.ends_with("-0") && (12..14).contains(&dice) { 999 } else { dice };
        trouble(dice, &text).unwrap_or(Told::Success)
    }

    /// Google's answer, or the lack of it, reaches a task.
    pub(super) fn hears(&mut self, task: usize, life: u32, sending: usize, told: Told) {
        let it = &mut self.tasks[task];
        if it.life != life || it.sending != Some(sending) || it.state != State::Holding {
            return;
        }
        it.state = State::Reporting { tries: 0 };
        it.call = None;
        self.sendings[sending].told = Some(told);
        if self.rng.random_range(0..1_000) < self.weather.late {
            let expires_in = (self.sendings[sending].expires_at - self.now).max(0);
            let late = expires_in + self.rng.random_range(0..12 * MINUTE);
            self.act_in(task, late);
        } else {
            self.report(task);
        }
        if self.rng.random_range(0..1_000) < self.weather.repeated {
            let later = self.rng.random_range(100..30_000);
            self.events.plan(self.now + later, Event::Repeats { sending });
        }
    }

    /// What was reported is reported once more, to any broker, and nobody waits for the answer.
    pub(super) fn repeats_report(&mut self, sending: usize) {
        self.calls += 1;
        let call = self.calls;
        self.repeats.insert(call, sending);
        let broker = self.rng.random_range(0..self.brokers.len());
        let Sending { task, life, .. } = self.sendings[sending];
        self.send_report(Caller { task, life, call }, broker, sending);
    }

    fn check_advice(&mut self, sending: usize, answer: &Answer) {
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
    fn advised(&mut self, task: usize, sending: usize) {
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
    fn finish(&mut self, task: usize) {
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

    /// A lease is to be renewed, unless its request is over.
    pub(super) fn renews(&mut self, task: usize, life: u32, sending: usize) {
        let it = &self.tasks[task];
        if it.life != life || it.sending != Some(sending) || it.state != State::Holding {
            return;
        }
        let caller = self.new_call(task, PATIENCE);
        let broker = self.tasks[task].broker;
        let it = &self.sendings[sending];
        let (pool, shard, unique) = (it.pool, it.shard.clone(), it.unique.clone());
        let again = self.now + it.renew_every;
        self.say(format_args!("{unique} is to be renewed by broker {broker}"));
        self.send(broker, Question::Renew { caller, pool, shard, unique });
        self.events.plan(again, Event::Renews { task, life, sending });
    }

    fn renewed(&mut self, task: usize, until: Option<i64>) {
        let Some(sending) = self.tasks[task].sending else { return };
        if let Some(left) = until {
            self.sendings[sending].expires_at = self.now + left;
        }
    }

    /// A worker dies, and what its tasks hold is never reported.
    pub(super) fn kill_worker(&mut self, worker: usize) {
        for task in 0..self.tasks.len() {
            if self.tasks[task].worker != worker {
                continue;
            }
            let it = &mut self.tasks[task];
            it.life += 1;
            let was_asking = it.state == State::Asking;
            let wanted = it.request.take().filter(|_| matches!(it.state, State::Asking | State::Idle));
            let (call, broker, pool) = (it.call.take(), it.broker, it.pool);
            it.state = State::Idle;
            it.sending = None;
            if let Some(request) = wanted {
                self.wants(task, pool, request.model, -1);
            }
            // Its connection may be seen to break.
            if let Some(call) = call.filter(|_| was_asking)
                && self.rng.random_bool(0.5)
            {
                self.send(broker, Question::Cancel(call));
            }
        }
        self.say(format_args!("worker {worker} dies"));
    }

    pub(super) fn revive_worker(&mut self, worker: usize) {
        for task in 0..self.tasks.len() {
            if self.tasks[task].worker == worker {
                let delay = self.rng.random_range(0..1_000);
                self.act_in(task, delay);
            }
        }
        self.say(format_args!("worker {worker} is back"));
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
