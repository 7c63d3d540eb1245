//! A broker: its group commit, one line of waiters for each model, and what it tells workers.
//!
//! Accounts, candidates, limits, the reading of Google's answers and what a report keeps are the product's own pure
//! functions. Group commit is rebuilt after `broker/src/pool/committer.rs`, rule by rule. The line is a plain
//! rebuilding of the broker's queue: round robin between consumers, one question at a time, asked again at the instant
//! the ledger named.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use keybroker::ledger::{
    Acquire, AcquireState, Acquired, Batch, CommonSpec, FOREVER, Millis, Renew, RenewState, Reply, Settle,
    SettleState, calendar::Calendar, shard::REBASE_AT,
};

use super::{
    events::{Answer, Event, Grant},
    google::Told,
    run::Run,
    setting::{MINUTE, SECOND},
};

/// The most operations in one call, as in the product.
const LARGEST_BATCH: usize = 256;
/// For how long a broker waits for the ledger.
const LEDGER_PATIENCE: i64 = SECOND;
/// How often a line whose turn is taken asks anew, since reports may have gone to other brokers.
const ASKS_ANEW: i64 = SECOND;

/// Who is to be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) task: usize,
    pub(super) life: u32,
    pub(super) call: u64,
}

/// What a worker wants.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) pool: usize,
    pub(super) model: usize,
    pub(super) consumer: usize,
    pub(super) input: i64,
    pub(super) permits: i64,
    pub(super) wait: i64,
    pub(super) exclude: Vec<String>,
}

/// A message to a broker.
#[derive(Debug, Clone)]
pub(super) enum Question {
    Acquire(Caller, Wish),
    /// The caller is gone.
    Cancel(u64),
    Report {
        caller: Caller,
        pool: usize,
        shard: String,
        unique: String,
        told: Told,
        input: i64,
    },
    Renew {
        caller: Caller,
        pool: usize,
        shard: String,
        unique: String,
    },
}

/// What waits for the next call to a pool's ledger.
#[derive(Debug)]
enum Job {
    Settle { shard: String, op: Settle, caller: Option<Caller> },
    Renew { shard: String, op: Renew, caller: Caller },
    Acquire { shard: String, op: Acquire, commons: Rc<Vec<CommonSpec>>, call: u64 },
}

/// A call to the ledger that is under way.
#[derive(Debug)]
struct Flight {
    number: u64,
    jobs: Vec<Job>,
}

/// One who asks for a lease.
#[derive(Debug)]
struct Asker {
    caller: Caller,
    wish: Wish,
    arrived: Millis,
    /// For how long it had waited when the ledger was asked.
    waited: i64,
    in_line: bool,
    /// Its time is over, and an answer of the ledger's is still to come.
    over: bool,
}

/// Those who wait for a model.
#[derive(Debug, Default)]
struct Line {
    /// In the order of arrival.
    waiters: Vec<u64>,
    /// Whose turn was last.
    last: usize,
    /// For whom the ledger is asked.
    asking: Option<u64>,
    /// Nobody is asked for before.
    rest_until: Millis,
    /// Consumers whose own limit refused them, and until when.
    stand_still: BTreeMap<usize, Millis>,
}

#[derive(Debug, Default)]
struct AtPool {
    generation: i64,
    ledger_id: String,
    queue: VecDeque<Job>,
    flight: Option<Flight>,
    lines: BTreeMap<usize, Line>,
    shards: Vec<String>,
    commons: BTreeMap<(usize, usize), Rc<Vec<CommonSpec>>>,
}

/// A broker process.
#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) alive: bool,
    pub(super) life: u32,
    /// Which file it has read.
    file: usize,
    pools: Vec<AtPool>,
    askers: BTreeMap<u64, Asker>,
    calendar: Option<(Millis, Calendar)>,
    /// How far its clock is off.
    pub(super) clock_off: i64,
    names: u64,
    /// How many operations went in how many calls.
    pub(super) calls: u64,
    pub(super) operations: u64,
}

impl Run {
    /// A broker starts, or reads another file: it opens its pools and writes its shards.
    pub(super) fn start_broker(&mut self, broker: usize, file: usize) {
        let fresh = !self.brokers[broker].alive;
        self.brokers[broker].alive = true;
        self.brokers[broker].file = file;
        if fresh {
            let pools = (0..self.setting.pools()).map(|_| AtPool::default()).collect();
            self.brokers[broker].pools = pools;
        }
        for pool in 0..self.setting.pools() {
            self.open_pool(broker, pool, file);
        }
        self.say(format_args!("broker {broker} reads file {file}"));
    }

    fn open_pool(&mut self, broker: usize, pool: usize, file: usize) {
        use super::setting::{CONSUMERS, MODELS};
        use keybroker::pool::accounts::{commons, consumer_common, shard_name, shard_spec};
        use keybroker_proto::v1::Tier;

        let (catalogue, digest) = &self.setting.catalogues[file];
        let config = self.setting.pool(file, pool);
        let opened = self.seam.open(pool, digest);
        let at_pool = &mut self.brokers[broker].pools[pool];
        at_pool.generation = opened.generation;
        at_pool.ledger_id = opened.ledger_id;
        at_pool.shards.clear();
        at_pool.commons.clear();
        for (number, model) in MODELS.iter().enumerate() {
            let shard = shard_name(digest, model, Tier::Unspecified);
            let spec = shard_spec(config, &shard, model, Tier::Unspecified, opened.generation);
            self.seam.apply(pool, &spec.expect("every pool has keys"));
            at_pool.shards.push(shard);
            for (consumer, name) in CONSUMERS.iter().enumerate() {
                let mut specs = commons(config, model, opened.generation);
                let plan = catalogue.plan_of(name);
                specs.extend(plan.and_then(|plan| consumer_common(name, plan, opened.generation)));
                at_pool.commons.insert((number, consumer), Rc::new(specs));
            }
        }
    }

    pub(super) fn kill_broker(&mut self, broker: usize) {
        let it = &mut self.brokers[broker];
        let kept = (it.life + 1, it.clock_off, it.names, it.calls, it.operations);
        *it = Broker::default();
        (it.life, it.clock_off, it.names, it.calls, it.operations) = kept;
    }

    /// A message reaches a broker.
    pub(super) fn asked(&mut self, broker: usize, question: Question) {
        if !self.brokers[broker].alive {
            self.nobody_there(&question);
            return;
        }
        match question {
            Question::Acquire(caller, wish) => self.asked_for_lease(broker, caller, wish),
            Question::Cancel(call) => self.gone(broker, call),
            Question::Report { caller, pool, shard, unique, told, input } => {
                let op = self.settle_op(broker, pool, &shard, &unique, &told, input);
                let job = Job::Settle { shard, op, caller: Some(caller) };
                self.enqueue(broker, pool, job);
            }
            Question::Renew { caller, pool, shard, unique } => {
                let ttl = millis(self.setting.pool(self.brokers[broker].file, pool).lease_ttl);
                let op = Renew { lease: unique, shard: 0, ttl };
                self.enqueue(broker, pool, Job::Renew { shard, op, caller });
            }
        }
    }

    /// Where no broker is, a connection is refused at once.
    fn nobody_there(&mut self, question: &Question) {
        let caller = match question {
            Question::Acquire(caller, _)
            | Question::Report { caller, .. }
            | Question::Renew { caller, .. } => *caller,
            Question::Cancel(_) => return,
        };
        self.answer(caller, Answer::Failed);
    }

    fn settle_op(
        &self,
        broker: usize,
        pool: usize,
        shard: &str,
        unique: &str,
        told: &Told,
        input: i64,
    ) -> Settle {
        use keybroker::{
            gemini,
            lease_id::LeaseId,
            pool::{Report, Usage, settle},
        };
        let file = self.brokers[broker].file;
        let name = super::setting::pool_name(pool);
        let outcome = told.outcome();
        let served = matches!(told, Told::Success);
        let usage = Usage {
            input_tokens: served.then_some(input),
            cached_tokens: None,
            total_tokens: served.then_some(input),
        };
        let report = Report { lease: LeaseId { pool: &name, shard, unique }, outcome, usage };
        let catalogue = &self.setting.catalogues[file].0;
        settle(self.setting.pool(file, pool), catalogue, &report, &gemini::read(&outcome))
    }

    fn asked_for_lease(&mut self, broker: usize, caller: Caller, wish: Wish) {
        let (pool, model, now) = (wish.pool, wish.model, self.now);
        let it = &mut self.brokers[broker];
        let line = it.pools[pool].lines.entry(model).or_default();
        let waits = !line.waiters.is_empty();
        let wait = wish.wait;
        if waits && wait == 0 && line.rest_until > now {
            // Whoever does not wait gets nothing that somebody waits for.
            let wait = Some(line.rest_until - now);
            self.answer(caller, Answer::Refused { wait, why: "others wait".to_owned() });
            return;
        }
        let in_line = waits && wait > 0;
        let asker = Asker { caller, wish, arrived: now, waited: 0, in_line, over: false };
        it.askers.insert(caller.call, asker);
        if in_line {
            self.join_line(broker, pool, model, caller.call, wait);
        } else {
            self.ask_ledger(broker, caller.call);
        }
    }

    fn join_line(&mut self, broker: usize, pool: usize, model: usize, call: u64, wait: i64) {
        let it = &mut self.brokers[broker];
        let life = it.life;
        it.pools[pool].lines.entry(model).or_default().waiters.push(call);
        let ends = it.askers[&call].arrived + wait;
        self.events.plan(ends, Event::WaitEnds { broker, life, pool, model, call });
        self.work_line(broker, pool, model);
    }

    /// Asks for the waiter whose turn it is, if any may be asked for now.
    pub(super) fn work_line(&mut self, broker: usize, pool: usize, model: usize) {
        let now = self.now;
        let it = &mut self.brokers[broker];
        let Some(line) = it.pools[pool].lines.get_mut(&model) else { return };
        if line.asking.is_some() || line.waiters.is_empty() || line.rest_until > now {
            return;
        }
        line.stand_still.retain(|_, until| *until > now);
        let consumers = super::setting::CONSUMERS.len();
        for turn in 1..=consumers {
            let consumer = (line.last + turn) % consumers;
            if line.stand_still.contains_key(&consumer) {
                continue;
            }
            let of_consumer = |call: &&u64| it.askers[*call].wish.consumer == consumer;
            if let Some(&call) = line.waiters.iter().find(of_consumer) {
                line.asking = Some(call);
                self.ask_ledger(broker, call);
                return;
            }
        }
        // All who wait stand still.
        if let Some(&until) = line.stand_still.values().min() {
            let life = it.life;
            self.events.plan(until.min(now + ASKS_ANEW), Event::LineWakes { broker, life, pool, model });
        }
    }

    fn ask_ledger(&mut self, broker: usize, call: u64) {
        use super::setting::{CONSUMERS, MODELS};
        let file = self.brokers[broker].file;
        let now = self.now;
        let it = &mut self.brokers[broker];
        let asker = it.askers.get_mut(&call).expect("who is asked for is there");
        asker.waited = if asker.in_line { now - asker.arrived } else { 0 };
        let wish = &asker.wish;
        let pool = wish.pool;
        let config = self.setting.pool(file, pool);
        it.names += 1;
        let op = Acquire {
            lease: format!("b{broker}-{}", it.names),
            shard: 0,
            amounts: keybroker::ledger::Amounts {
                permits: wish.permits,
                input: wish.input,
                total: wish.input,
                spend: 0,
            },
            ttl: millis(config.lease_ttl),
            send_within: millis(config.send_within),
            only: Vec::new(),
            exclude: wish.exclude.clone(),
            common: Vec::new(),
            usage: format!(
                "{}{}{}",
                CONSUMERS[wish.consumer],
                keybroker::ledger::USAGE_MARK,
                MODELS[wish.model]
            ),
            note: String::new(),
        };
        let shard = it.pools[pool].shards[wish.model].clone();
        let commons = it.pools[pool].commons[&(wish.model, wish.consumer)].clone();
        self.enqueue(broker, pool, Job::Acquire { shard, op, commons, call });
    }

    fn enqueue(&mut self, broker: usize, pool: usize, job: Job) {
        self.brokers[broker].pools[pool].queue.push_back(job);
        self.commit(broker, pool);
    }

    /// If no call is under way, all that is queued goes in the next one.
    fn commit(&mut self, broker: usize, pool: usize) {
        let at_pool = &mut self.brokers[broker].pools[pool];
        if at_pool.flight.is_some() || at_pool.queue.is_empty() {
            return;
        }
        let most = at_pool.queue.len().min(LARGEST_BATCH);
        let jobs: Vec<Job> = at_pool.queue.drain(..most).collect();
        let Calendar { day_ends, month_ends } = self.calendar_of(broker);
        let it = &mut self.brokers[broker];
        let mut batch = Batch {
            ledger_id: it.pools[pool].ledger_id.clone(),
            clock: 0,
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
        let mut under_way = Vec::new();
        for job in jobs {
            match &job {
                // Whoever gave up meanwhile is not granted anything.
                Job::Acquire { call, .. } if !it.askers.contains_key(call) => continue,
                Job::Acquire { shard, op, commons, .. } => {
                    let shard = index(&mut batch.shards, shard);
                    let common = commons.iter().map(|common| index(&mut batch.commons, common)).collect();
                    batch.acquires.push(Acquire { shard, common, ..op.clone() });
                }
                Job::Settle { shard, op, .. } => {
                    let shard = index(&mut batch.shards, shard);
                    batch.settles.push(Settle { shard, ..op.clone() });
                }
                Job::Renew { shard, op, .. } => {
                    let shard = index(&mut batch.shards, shard);
                    batch.renews.push(Renew { shard, ..op.clone() });
                }
            }
            under_way.push(job);
        }
        if under_way.is_empty() {
            return self.commit(broker, pool);
        }
        it.calls += 1;
        it.operations += under_way.len() as u64;
        let (life, number) = (it.life, it.calls);
        it.pools[pool].flight = Some(Flight { number, jobs: under_way });
        if let Some(delay) = self.ledger_delay() {
            let event = Event::Calls { broker, life, flight: number, batch: Box::new(batch), pool };
            self.events.plan(self.now + delay, event);
        }
        let event = Event::LedgerTimesOut { broker, life, pool, flight: number };
        self.events.plan(self.now + LEDGER_PATIENCE, event);
    }

    /// The calendar by the broker's own clock, which may be off.
    fn calendar_of(&mut self, broker: usize) -> Calendar {
        let it = &mut self.brokers[broker];
        let clock = self.now + it.clock_off;
        match &it.calendar {
            Some((made, calendar)) if clock - made < MINUTE => calendar.clone(),
            _ => {
                let calendar = Calendar::around(clock);
                it.calendar = Some((clock, calendar.clone()));
                calendar
            }
        }
    }

    /// A call reaches the ledger, which runs it as one step.
    pub(super) fn called(&mut self, broker: usize, life: u32, flight: u64, batch: &Batch, pool: usize) {
        let clock = self.now - self.set_back;
        let Some(reply) = self.seam.execute(pool, clock, batch) else { return };
        self.note_batch(broker, pool, batch, &reply);
        if let Some(delay) = self.ledger_delay() {
            let event = Event::Replies { broker, life, pool, flight, reply: Box::new(reply) };
            self.events.plan(self.now + delay, event);
        }
    }

    fn take_flight(&mut self, broker: usize, life: u32, pool: usize, flight: u64) -> Option<Flight> {
        let it = &mut self.brokers[broker];
        if !it.alive || it.life != life {
            return None;
        }
        it.pools[pool].flight.take_if(|known| known.number == flight)
    }

    /// A reply reaches the broker: everybody is answered. A reply that comes too late reaches nobody.
    pub(super) fn replied(&mut self, broker: usize, life: u32, pool: usize, flight: u64, reply: Reply) {
        let Some(flight) = self.take_flight(broker, life, pool, flight) else { return };
        let (mut settles, mut renews) = (reply.settles.into_iter(), reply.renews.into_iter());
        let mut acquires = reply.acquires.into_iter();
        let mut freed = false;
        for job in flight.jobs {
            match job {
                Job::Settle { op, caller, .. } => {
                    let answer = settles.next().expect("every settle has an answer");
                    freed |= matches!(answer.0, SettleState::Settled | SettleState::Late);
                    let memo = if answer.0 == SettleState::Already { answer.2 } else { op.memo };
                    if let Some(caller) = caller {
                        self.answer(caller, Answer::Advice { memo });
                    }
                }
                Job::Renew { caller, .. } => {
                    let answer = renews.next().expect("every renewal has an answer");
                    let until = (answer.0 == RenewState::Renewed).then_some(answer.1 - reply.now);
                    self.answer(caller, Answer::Renewed(until));
                }
                Job::Acquire { shard, op, call, .. } => {
                    let answer = acquires.next().expect("every acquire has an answer");
                    self.acquired(broker, pool, &shard, &op, call, answer, reply.now);
                }
            }
        }
        if freed {
            self.freed(broker, pool);
        }
        self.commit(broker, pool);
    }

    /// Something came back: whoever is next in a line is asked for at once.
    fn freed(&mut self, broker: usize, pool: usize) {
        for model in 0..super::setting::MODELS.len() {
            if let Some(line) = self.brokers[broker].pools[pool].lines.get_mut(&model) {
                line.rest_until = 0;
                line.stand_still.clear();
            }
            self.work_line(broker, pool, model);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "an answer is read where its question is known")]
    fn acquired(
        &mut self,
        broker: usize,
        pool: usize,
        shard: &str,
        op: &Acquire,
        call: u64,
        answer: Acquired,
        ledger_now: Millis,
    ) {
        let Acquired(state, at, who, why) = answer;
        let it = &mut self.brokers[broker];
        let Some(asker) = it.askers.get(&call) else {
            // The lease never left the broker: it is given back.
            if state == AcquireState::Granted {
                let give_back = Settle::not_sent(&op.lease);
                let job = Job::Settle { shard: shard.to_owned(), op: give_back, caller: None };
                it.pools[pool].queue.push_back(job);
            }
            return;
        };
        let (caller, model, consumer) = (asker.caller, asker.wish.model, asker.wish.consumer);
        let (in_line, over, wait) = (asker.in_line, asker.over, asker.wish.wait);
        match state {
            AcquireState::Granted => {
                let grant = Grant {
                    unique: op.lease.clone(),
                    shard: shard.to_owned(),
                    key: who,
                    send_within: asker.waited + op.send_within,
                    expires_in: at - ledger_now,
                };
                self.leave(broker, call, Some(consumer));
                self.answer(caller, Answer::Granted(grant));
            }
            AcquireState::Refused => {
                let left = (at < FOREVER).then_some(at - ledger_now);
                let ends = asker.arrived + wait;
                let hopeless = left.is_none_or(|left| self.now + left > ends);
                if in_line && !over && !hopeless {
                    self.rest(broker, pool, model, consumer, &who, left);
                } else if !in_line && wait > 0 && !hopeless {
                    it.askers.get_mut(&call).expect("it was there a moment ago").in_line = true;
                    self.join_line(broker, pool, model, call, wait);
                } else {
                    self.leave(broker, call, None);
                    self.answer(caller, Answer::Refused { wait: left, why });
                }
            }
            AcquireState::Missing => {
                self.leave(broker, call, None);
                self.answer(caller, Answer::Failed);
            }
        }
        self.work_line(broker, pool, model);
    }

    /// The one whose turn it is was refused: it keeps its turn, unless only its own limit is in the way.
    fn rest(
        &mut self,
        broker: usize,
        pool: usize,
        model: usize,
        consumer: usize,
        who: &str,
        left: Option<i64>,
    ) {
        let now = self.now;
        let it = &mut self.brokers[broker];
        let life = it.life;
        let line = it.pools[pool].lines.get_mut(&model).expect("who waits has a line");
        line.asking = None;
        let until = now + left.unwrap_or(ASKS_ANEW);
        if who.starts_with("c/") {
            line.stand_still.insert(consumer, until);
        } else {
            line.rest_until = until.min(now + ASKS_ANEW);
            let at = line.rest_until;
            self.events.plan(at, Event::LineWakes { broker, life, pool, model });
        }
    }

    /// An asker leaves, served or not.
    fn leave(&mut self, broker: usize, call: u64, served: Option<usize>) {
        let it = &mut self.brokers[broker];
        let Some(asker) = it.askers.remove(&call) else { return };
        let Some(line) = it.pools[asker.wish.pool].lines.get_mut(&asker.wish.model) else { return };
        line.waiters.retain(|waiter| *waiter != call);
        if line.asking == Some(call) {
            line.asking = None;
        }
        if let Some(consumer) = served {
            line.last = consumer;
        }
        if line.waiters.is_empty() {
            line.rest_until = 0;
        }
    }

    /// A caller is gone. If the ledger is being asked for it, what it is granted is given back.
    fn gone(&mut self, broker: usize, call: u64) {
        let Some(asker) = self.brokers[broker].askers.get(&call) else { return };
        let (pool, model) = (asker.wish.pool, asker.wish.model);
        self.leave(broker, call, None);
        self.work_line(broker, pool, model);
    }

    /// A waiter's time is over.
    pub(super) fn wait_ends(&mut self, broker: usize, pool: usize, model: usize, call: u64) {
        let it = &mut self.brokers[broker];
        let asking = it.pools[pool].lines.get(&model).and_then(|line| line.asking);
        let Some(asker) = it.askers.get_mut(&call) else { return };
        if asking == Some(call) {
            asker.over = true;
            return;
        }
        let caller = asker.caller;
        self.leave(broker, call, None);
        self.answer(caller, Answer::Refused { wait: Some(SECOND), why: "waited in vain".to_owned() });
        self.work_line(broker, pool, model);
    }

    /// The ledger gave no answer in time. What it was asked may have happened, or may still happen.
    pub(super) fn no_reply(&mut self, broker: usize, life: u32, pool: usize, flight: u64) {
        let Some(flight) = self.take_flight(broker, life, pool, flight) else { return };
        self.say(format_args!("broker {broker} hears nothing of call {}", flight.number));
        for job in flight.jobs {
            match job {
                Job::Settle { caller: Some(caller), .. } | Job::Renew { caller, .. } => {
                    self.answer(caller, Answer::Failed);
                }
                Job::Settle { .. } => {}
                Job::Acquire { call, .. } => {
                    let Some(asker) = self.brokers[broker].askers.get(&call) else { continue };
                    let (caller, in_line, model) = (asker.caller, asker.in_line, asker.wish.model);
                    self.leave(broker, call, None);
                    self.answer(caller, Answer::Failed);
                    if in_line {
                        self.end_line(broker, pool, model);
                    }
                }
            }
        }
        self.commit(broker, pool);
    }

    /// A ledger that fails ends all waiters of a line.
    fn end_line(&mut self, broker: usize, pool: usize, model: usize) {
        let Some(line) = self.brokers[broker].pools[pool].lines.get(&model) else { return };
        for call in line.waiters.clone() {
            let caller = self.brokers[broker].askers[&call].caller;
            self.leave(broker, call, None);
            self.answer(caller, Answer::Failed);
        }
    }
}

fn index<T: PartialEq + Clone>(all: &mut Vec<T>, one: &T) -> usize {
    all.iter().position(|known| known == one).unwrap_or_else(|| {
        all.push(one.clone());
        all.len() - 1
    })
}

pub(super) fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).expect("spans are short")
}
