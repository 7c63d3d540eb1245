//! A Redis that dies and comes back with less than it had: what brokers remember is put back before anything is
//! granted, and what nobody remembers is waited for. Each rule has a known-bad variant that must be caught.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::time::{Duration, Instant};

use keybroker::ledger::{
    AcquireState, Acquired, Batch, Charge, Dimension, Horizon, Ledger, LedgerError, LimitSpec, Opened, Reply,
    Settle, SettleState, Span,
    calendar::{Calendar, wall_clock},
    redis::{RedisLedger, Scripts},
};
use keybroker_tests::harness::one_key;
use keybroker_tests::harness::redis::RedisServer;

const POOL: &str = "pool";
const SHARD: &str = "digest/model";
/// The trailing window of the tests: no recovery waits for longer, unless days are limited.
const WINDOW: Duration = Duration::from_secs(6);
/// A recovery by what brokers remember takes two seconds and a little more.
const REMEMBERED: Duration = Duration::from_millis(4_500);
/// How long anything may take at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a test asks whether leases are granted again.
const LOOK: Duration = Duration::from_millis(50);
/// How many requests the window allows.
const LIMIT: usize = 3;

/// A broker, as far as the ledger is concerned.
struct Broker {
    ledger: RedisLedger,
    opened: Opened,
    leases: std::cell::Cell<usize>,
}

/// One request a window of [`WINDOW`], and so many a day.
fn limits(a_day: Option<i64>) -> Vec<LimitSpec> {
    let window = Span::Trailing(i64::try_from(WINDOW.as_millis()).unwrap());
    let mut limits = vec![LimitSpec(Dimension::Requests, window, LIMIT as i64)];
    limits.extend(a_day.map(|a_day| LimitSpec(Dimension::Requests, Span::Day, a_day)));
    limits
}

impl Broker {
    async fn start(redis: &RedisServer, scripts: Scripts, digest: &str) -> Self {
        Self::foreseeing(redis, scripts, digest, &Horizon::default()).await
    }

    /// One that knows from its configuration what leases count in.
    async fn foreseeing(redis: &RedisServer, scripts: Scripts, digest: &str, horizon: &Horizon) -> Self {
        let ledger = RedisLedger::new(&redis.url(), Duration::from_secs(5)).unwrap().with_scripts(scripts);
        ledger.foresee(POOL, horizon);
        let opened = ledger.open(POOL, digest).await.unwrap();
        Self { ledger, opened, leases: std::cell::Cell::new(0) }
    }

    /// With the limits of the tests applied.
    async fn with_limits(redis: &RedisServer, scripts: Scripts, a_day: Option<i64>) -> Self {
        let broker = Self::start(redis, scripts, "digest").await;
        broker.apply(limits(a_day)).await;
        broker
    }

    async fn apply(&self, limits: Vec<LimitSpec>) {
        let spec = one_key::shard(SHARD, self.opened.generation, limits);
        self.ledger.apply(POOL, &self.opened.ledger_id, &spec).await.unwrap();
    }

    async fn execute(&self, fill: impl FnOnce(&mut Batch)) -> Result<Reply, LedgerError> {
        let mut batch = Batch::empty(&self.opened.ledger_id, 0, &Calendar::around(wall_clock()));
        batch.shards.push(SHARD.to_owned());
        fill(&mut batch);
        self.ledger.execute(POOL, &batch).await
    }

    /// Asks for one lease: its id, and the answer.
    async fn ask(&self) -> Result<(String, Acquired), LedgerError> {
        self.leases.set(self.leases.get() + 1);
        let lease = format!("{:p}-{}", self, self.leases.get());
        let acquire = one_key::request(&lease, 60_000);
        let mut reply = self.execute(|batch| batch.acquires.push(acquire)).await?;
        Ok((lease, reply.acquires.remove(0)))
    }

    /// Takes a lease that must be there.
    async fn take(&self) -> String {
        let (lease, answer) = self.ask().await.unwrap();
        assert_eq!(answer.0, AcquireState::Granted, "{answer:?}");
        lease
    }

    async fn settle(&self, lease: &str) -> SettleState {
        let reply = self.execute(|batch| batch.settles.push(kept(lease))).await.unwrap();
        reply.settles[0].0
    }

    /// Asks until there is an answer, granted or refused: how long that took, and the answer.
    async fn answer(&self, since: Instant) -> (Duration, Acquired) {
        loop {
            match self.ask().await {
                Ok((_, answer)) if answer.0 != AcquireState::Missing => return (since.elapsed(), answer),
                Ok(_) | Err(LedgerError::Unavailable(_) | LedgerError::Holding { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(since.elapsed() < PATIENCE, "nothing is answered: {:?}", self.ask().await);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks until there is an answer, or windows of seconds have been waited for.
    async fn answer_or_longer_hold(&self, since: Instant) -> Result<AcquireState, LedgerError> {
        loop {
            let answer = self.ask().await.map(|(_, answer)| answer.0);
            if answer.is_ok() || since.elapsed() > WINDOW + REMEMBERED {
                return answer;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until brokers that came since have said that they are there.
    async fn beat(&self) {
        tokio::time::sleep(Duration::from_millis(1_400)).await;
    }
}

/// The report of a request that was sent.
fn kept(lease: &str) -> Settle {
    Settle { charge: Charge::Keep, outcome: "ok".to_owned(), ..Settle::not_sent(lease) }
}

/// Kills the server and starts it again: with what its last snapshot has, or empty if it made none.
fn come_back(redis: &mut RedisServer) -> Instant {
    redis.kill();
    redis.start_again().unwrap();
    Instant::now()
}

fn save(redis: &RedisServer) {
    redis::cmd("SAVE").exec(&mut redis.connect().unwrap()).unwrap();
}

/// Three leases, one of them reported, and a Redis that forgets them all. Returns how many were granted within the
/// window, and what the report of each lease is told then.
async fn forget_everything(scripts: Scripts) -> (usize, Vec<SettleState>, Duration) {
    let mut redis = RedisServer::start().unwrap();
    let broker = Broker::with_limits(&redis, scripts, None).await;
    broker.beat().await;
    let leases = [broker.take().await, broker.take().await, broker.take().await];
    assert_eq!(broker.settle(&leases[0]).await, SettleState::Settled);
    let (took, answer) = broker.answer(come_back(&mut redis)).await;
    let mut told = Vec::new();
    for lease in &leases {
        told.push(broker.settle(lease).await);
    }
    (LIMIT + usize::from(answer.0 == AcquireState::Granted), told, took)
}

#[tokio::test]
async fn an_emptied_redis_gets_back_every_lease_and_report() {
    let (granted, told, took) = forget_everything(Scripts::default()).await;
    assert_eq!(granted, LIMIT);
    assert_eq!(told, [SettleState::Already, SettleState::Settled, SettleState::Settled]);
    assert!(took < REMEMBERED, "{took:?}");
}

#[tokio::test]
async fn a_recovery_that_puts_no_lease_back_is_caught() {
    let scripts =
        Scripts::default().changed("for i = 1, #grants do\n  local op", "for i = 1, 0 do\n  local op");
    let (granted, told, _) = forget_everything(scripts).await;
    assert_eq!(granted, LIMIT + 1);
    assert_eq!(told, [SettleState::Unknown; 3]);
}

/// A lease of a broker that died with its Redis: how long it took until the window was full again.
async fn forget_a_dead_brokers_lease(scripts: Scripts) -> Duration {
    let mut redis = RedisServer::start().unwrap();
    let broker = Broker::with_limits(&redis, scripts.clone(), None).await;
    let dead = Broker::with_limits(&redis, scripts, None).await;
    broker.beat().await;
    for _ in 0..LIMIT {
        dead.take().await;
    }
    drop(dead);
    let (took, answer) = broker.answer(come_back(&mut redis)).await;
    assert_eq!(answer.0, AcquireState::Granted, "{answer:?}");
    took
}

#[tokio::test]
async fn what_only_a_dead_broker_knew_is_waited_for() {
    let took = forget_a_dead_brokers_lease(Scripts::default()).await;
    assert!((WINDOW..WINDOW + REMEMBERED).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_recovery_that_waits_for_no_dead_broker_is_caught() {
    let scripts =
        Scripts::default().changed("fewest = math.min(fewest, tonumber(rows[i + 1]))", "fewest = fewest");
    let took = forget_a_dead_brokers_lease(scripts).await;
    assert!(took < WINDOW, "{took:?}");
}

/// A snapshot from before anything was leased.
async fn go_back_to_before_the_first_lease(scripts: Scripts, a_day: Option<i64>) -> (Duration, Acquired) {
    let mut redis = RedisServer::start().unwrap();
    let broker = Broker::start(&redis, scripts, "digest").await;
    save(&redis);
    broker.beat().await;
    broker.apply(limits(a_day)).await;
    for _ in 0..LIMIT {
        broker.take().await;
    }
    broker.answer(come_back(&mut redis)).await
}

#[tokio::test]
async fn a_snapshot_from_before_the_first_lease_gets_candidates_limits_and_leases_back() {
    let (took, answer) = go_back_to_before_the_first_lease(Scripts::default(), Some(LIMIT as i64)).await;
    assert_eq!(answer.0, AcquireState::Refused, "{answer:?}");
    assert!(took < REMEMBERED, "{took:?}");
}

#[tokio::test]
async fn a_lease_that_cannot_be_put_back_is_waited_for() {
    // No candidate is found when leases are put back.
    let scripts = Scripts::default();
    let lost = scripts.replay.replace("shard and shard.candidates[grants[i][2]]", "nil");
    assert_ne!(lost, scripts.replay);
    let (took, answer) =
        go_back_to_before_the_first_lease(Scripts { replay: lost.clone(), ..scripts }, None).await;
    assert_eq!(answer.0, AcquireState::Granted, "{answer:?}");
    assert!(took > WINDOW, "{took:?}");
    // What does not tell that it left something out over-spends.
    let silent = lost.replace("return { back, left_out }", "return { back, 0 }");
    assert_ne!(silent, lost);
    let scripts = Scripts { replay: silent, ..Scripts::default() };
    let (took, answer) = go_back_to_before_the_first_lease(scripts, None).await;
    assert!(answer.0 == AcquireState::Granted && took < WINDOW, "{answer:?} after {took:?}");
}

#[tokio::test]
async fn a_day_that_nobody_remembers_is_waited_for() {
    let mut redis = RedisServer::start().unwrap();
    let broker = Broker::with_limits(&redis, Scripts::default(), Some(LIMIT as i64)).await;
    let dead = Broker::with_limits(&redis, Scripts::default(), Some(LIMIT as i64)).await;
    broker.beat().await;
    dead.take().await;
    drop(dead);
    let since = come_back(&mut redis);
    while since.elapsed() < WINDOW + REMEMBERED {
        match broker.ask().await {
            Err(LedgerError::Unavailable(_) | LedgerError::Holding { .. }) => {}
            answer => panic!("{answer:?} after {:?}", since.elapsed()),
        }
        tokio::time::sleep(LOOK).await;
    }
    let Err(LedgerError::Holding { retry_after, .. }) = broker.ask().await else { panic!("it holds back") };
    let now = wall_clock();
    let left = Calendar::around(now).day_end(now) - now;
    let told = i64::try_from(retry_after.as_millis()).unwrap();
    assert!((left - 5_000..=left + 5_000).contains(&told), "{told} of {left} ms");
}

#[tokio::test]
async fn an_operator_accepts_that_a_day_is_lost_and_shorter_windows_are_waited_for_all_the_same() {
    let mut redis = RedisServer::start().unwrap();
    let broker = Broker::with_limits(&redis, Scripts::default(), Some(LIMIT as i64)).await;
    assert!(!broker.ledger.accept_loss(POOL).await.unwrap(), "nothing is waited for");
    let dead = Broker::with_limits(&redis, Scripts::default(), Some(LIMIT as i64)).await;
    broker.beat().await;
    dead.take().await;
    drop(dead);
    let since = come_back(&mut redis);
    while !broker.ledger.accept_loss(POOL).await.unwrap_or(false) {
        assert!(since.elapsed() < REMEMBERED, "nothing is waited for");
        tokio::time::sleep(LOOK).await;
    }
    let (took, answer) = broker.answer(since).await;
    assert_eq!(answer.0, AcquireState::Granted, "{answer:?}");
    assert!((WINDOW..WINDOW + REMEMBERED).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_catalogue_applied_after_a_loss_is_newer_than_all_before() {
    let mut redis = RedisServer::start().unwrap();
    let first = Broker::start(&redis, Scripts::default(), "first").await;
    let broker = Broker::with_limits(&redis, Scripts::default(), None).await;
    assert_eq!((first.opened.generation, broker.opened.generation), (1, 2));
    broker.beat().await;
    drop(first);
    broker.take().await;
    broker.answer(come_back(&mut redis)).await;
    let next = Broker::start(&redis, Scripts::default(), "third").await;
    assert_eq!(
        (next.opened.ledger_id.as_str(), next.opened.generation),
        (broker.opened.ledger_id.as_str(), 3)
    );
}

#[tokio::test]
async fn a_ledger_that_its_last_broker_left_in_order_is_not_waited_for() {
    let mut redis = RedisServer::start().unwrap();
    let left = Broker::with_limits(&redis, Scripts::default(), Some(100)).await;
    left.beat().await;
    left.take().await;
    left.ledger.leave().await.unwrap();
    drop(left);
    save(&redis);
    let since = come_back(&mut redis);
    let broker = Broker::with_limits(&redis, Scripts::default(), Some(100)).await;
    let (took, answer) = broker.answer(since).await;
    assert!(answer.0 == AcquireState::Granted && took < REMEMBERED, "{answer:?} after {took:?}");
}

#[tokio::test]
async fn what_a_full_journal_dropped_is_waited_for() {
    let mut redis = RedisServer::start().unwrap();
    let broker = Broker::with_limits(&redis, Scripts::default(), None).await;
    broker.beat().await;
    for _ in 0..LIMIT {
        broker.take().await;
    }
    // Reports of leases that are not known are remembered as well, and push the grants out.
    for _ in 0..101 {
        broker.execute(|batch| batch.settles.extend((0..500).map(|_| kept("unknown")))).await.unwrap();
    }
    let since = come_back(&mut redis);
    let (took, _) = broker.answer(since).await;
    assert!(took > WINDOW - Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_clock_that_was_set_back_is_followed_for_good_without_a_batch() {
    let redis = RedisServer::start().unwrap();
    let broker = Broker::with_limits(&redis, Scripts::default(), None).await;
    broker.take().await;
    // As if the clock had been half a minute ahead until now.
    let mut line = redis.connect().unwrap();
    let meta = format!("kb:{{{POOL}}}:meta");
    redis::cmd("HSET").arg(&meta).arg("now").arg(wall_clock() + 30_000).exec(&mut line).unwrap();
    broker.beat().await;
    let seen: i64 = redis::cmd("HGET").arg(&meta).arg("now").query(&mut line).unwrap();
    assert!(seen <= wall_clock(), "it would seem to jump in {} ms", seen - wall_clock() - 10_000);
    broker.take().await;
}

/// A lease of a broker that has died, and one that was never asked for any: how long that one holds leases back.
async fn only_an_idle_broker_is_left(horizon: &Horizon) -> Duration {
    let mut redis = RedisServer::start().unwrap();
    let dead = Broker::with_limits(&redis, Scripts::default(), None).await;
    let idle = Broker::foreseeing(&redis, Scripts::default(), "digest", horizon).await;
    idle.beat().await;
    for _ in 0..LIMIT {
        dead.take().await;
    }
    drop(dead);
    let since = come_back(&mut redis);
    loop {
        // What names no shard is refused by a ledger that holds back, and else finds none.
        match idle.ask().await {
            Ok(_) => return since.elapsed(),
            Err(LedgerError::Unavailable(_) | LedgerError::Holding { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(since.elapsed() < PATIENCE);
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn a_broker_that_was_never_asked_knows_from_its_configuration_how_long_to_wait() {
    let horizon = Horizon { limits: limits(None), ..Horizon::default() };
    let waits = only_an_idle_broker_is_left(&horizon).await;
    assert!((WINDOW..WINDOW + REMEMBERED).contains(&waits), "{waits:?}");
    let took = only_an_idle_broker_is_left(&Horizon::default()).await;
    assert!(took < WINDOW, "without the configuration it is caught: {took:?}");
}

/// A snapshot of when all brokers had left in order, and a day that was spent since.
async fn go_back_to_when_all_had_left(scripts: Scripts) -> Result<AcquireState, LedgerError> {
    let mut redis = RedisServer::start().unwrap();
    let left = Broker::with_limits(&redis, scripts.clone(), Some(LIMIT as i64)).await;
    left.beat().await;
    left.ledger.leave().await.unwrap();
    drop(left);
    save(&redis);
    let dead = Broker::with_limits(&redis, scripts.clone(), Some(LIMIT as i64)).await;
    for _ in 0..LIMIT {
        dead.take().await;
    }
    let broker = Broker::with_limits(&redis, scripts, Some(LIMIT as i64)).await;
    broker.beat().await;
    drop(dead);
    let since = come_back(&mut redis);
    broker.answer_or_longer_hold(since).await
}

#[tokio::test]
async fn a_snapshot_of_when_all_brokers_had_left_is_not_taken_for_the_latest_state() {
    let answer = go_back_to_when_all_had_left(Scripts::default()).await;
    let Err(LedgerError::Holding { why, retry_after }) = answer else { panic!("{answer:?}") };
    assert!(retry_after < Duration::from_secs(15 * 60) || why.contains("accept-loss"), "{why}");
    let closed = Scripts::default().changed("meta[4] and last_seen <= kept_until", "meta[4]");
    let answer = go_back_to_when_all_had_left(closed).await;
    assert!(matches!(answer, Ok(AcquireState::Granted)), "it is caught: {answer:?}");
}

/// A snapshot from before a broker was replaced in order, with what that one had granted since lost.
async fn go_back_to_before_a_deploy(scripts: Scripts) -> Result<AcquireState, LedgerError> {
    let mut redis = RedisServer::start().unwrap();
    let old = Broker::with_limits(&redis, scripts.clone(), Some(LIMIT as i64)).await;
    old.beat().await;
    save(&redis);
    for _ in 0..LIMIT {
        old.take().await;
    }
    let new = Broker::with_limits(&redis, scripts, Some(LIMIT as i64)).await;
    new.beat().await;
    old.ledger.leave().await.unwrap();
    drop(old);
    new.beat().await;
    let since = come_back(&mut redis);
    new.answer_or_longer_hold(since).await
}

#[tokio::test]
async fn a_day_of_which_a_replaced_broker_knew_is_waited_for() {
    let answer = go_back_to_before_a_deploy(Scripts::default()).await;
    assert!(matches!(answer, Err(LedgerError::Holding { .. })), "{answer:?}");
    let minutes = "local ends = math.max(since + trailing, calendar)";
    let answer =
        go_back_to_before_a_deploy(Scripts::default().changed(minutes, "local ends = since + trailing"))
            .await;
    assert!(matches!(answer, Ok(AcquireState::Granted)), "it is caught: {answer:?}");
}

#[tokio::test]
async fn a_reload_on_an_emptied_redis_makes_no_other_ledger() {
    let mut redis = RedisServer::start().unwrap();
    let broker = Broker::with_limits(&redis, Scripts::default(), None).await;
    broker.beat().await;
    for _ in 0..LIMIT {
        broker.take().await;
    }
    let since = come_back(&mut redis);
    let opened = loop {
        match broker.ledger.open(POOL, "second").await {
            Ok(opened) => break opened,
            Err(error) => assert!(since.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert_eq!(opened.ledger_id, broker.opened.ledger_id);
    assert_eq!(opened.generation, broker.opened.generation + 1);
    let (took, answer) = broker.answer(since).await;
    assert_eq!(answer.0, AcquireState::Refused, "{answer:?}");
    assert!(took < REMEMBERED, "{took:?}");
}

/// Another fleet's ledger in the place of this one's, in the same run of the server.
fn exchange(redis: &RedisServer) {
    let meta = format!("kb:{{{POOL}}}:meta");
    redis::cmd("HSET").arg(&meta).arg("id").arg("another").exec(&mut redis.connect().unwrap()).unwrap();
}

#[tokio::test]
async fn nothing_is_leased_from_another_fleets_ledger() {
    let redis = RedisServer::start().unwrap();
    let broker = Broker::with_limits(&redis, Scripts::default(), None).await;
    broker.beat().await;
    broker.take().await;
    exchange(&redis);
    let told = broker.ask().await;
    assert!(matches!(&told, Err(LedgerError::Changed { found, .. }) if found == "another"), "{told:?}");
    broker.beat().await;
    assert!(matches!(broker.ask().await, Err(LedgerError::Changed { .. })), "and it stays so");

    let redis = RedisServer::start().unwrap();
    let unchecked = Scripts::default().changed("if meta[1] ~= input[1] then", "if false then");
    let broker = Broker::with_limits(&redis, unchecked, None).await;
    broker.beat().await;
    exchange(&redis);
    let told = broker.ask().await;
    assert!(matches!(&told, Ok((_, answer)) if answer.0 == AcquireState::Granted), "it is caught: {told:?}");
}
