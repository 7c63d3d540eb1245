//! A pool on a ledger in memory, whose clock is the runtime's and which counts how often it is asked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

use crate::{
    catalogue::{self, Catalogue, Dimension, Key, Limit, LimitRule, Project, Window},
    claims::{FleetTurns, LocalClaims},
    events::Events,
    lease_id::LeaseNames,
    ledger::{
        AcquireState, Batch, Inspection, Ledger, LedgerError, LedgerFuture, Millis, Opened, Reply, ShardSpec,
        USAGE_MARK, UsageRow, kernel::Kernel,
    },
    pool::{AcquireError, Grant, Pool, Stats, Surroundings, Wish},
    secret::Secret,
};

pub(super) const MODEL: &str = "gemini-fake";

/// The kernel, with a clock that begins on a whole minute.
pub(super) struct FakeLedger {
    kernel: Mutex<Kernel>,
    started: Instant,
    begins: i64,
    latency: Duration,
    down: Mutex<bool>,
    /// Acquires and grants by the second in which they were made.
    pub(super) asked: Mutex<BTreeMap<u64, (usize, usize)>>,
    /// Acquires by who asks.
    by_consumer: Mutex<BTreeMap<String, usize>>,
}

impl FakeLedger {
    fn new(latency: Duration) -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let begins = i64::try_from(since.as_millis()).unwrap() / 60_000 * 60_000;
        Self {
            kernel: Mutex::default(),
            started: Instant::now(),
            begins,
            latency,
            down: Mutex::default(),
            asked: Mutex::default(),
            by_consumer: Mutex::default(),
        }
    }

    fn now(&self) -> i64 {
        self.begins + i64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    fn run(&self, batch: &Batch) -> Result<Reply, LedgerError> {
        if *self.down.lock().unwrap() {
            return Err(LedgerError::Unavailable("down".to_owned()));
        }
        let reply = self.kernel.lock().unwrap().execute(self.now(), batch).ok_or(LedgerError::Clock)?;
        let granted = reply.acquires.iter().filter(|answer| answer.0 == AcquireState::Granted).count();
        for acquire in &batch.acquires {
            let consumer = acquire.usage.split(USAGE_MARK).next().unwrap_or_default().to_owned();
            *self.by_consumer.lock().unwrap().entry(consumer).or_default() += 1;
        }
        let mut asked = self.asked.lock().unwrap();
        let counts = asked.entry(self.started.elapsed().as_secs()).or_default();
        *counts = (counts.0 + reply.acquires.len(), counts.1 + granted);
        Ok(reply)
    }

    pub(super) fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    /// How many acquires of a consumer it ran.
    pub(super) fn asked_by(&self, consumer: &str) -> usize {
        self.by_consumer.lock().unwrap().get(consumer).copied().unwrap_or_default()
    }

    /// How many acquires it ran, and how many of them it granted.
    pub(super) fn totals(&self) -> (usize, usize) {
        let asked = self.asked.lock().unwrap();
        asked.values().fold((0, 0), |sum, (acquires, granted)| (sum.0 + acquires, sum.1 + granted))
    }
}

impl Ledger for FakeLedger {
    fn held<'a>(&'a self, _: &'a str, _: &'a str, _: Millis) -> LedgerFuture<'a, usize> {
        Box::pin(async { Ok(0) })
    }

    fn open<'a>(&'a self, _: &'a str, _: &'a str) -> LedgerFuture<'a, Opened> {
        Box::pin(async { Ok(Opened { ledger_id: "fake".to_owned(), generation: 1 }) })
    }

    fn apply<'a>(&'a self, _: &'a str, _: &'a str, spec: &'a ShardSpec) -> LedgerFuture<'a, ()> {
        Box::pin(async {
            self.kernel.lock().unwrap().apply(spec);
            Ok(())
        })
    }

    fn execute<'a>(&'a self, _: &'a str, batch: &'a Batch) -> LedgerFuture<'a, Reply> {
        Box::pin(async {
            let reply = self.run(batch)?;
            if !self.latency.is_zero() {
                tokio::time::sleep(self.latency).await;
            }
            Ok(reply)
        })
    }

    fn inspect<'a>(&'a self, _: &'a str, accounts: &'a [String]) -> LedgerFuture<'a, Inspection> {
        Box::pin(async {
            let kernel = self.kernel.lock().unwrap();
            let accounts = accounts.iter().map(|id| kernel.account(id).cloned()).collect();
            Ok(Inspection { now: self.now(), accounts })
        })
    }

    fn usage<'a>(&'a self, _: &'a str, _: &'a [Millis]) -> LedgerFuture<'a, Vec<UsageRow>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn ping(&self) -> LedgerFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// What became of a request, and when.
pub(super) type Outcome = (u64, Result<Grant, AcquireError>);

#[derive(Clone)]
pub(super) struct Setting {
    pub(super) ledger: Arc<FakeLedger>,
    pub(super) pool: Arc<Pool>,
    pub(super) stats: Arc<Stats>,
    pub(super) queues: Arc<crate::pool::Queues>,
    pub(super) draining: tokio_util::sync::CancellationToken,
    started: Instant,
}

/// A pool of so many projects with one key each.
pub(super) fn config(projects: usize, limits: Vec<Limit>) -> catalogue::Pool {
    let project = |index: usize| {
        let mut project = Project::new(format!("p{index}"));
        let secret = Secret::new(format!("AIzaSy-fake-key-for-tests-{index:08}"));
        project.keys.push(Key::new(format!("k{index}"), secret));
        project
    };
    let mut pool = catalogue::Pool::new("default");
    pool.limits = vec![LimitRule::new(catalogue::NamePattern::Any, limits)];
    pool.projects = (0..projects).map(project).collect();
    pool
}

pub(super) fn per_second(amount: u64) -> Limit {
    Limit::new(Dimension::Requests, Window::Trailing(1), amount)
}

pub(super) fn in_flight(amount: u64) -> Limit {
    Limit::new(Dimension::InFlight, Window::None, amount)
}

impl Setting {
    pub(super) async fn new(projects: usize, limits: Vec<Limit>) -> Self {
        Self::with_latency(projects, limits, Duration::ZERO).await
    }

    pub(super) async fn with_latency(projects: usize, limits: Vec<Limit>, latency: Duration) -> Self {
        let ledger = Arc::new(FakeLedger::new(latency));
        let (stats, queues) = (Arc::<Stats>::default(), Arc::<crate::pool::Queues>::default());
        let pool = open(&ledger, config(projects, limits), "one", &stats, &queues).await;
        let draining = tokio_util::sync::CancellationToken::new();
        Self { started: ledger.started, ledger, pool, stats, queues, draining }
    }

    /// The same ledger and queues under another catalogue.
    pub(super) async fn change(&mut self, config: catalogue::Pool) {
        self.pool = open(&self.ledger, config, "two", &self.stats, &self.queues).await;
    }

    pub(super) fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    /// Asks at once; the task ends with the answer and the instant at which it came.
    pub(super) fn ask(&self, wish: Wish) -> JoinHandle<Outcome> {
        let this = self.clone();
        tokio::spawn(async move {
            let answer = this.pool.acquire(&wish, this.draining.cancelled()).await;
            (this.millis(), answer)
        })
    }

    /// Takes all that is there.
    pub(super) async fn exhaust(&self) -> Vec<Grant> {
        let mut grants = Vec::new();
        while let Ok(grant) = self.ask(wish("", 0)).await.unwrap().1 {
            grants.push(grant);
        }
        grants
    }

    /// Lets all that can happen now happen.
    pub(super) async fn settle(&self) {
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn report_not_sent(&self, grant: &Grant) {
        self.report(grant, crate::gemini::Outcome::NotSent).await;
    }

    pub(super) async fn report(&self, grant: &Grant, outcome: crate::gemini::Outcome<'_>) {
        let lease = crate::lease_id::LeaseId::parse(&grant.lease_id).unwrap();
        let report = crate::pool::Report { lease, outcome, usage: crate::pool::Usage::default() };
        self.pool.report(&report).await.unwrap();
    }
}

async fn open(
    ledger: &Arc<FakeLedger>,
    config: catalogue::Pool,
    digest: &str,
    stats: &Arc<Stats>,
    queues: &Arc<crate::pool::Queues>,
) -> Arc<Pool> {
    let surroundings = Surroundings {
        ledger: ledger.clone(),
        names: Arc::new(LeaseNames::new()),
        events: Events::new(),
        turns: FleetTurns::new(Arc::new(LocalClaims::default())),
        metrics: Arc::default(),
    };
    let catalogue = Arc::new(Catalogue::default());
    let pool = Pool::open(config, catalogue, digest, surroundings, stats.clone(), queues.clone()).await;
    let pool = Arc::new(pool.unwrap());
    pool.serve_waiters();
    pool
}

/// One permit, for a consumer that waits for so many milliseconds.
pub(super) fn wish(consumer: &str, wait: u64) -> Wish {
    Wish {
        deadline: None,
        quota_model: MODEL.to_owned(),
        input_tokens: 0,
        output_tokens: 0,
        ttl: None,
        consumer: consumer.to_owned(),
        identity: None,
        wait: Duration::from_millis(wait),
        permits: 1,
        project: String::new(),
        tier: keybroker_proto::v1::Tier::Unspecified,
        exclude_key_ids: Vec::new(),
        exclude_projects: Vec::new(),
        key_labels: std::collections::BTreeMap::new(),
        note: String::new(),
    }
}
