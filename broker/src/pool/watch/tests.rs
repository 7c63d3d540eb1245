//! The monitor against accounts that a test sets, on a clock that a test moves.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, advance};

use super::*;
use crate::{
    catalogue::{Key, Limit, LimitRule, NamePattern, Project},
    claims::LocalClaims,
    events::Subscriber,
    gemini::{self, Outcome},
    ledger::{Dimension, FOREVER, Inspection, LedgerFuture, Span, account::Account, window::Window},
    pool::note::Note,
    secret::Secret,
};

/// 2026-07-14 in the Pacific morning.
const START: Millis = 1_784_044_800_000;
const MODEL: &str = "flash";
const OF_MODEL: &str = "q/team-a/flash";

/// Accounts as a test wants them, with a clock that runs with tokio's.
struct Ledgerlike {
    rows: Mutex<HashMap<String, Account>>,
    begun: Instant,
    reads: AtomicUsize,
    down: AtomicBool,
}

impl Ledgerlike {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::default(),
            begun: Instant::now(),
            reads: AtomicUsize::new(0),
            down: AtomicBool::new(false),
        })
    }

    fn now(&self) -> Millis {
        START + millis_since(self.begun)
    }

    fn set(&self, id: &str, row: Account) {
        self.rows.lock().unwrap().insert(id.to_owned(), row);
    }

    fn block(&self, id: &str, for_millis: Millis, reason: &str) {
        let until = (self.now() + for_millis).min(FOREVER);
        self.set(
            id,
            Account { blocked_until: until, probing: true, reason: reason.to_owned(), ..Account::default() },
        );
    }
}

fn millis_since(instant: Instant) -> Millis {
    i64::try_from(instant.elapsed().as_millis()).unwrap()
}

impl ReadAccounts for Ledgerlike {
    fn read<'a>(&'a self, _: &'a str, accounts: &'a [String]) -> LedgerFuture<'a, Inspection> {
        self.reads.fetch_add(1, Relaxed);
        if self.down.load(Relaxed) {
            return Box::pin(async { Err(LedgerError::Unavailable("down".to_owned())) });
        }
        let rows = self.rows.lock().unwrap();
        let accounts = accounts.iter().map(|id| rows.get(id).cloned()).collect();
        let inspection = Inspection { now: self.now(), accounts };
        Box::pin(async { Ok(inspection) })
    }
}

/// Two projects: `team-a` with keys `a1` and `a2`, `team-b` with keys `b1` and `b2`; 15 requests a minute each.
fn pool() -> catalogue::Pool {
    let key = |id: &str| Key::new(id, Secret::from(format!("fake-key-of-watch-{id}").as_str()));
    let mut pool = catalogue::Pool::new("default");
    pool.limits =
        vec![LimitRule::new("*".parse::<NamePattern>().unwrap(), vec![Limit::requests_per_minute(15)])];
    pool.projects = vec![
        Project { keys: vec![key("a1"), key("a2")], ..Project::new("team-a") },
        Project { keys: vec![key("b1"), key("b2")], ..Project::new("team-b") },
    ];
    pool
}

fn key_account(id: &str) -> String {
    format!("k/{}", Secret::from(format!("fake-key-of-watch-{id}").as_str()).fingerprint())
}

struct Scene {
    ledger: Arc<Ledgerlike>,
    watch: Watch,
    events: Subscriber,
    learned_news: bool,
}

impl Scene {
    async fn start() -> Self {
        Self::beside(&Ledgerlike::new(), &Arc::default()).await
    }

    async fn beside(ledger: &Arc<Ledgerlike>, fleet: &Arc<LocalClaims>) -> Self {
        let events = Events::new();
        let listener = events.subscribe();
        let watch = Watch::start_reading(pool(), ledger.clone(), events, FleetTurns::new(fleet.clone()));
        // The monitor has looked for what cools.
        pass(Duration::from_millis(1)).await;
        Self { ledger: ledger.clone(), watch, events: listener, learned_news: true }
    }

    /// A lease of a key was answered so.
    fn answered(&self, key_id: &str, status: u16, body: &str, labels: &[(&str, &str)]) {
        let decision = gemini::read(&Outcome::HttpError { status, body: body.as_bytes(), retry_after: None });
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.watch.settled(&decision, || Settled {
            key_id: key_id.to_owned(),
            quota_model: MODEL.to_owned(),
            note: Note { consumer: "importer".to_owned(), labels },
            decision: decision.clone(),
            learned_news: self.learned_news,
            at: self.ledger.now(),
        });
    }

    /// What was emitted meanwhile, once everything that is due is done.
    async fn told(&mut self) -> Vec<Event> {
        pass(Duration::from_millis(1)).await;
        let mut told = Vec::new();
        while let Ok(Some(event)) = timeout(Duration::ZERO, self.events.next()).await {
            told.push((*event).clone());
        }
        told
    }

    async fn kinds(&mut self) -> Vec<EventKind> {
        self.told().await.iter().map(|event| event.kind).collect()
    }
}

use tokio::time::timeout;

/// Moves the clock in small steps, so that everybody who sleeps wakes in turn.
async fn pass(time: Duration) {
    let until = Instant::now() + time;
    loop {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let left = until - Instant::now();
        if left.is_zero() {
            return;
        }
        advance(left.min(Duration::from_millis(100))).await;
    }
}

fn minute_429(limit: u64) -> String {
    format!(
        r#"{{"error":{{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[
        {{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{{
            "quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaValue":"{limit}"}}]}},
        {{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}}]}}}}"#
    )
}

const INVALID: &str = r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.",
    "status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo",
    "reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}"#;

/// The account of the quota model with so many requests used in the minute and the day.
fn used(ledger: &Ledgerlike, requests: i64) -> Account {
    let now = ledger.now();
    let mut row = Account { generation: 1, ..Account::default() };
    for (span, lasts) in [(Span::Trailing(60_000), 50_000), (Span::Day, 3_600_000)] {
        let mut window = Window::new(Dimension::Requests, span, 15, 0);
        window.add(now, now + lasts, requests);
        row.windows.push(window);
    }
    row
}

#[tokio::test(start_paused = true)]
async fn a_cooldown_is_told_as_it_begins_and_exactly_when_it_ends() {
    let mut scene = Scene::start().await;
    scene.ledger.set(OF_MODEL, Account { reason: "minute_quota".to_owned(), ..used(&scene.ledger, 15) });
    let until = scene.ledger.now() + 34_000;
    scene.ledger.rows.lock().unwrap().get_mut(OF_MODEL).unwrap().blocked_until = until;
    scene.answered("a1", 429, &minute_429(15), &[("integration", "zalo")]);
    let told = scene.told().await;
    assert_eq!(told.len(), 1, "{told:?}");
    let begun = &told[0];
    assert_eq!((begun.kind, begun.until), (EventKind::CooldownBegun, Some(until)));
    assert_eq!(begun.subject.name.as_str(), "project team-a, model flash");
    assert_eq!(begun.subject.key_id.as_str(), "a1");
    assert_eq!(begun.subject.consumer.as_str(), "importer");
    assert_eq!(begun.subject.labels.values().next().unwrap().as_str(), "zalo");
    assert_eq!(begun.reason.as_str(), "minute_quota");

    pass(Duration::from_millis(33_800)).await;
    assert_eq!(scene.kinds().await, []);
    pass(Duration::from_millis(400)).await;
    let told = scene.told().await;
    assert_eq!(
        told.iter().map(|event| (event.kind, event.at)).collect::<Vec<_>>(),
        [(EventKind::CooldownEnded, until)]
    );
    assert!(told[0].subject.labels.is_empty());
    pass(Duration::from_secs(60)).await;
    assert_eq!(scene.kinds().await, []);
}

#[tokio::test(start_paused = true)]
async fn the_same_cooldown_is_told_again_only_for_a_request_with_other_labels() {
    let mut scene = Scene::start().await;
    scene.ledger.set(OF_MODEL, used(&scene.ledger, 15));
    scene.ledger.rows.lock().unwrap().get_mut(OF_MODEL).unwrap().blocked_until = scene.ledger.now() + 34_000;
    for labels in [&[][..], &[][..], &[("integration", "zalo")][..], &[("integration", "zalo")][..]] {
        scene.answered("a1", 429, &minute_429(15), labels);
    }
    pass(Duration::from_secs(1)).await;
    assert_eq!(scene.kinds().await, [EventKind::CooldownBegun; 2]);
    pass(Duration::from_secs(2)).await;
    scene.answered("a2", 429, &minute_429(15), &[]);
    pass(Duration::from_secs(2)).await;
    assert_eq!(scene.kinds().await, []);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_only_counted_begins_nothing() {
    let mut scene = Scene::start().await;
    let mut decision =
        gemini::read(&Outcome::HttpError { status: 400, body: INVALID.as_bytes(), retry_after: None });
    decision.blocks[0].length.steps = vec![Duration::ZERO, Duration::from_secs(600)];
    let settled = Settled {
        key_id: "a1".to_owned(),
        quota_model: MODEL.to_owned(),
        note: Note::default(),
        decision,
        learned_news: false,
        at: scene.ledger.now(),
    };
    scene.watch.settled(&settled.decision, || settled.clone());
    assert_eq!(scene.kinds().await, []);
    scene.ledger.block(&key_account("a1"), 600_000, "permission_unclear");
    pass(Duration::from_secs(1)).await;
    scene.watch.settled(&settled.decision, || settled.clone());
    assert_eq!(scene.kinds().await, [EventKind::KeyDisabled], "the second in a row does");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_far_below_the_limit_is_suspected_of_outside_usage_and_one_at_the_limit_is_not() {
    for (requests, suspected) in [(13, true), (14, false), (1, true), (15, false)] {
        let mut scene = Scene::start().await;
        scene.ledger.set(OF_MODEL, used(&scene.ledger, requests));
        scene.answered("a1", 429, &minute_429(15), &[]);
        let told = scene.told().await;
        let suspicion = told.iter().find(|event| event.kind == EventKind::OutsideUsageSuspected);
        assert_eq!(suspicion.is_some(), suspected, "{requests} of 15 used");
        if let Some(event) = suspicion {
            assert_eq!((event.numbers.used, event.numbers.limit), (Some(requests), Some(15)));
            assert_eq!(event.numbers.limit_name, "requests per minute");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_the_ledger_did_not_know_is_told_if_it_is_not_the_configured_one() {
    for (limit, news, told) in [(10, true, true), (10, false, false), (15, true, false)] {
        let mut scene = Scene::start().await;
        scene.ledger.set(OF_MODEL, used(&scene.ledger, 15));
        scene.learned_news = news;
        scene.answered("a1", 429, &minute_429(limit), &[]);
        let learned: Vec<Event> =
            scene.told().await.into_iter().filter(|event| event.kind == EventKind::LimitLearned).collect();
        assert_eq!(learned.len(), usize::from(told), "{limit}, {news}");
        if let [event] = learned.as_slice() {
            assert_eq!(
                (event.numbers.limit, event.numbers.limit_name.as_str()),
                (Some(10), "requests per minute")
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_disabled_key_is_told_and_is_well_again_only_once_its_probe_succeeded() {
    let mut scene = Scene::start().await;
    let account = key_account("a1");
    scene.ledger.block(&account, 60_000, "key_invalid");
    scene.answered("a1", 400, INVALID, &[]);
    let told = scene.told().await;
    assert_eq!(told[0].kind, EventKind::KeyDisabled);
    assert_eq!(told[0].subject.name.as_str(), "key a1");
    pass(Duration::from_secs(90)).await;
    assert_eq!(scene.kinds().await, []);
    scene.ledger.rows.lock().unwrap().get_mut(&account).unwrap().probing = false;
    pass(POLL_AND_A_BIT).await;
    let told = scene.told().await;
    assert_eq!(told.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::KeyRecovered]);
    assert_eq!(told[0].subject.key_id.as_str(), "a1");

    // Disabled anew, it is news anew.
    pass(Duration::from_secs(1)).await;
    scene.ledger.block(&account, FOREVER, "key_invalid");
    scene.answered("a1", 400, INVALID, &[]);
    let told = scene.told().await;
    assert_eq!((told[0].kind, told[0].until), (EventKind::KeyDisabled, Some(FOREVER)));
}

const POLL_AND_A_BIT: Duration = Duration::from_millis(5_100);

#[tokio::test(start_paused = true)]
async fn an_end_is_told_by_one_broker_also_by_one_that_started_meanwhile() {
    let (ledger, fleet) = (Ledgerlike::new(), Arc::default());
    ledger.block("p/team-a", 20_000, "spend_cap");
    let mut brokers = Vec::new();
    for _ in 0..4 {
        brokers.push(Scene::beside(&ledger, &fleet).await);
    }
    pass(Duration::from_secs(21)).await;
    let mut told = Vec::new();
    for broker in &mut brokers {
        told.extend(broker.told().await);
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].kind, told[0].subject.name.as_str()), (EventKind::CooldownEnded, "project team-a"));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_runs_out_of_keys_is_told_step_by_step_with_the_instant_of_the_next() {
    let mut scene = Scene::start().await;
    scene.watch.refused(MODEL);
    assert_eq!(scene.kinds().await, [], "all four are able");
    scene.ledger.block(OF_MODEL, 50_000, "minute_quota");
    scene.ledger.block(&key_account("b2"), FOREVER, "key_leaked");
    pass(Duration::from_secs(1)).await;
    scene.watch.refused(MODEL);
    let told = scene.told().await;
    assert_eq!(told[0].kind, EventKind::PoolNearlyExhausted);
    assert_eq!((told[0].numbers.keys_able, told[0].numbers.keys), (Some(1), Some(4)));

    scene.ledger.block("q/team-b/flash", 30_000, "minute_quota");
    let until = scene.ledger.now() + 30_000;
    pass(Duration::from_secs(1)).await;
    scene.watch.refused(MODEL);
    let told = scene.told().await;
    assert_eq!((told[0].kind, told[0].until), (EventKind::PoolExhausted, Some(until)));
    assert_eq!(told[0].subject.quota_model.as_str(), MODEL);
    pass(Duration::from_secs(1)).await;
    scene.watch.refused(MODEL);
    assert_eq!(scene.kinds().await, []);
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_model_leaves_no_key_able() {
    let mut scene = Scene::start().await;
    scene.ledger.block("m/flash", 30_000, "model_overloaded");
    scene.watch.refused(MODEL);
    let told = scene.told().await;
    assert_eq!((told[0].kind, told[0].numbers.keys_able), (EventKind::PoolExhausted, Some(0)));
    pass(Duration::from_secs(31)).await;
    let told = scene.told().await;
    assert_eq!((told[0].kind, told[0].subject.quota_model.as_str()), (EventKind::CooldownEnded, MODEL));
}

#[tokio::test(start_paused = true)]
async fn the_ledger_is_asked_at_most_once_a_second_and_not_at_all_while_nothing_happens() {
    let mut scene = Scene::start().await;
    let reads = |scene: &Scene| scene.ledger.reads.load(Relaxed);
    let first = reads(&scene);
    pass(Duration::from_secs(600)).await;
    assert_eq!(reads(&scene), first);
    for _ in 0..50 {
        scene.watch.refused(MODEL);
        pass(Duration::from_millis(100)).await;
    }
    let asked = reads(&scene) - first;
    assert!((4..=6).contains(&asked), "{asked} times in 5 s");
    assert_eq!(scene.kinds().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_fails_is_told_once_an_episode_and_cooldowns_are_still_told() {
    let mut scene = Scene::start().await;
    scene.ledger.down.store(true, Relaxed);
    for _ in 0..100 {
        scene.watch.ledger_failed(&LedgerError::Unavailable("redis://user:pass@host is gone".to_owned()));
        pass(Duration::from_secs(1)).await;
    }
    let told = scene.told().await;
    assert_eq!(told.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::LedgerUnavailable]);
    assert_eq!(told[0].reason.as_str(), "unavailable");
    assert!(!told[0].message().contains("redis"));
    scene.answered("a1", 429, &minute_429(15), &[]);
    assert_eq!(scene.kinds().await, [EventKind::CooldownBegun]);
    pass(EPISODE).await;
    scene.watch.ledger_failed(&LedgerError::Clock);
    assert!(scene.kinds().await.contains(&EventKind::LedgerUnavailable));
}

#[tokio::test(start_paused = true)]
async fn a_key_in_a_label_or_in_the_name_of_a_consumer_is_in_no_event() {
    let mut scene = Scene::start().await;
    scene.answered("a1", 429, &minute_429(10), &[("note", "uses fake-key-of-watch-b1")]);
    for event in scene.told().await {
        assert!(!serde_json::to_string(&event).unwrap().contains("fake-key-of-watch"), "{event:?}");
    }
}
