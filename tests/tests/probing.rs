//! Disabled keys are probed at no cost, by one broker of the fleet at a time, and come back by themselves.
//!
//! The prober is the broker's own; the ledger is a map in which a test blocks keys.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Json, Router, routing::post};
use keybroker::{
    catalogue::{Catalogue, Key, Pool, Probing, Project},
    claims::{FleetTurns, LocalClaims},
    ledger::{FOREVER, Inspection, LedgerFuture, account::Account},
    pool::{accounts::AccountOf, watch::ReadAccounts},
    prober::{Prober, Recovery, RecoveryFuture},
    secret::Secret,
};
use keybroker_tests::{
    fake_gemini::{FakeGemini, FakeGeminiConfig, KeyChange, NamedError, fingerprint},
    harness::rig::eventually,
};
use serde_json::json;
use tokio::sync::watch;

const A1: &str = "test-key-probing-a1-Tz3";
const A2: &str = "test-key-probing-a2-Lw8";
/// The first interval of a probe: short, so that a test sees several.
const FIRST: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_disabled_key_is_probed_without_a_generation_and_comes_back_once_google_takes_it() {
    let google =
        FakeGemini::start(FakeGeminiConfig::default().with_key(A1, "a").with_key(A2, "a")).await.unwrap();
    change(&google, A1, Some(NamedError::Suspended)).await;
    let fleet = Fleet::start(&google.base_url, 1, Probing::default());
    fleet.ledger.block(A1, "key_suspended");

    let probed = |times: u64| google.verdict().calls_with(&fingerprint(A1), "countTokens") >= times;
    assert!(eventually(async || probed(2)).await);
    assert!(fleet.ledger.is_blocked(A1), "Google still refuses it");

    change(&google, A1, None).await;
    assert!(eventually(async || !fleet.ledger.is_blocked(A1)).await, "it comes back by itself");
    let verdict = google.verdict();
    assert_eq!(
        verdict.keys[&fingerprint(A1)].len(),
        1,
        "nothing but tokens was asked for: {:?}",
        verdict.keys
    );
    assert!(!verdict.keys.contains_key(&fingerprint(A2)), "a key that works is left alone");
    assert_eq!(verdict.keys_in_url, 0);
    assert!(verdict.lines.is_empty(), "no quota was touched");
}

#[tokio::test]
async fn four_brokers_probe_a_key_as_rarely_as_one_at_growing_intervals() {
    let google = FakeGemini::start(FakeGeminiConfig::default().with_key(A1, "a")).await.unwrap();
    change(&google, A1, Some(NamedError::Invalid)).await;
    let fleet =
        Fleet::start(&google.base_url, 4, Probing { longest: Duration::from_secs(60), ..Probing::default() });
    fleet.ledger.block(A1, "key_invalid");

    let calls = || google.log(0).entries;
    assert!(eventually(async || calls().len() >= 4).await);
    let calls = calls();
    let gaps: Vec<u64> = calls.windows(2).map(|pair| (pair[1].micros - pair[0].micros) / 1000).collect();
    // A claim lasts 0.8 of its interval, and intervals double however many brokers there are.
    for (gap, interval) in gaps.iter().zip([160, 320, 640]) {
        assert!(*gap >= interval, "{gaps:?} ms lie between the probes");
    }
}

#[tokio::test]
async fn a_leaked_key_is_left_alone_unless_the_operator_allows_it() {
    let google =
        FakeGemini::start(FakeGeminiConfig::default().with_key(A1, "a").with_key(A2, "a")).await.unwrap();
    let forbidden = Fleet::start(&google.base_url, 1, Probing::default());
    forbidden.ledger.block(A1, "key_leaked");
    forbidden.ledger.block(A2, "key_restricted");
    assert!(eventually(async || !forbidden.ledger.is_blocked(A2)).await, "the other one was looked at");
    assert!(forbidden.ledger.is_blocked(A1));
    assert_eq!(google.verdict().calls_with(&fingerprint(A1), "countTokens"), 0);

    let allowed = Fleet::start(&google.base_url, 1, Probing { leaked: true, ..Probing::default() });
    allowed.ledger.block(A1, "key_leaked");
    assert!(eventually(async || !allowed.ledger.is_blocked(A1)).await);
}

#[tokio::test]
async fn nothing_is_probed_when_probing_is_off_until_a_reload_turns_it_on() {
    let google =
        FakeGemini::start(FakeGeminiConfig::default().with_key(A1, "a").with_key(A2, "a")).await.unwrap();
    let off = Probing { enabled: false, ..Probing::default() };
    let fleet = Fleet::start(&google.base_url, 1, off);
    fleet.ledger.block(A1, "key_invalid");
    tokio::time::sleep(3 * FIRST).await;
    assert_eq!(google.verdict().calls, 0);
    fleet.reconfigure(|probing| probing.enabled = true);
    assert!(eventually(async || !fleet.ledger.is_blocked(A1)).await);
}

#[tokio::test]
async fn an_answer_that_says_nothing_of_the_key_brings_it_neither_back_nor_further_away() {
    let page = Router::new().fallback(async || "<html>Welcome to this network</html>");
    let (url, server) = serve(page).await;
    let fleet = Fleet::start(&url, 1, Probing::default());
    fleet.ledger.block(A1, "key_invalid");
    tokio::time::sleep(4 * FIRST).await;
    assert!(fleet.ledger.is_blocked(A1));
    server.abort();
}

#[tokio::test]
async fn at_most_four_keys_are_probed_at_once() {
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let slow = {
        let (under_way, most) = (under_way.clone(), most.clone());
        async move || {
            most.fetch_max(under_way.fetch_add(1, Relaxed) + 1, Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
            under_way.fetch_sub(1, Relaxed);
            Json(json!({"totalTokens": 1}))
        }
    };
    let (url, server) = serve(Router::new().route("/v1beta/models/{call}", post(slow))).await;
    let keys: Vec<String> = (0..20).map(|n| format!("test-key-probing-many-{n:02}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let fleet = Fleet::with_keys(&url, 1, Probing::default(), &keys);
    keys.iter().for_each(|key| fleet.ledger.block(key, "key_binding"));
    assert!(eventually(async || keys.iter().all(|key| !fleet.ledger.is_blocked(key))).await);
    assert_eq!(most.load(Relaxed), 4);
    server.abort();
}

async fn serve(router: Router) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

async fn change(google: &FakeGemini, key: &str, disabled_as: Option<NamedError>) {
    let change = KeyChange { key: key.to_owned(), project: None, disabled_as };
    google.control().change_key(&change).await.unwrap();
}

/// Probers that share one ledger and their claims, as the brokers of a fleet do.
struct Fleet {
    ledger: Arc<Blocks>,
    catalogue: watch::Sender<Arc<Catalogue>>,
    _probers: Vec<Prober>,
}

impl Fleet {
    fn start(base_url: &str, brokers: usize, probing: Probing) -> Self {
        Self::with_keys(base_url, brokers, probing, &[A1, A2])
    }

    fn with_keys(base_url: &str, brokers: usize, probing: Probing, keys: &[&str]) -> Self {
        let mut pool = Pool::new("default");
        let key = |key: &&str| Key::new(fingerprint(key), Secret::from(*key));
        pool.projects = vec![Project { keys: keys.iter().map(key).collect(), ..Project::new("a") }];
        let longest = probing.longest.min(Duration::from_secs(60));
        let catalogue = Catalogue {
            pools: [("default".to_owned(), pool)].into(),
            probing: Probing { base_url: base_url.to_owned(), first: FIRST, longest, ..probing },
            ..Catalogue::default()
        };
        let catalogue = watch::Sender::new(Arc::new(catalogue));
        let (ledger, claims) = (Arc::<Blocks>::default(), Arc::<LocalClaims>::default());
        let prober = |_| {
            let turns = FleetTurns::new(claims.clone());
            Prober::start(catalogue.subscribe(), ledger.clone(), ledger.clone(), turns).unwrap()
        };
        let probers = (0..brokers).map(prober).collect();
        Self { ledger, catalogue, _probers: probers }
    }

    fn reconfigure(&self, change: impl FnOnce(&mut Probing)) {
        let mut catalogue = Catalogue::clone(&self.catalogue.borrow());
        change(&mut catalogue.probing);
        self.catalogue.send_replace(Arc::new(catalogue));
    }
}

/// A ledger as far as a prober knows one.
#[derive(Default)]
struct Blocks(Mutex<HashMap<String, Account>>);

impl Blocks {
    fn block(&self, key: &str, reason: &str) {
        let row = Account { blocked_until: FOREVER, reason: reason.to_owned(), ..Account::default() };
        self.0.lock().unwrap().insert(account(key), row);
    }

    fn is_blocked(&self, key: &str) -> bool {
        self.0.lock().unwrap().contains_key(&account(key))
    }
}

fn account(key: &str) -> String {
    AccountOf::Key(&Secret::from(key).fingerprint()).id()
}

impl ReadAccounts for Blocks {
    fn read<'a>(&'a self, _: &'a str, accounts: &'a [String]) -> LedgerFuture<'a, Inspection> {
        let rows = self.0.lock().unwrap();
        let accounts = accounts.iter().map(|id| rows.get(id).cloned()).collect();
        Box::pin(async { Ok(Inspection { now: 0, accounts }) })
    }
}

impl Recovery for Blocks {
    fn recover<'a>(&'a self, pool: &'a str, account: &'a str) -> RecoveryFuture<'a> {
        assert_eq!(pool, "default");
        self.0.lock().unwrap().remove(account);
        Box::pin(async { Ok(()) })
    }
}
