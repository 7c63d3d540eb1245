//! A broker: its group commit, one line of waiters for each model, and what it tells workers.
//!
//! Accounts, candidates, limits, the reading of Google's answers and what a report keeps are the product's own pure
//! functions. Group commit is rebuilt after `broker/src/pool/committer.rs`, rule by rule. The line is a plain
//! rebuilding of the broker's queue: round robin between consumers, one question at a time, asked again at the instant
//! the ledger named.

mod commit;
mod line;

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use keybroker::{
    gemini,
    lease_id::LeaseId,
    ledger::{Acquire, Amounts, CommonSpec, Millis, Renew, Settle, USAGE_MARK, calendar::Calendar},
    pool::{
        Report, Usage,
        accounts::{AccountOf, commons, plan_common, shard_name, shard_spec},
        settle,
    },
};
use keybroker_proto::v1::Tier;

use super::{
    events::Answer,
    google::Told,
    run::Run,
    setting::{CONSUMERS, MODELS, SECOND, pool_name},
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
                specs.extend(
                    plan.and_then(|plan| plan_common(AccountOf::Consumer(name), plan, opened.generation)),
                );
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
        let file = self.brokers[broker].file;
        let name = pool_name(pool);
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

    fn ask_ledger(&mut self, broker: usize, call: u64) {
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
            amounts: Amounts { permits: wish.permits, input: wish.input, total: wish.input, spend: 0 },
            ttl: millis(config.lease_ttl),
            send_within: millis(config.send_within),
            only: Vec::new(),
            exclude: wish.exclude.clone(),
            common: Vec::new(),
            usage: format!("{}{}{}", CONSUMERS[wish.consumer], USAGE_MARK, MODELS[wish.model]),
            note: String::new(),
        };
        let shard = it.pools[pool].shards[wish.model].clone();
        let commons = it.pools[pool].commons[&(wish.model, wish.consumer)].clone();
        self.enqueue(broker, pool, Job::Acquire { shard, op, commons, call });
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
