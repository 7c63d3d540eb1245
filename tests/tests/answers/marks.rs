//! What a whole fleet does to keys that Google refuses: no more than the requests already in flight.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use keybroker_client::{Broker, Gemini};
use keybroker_tests::{
    answers::stage::{KEYS, QUESTION, Stage, config, key_of, key_text},
    fake_gemini::{Fault, FaultRule, Millis, NamedError, fingerprint},
    harness::{api::MODEL, broker::BrokerProcess, rig::Backing},
};

/// The workers of each broker.
const WORKERS: usize = 4;

#[tokio::test]
async fn a_key_dead_for_the_day_is_called_at_most_twice_more_by_the_whole_fleet() {
    let fleet = Fleet::start().await;
    let dead = Fault::Error { name: NamedError::Daily429 };
    // The requests of the fleet overlap, as they do in life.
    fleet.stage.go_wrong(FaultRule::always(Fault::Latency(Millis::fixed(40))));
    fleet.stage.go_wrong(FaultRule::always(dead).on_key(&fingerprint(&key_text("b1"))));
    let served = fleet.asks(400).await;

    let called = fleet.count("b1");
    assert!((1..=3).contains(&called), "the first refusal and at most two more, not {called}");
    assert!(served >= 397, "the other keys serve: {served} of 400");
    let cooldowns = fleet.stage.cooldowns().await;
    let subjects: Vec<_> = cooldowns.iter().map(|cooldown| cooldown.subject.as_str()).collect();
    assert_eq!(subjects, ["project beta, model gemini-fake"]);
}

#[tokio::test]
async fn a_suspended_key_is_called_only_by_the_requests_already_in_flight() {
    a_refused_key_is_called_only_by_the_requests_already_in_flight(NamedError::Suspended).await;
}

#[tokio::test]
async fn an_invalid_key_is_called_only_by_the_requests_already_in_flight() {
    a_refused_key_is_called_only_by_the_requests_already_in_flight(NamedError::Invalid).await;
}

async fn a_refused_key_is_called_only_by_the_requests_already_in_flight(name: NamedError) {
    let fleet = Fleet::start().await;
    let bad = fingerprint(&key_text("b1"));
    // All other keys take longer, so that no lease is taken while the refusals are under way.
    fleet.stage.go_wrong(FaultRule::always(Fault::Latency(Millis::fixed(300))));
    for (id, ..) in KEYS.iter().filter(|(id, ..)| *id != "b1") {
        let slower = FaultRule::always(Fault::Latency(Millis::fixed(500)));
        fleet.stage.go_wrong(slower.on_key(&fingerprint(&key_text(id))));
    }
    fleet.stage.go_wrong(FaultRule::always(Fault::Error { name }).on_key(&bad));
    let served = fleet.asks(60).await;

    // Eight requests at once on five keys put two at most on one of them.
    let refused = fleet.count("b1");
    assert!((1..=2).contains(&refused), "no more than the requests already in flight, not {refused}");
    assert_eq!(served, 60, "the other keys serve");
}

#[tokio::test]
async fn a_storm_of_503_switches_no_keys_and_blames_nobody() {
    let fleet = Fleet::start_with(&with_a_backup()).await;
    let overloaded = Fault::Error { name: NamedError::Overloaded };
    fleet.stage.go_wrong(FaultRule::always(overloaded));
    let served = fleet.asks_until(usize::MAX, Instant::now() + Duration::from_secs(5)).await;
    assert_eq!(served, 0);
    fleet.stage.gemini.clear_faults();
    let stormed = fleet.stage.calls();
    assert!(stormed.iter().all(|call| key_of(call) != "d1"), "nobody fled to the backup");
    // Eight workers that ask without a pause; the breaker lets a few through.
    assert!((3..60).contains(&stormed.len()), "{} requests in 5 s", stormed.len());

    let view = fleet.stage.rig.api.inspect().await;
    assert!(view.keys.iter().all(|key| key.available), "{:?}", view.keys);
    let blamed: Vec<_> = view.cooldowns.iter().map(|cooldown| cooldown.subject.as_str()).collect();
    assert!(blamed.iter().all(|subject| *subject == "model gemini-fake"), "{blamed:?}");
    // The breaker may be open for a while yet: for 30 s at most.
    let well_again = Instant::now() + Duration::from_secs(35);
    let mut served = 0;
    while served == 0 && Instant::now() < well_again {
        served = fleet.asks_until(usize::MAX, Instant::now() + Duration::from_secs(3)).await;
    }
    assert!(served > 0, "the model is well again");
}

#[tokio::test]
async fn requests_at_fault_penalise_nobody_however_many_they_are() {
    let fleet = Fleet::start().await;
    let faults = [
        NamedError::BadRequest,
        NamedError::FileForbidden,
        NamedError::MultipleCredentials,
        NamedError::LocationUnsupported,
        NamedError::UnknownModel,
    ];
    for name in faults {
        fleet.stage.go_wrong(FaultRule::always(Fault::Error { name }).with_probability(0.2));
    }
    let served = fleet.asks(300).await;
    let calls = fleet.stage.calls();
    assert!(calls.iter().filter(|call| call.status >= 400).count() > 100 && served > 20, "{served}");
    assert_eq!(fleet.stage.cooldowns().await, []);
    let mut shares = BTreeMap::new();
    for call in &calls {
        *shares.entry(key_of(call)).or_insert(0) += 1;
    }
    let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
    assert!(shares.len() == KEYS.len() && most - least <= 8, "the keys have equal shares: {shares:?}");
}

/// Two brokers on one Redis, each with workers of its own.
struct Fleet {
    stage: Stage,
    second: BrokerProcess,
}

impl Fleet {
    async fn start() -> Self {
        Self::start_with(&config()).await
    }

    async fn start_with(config: &str) -> Self {
        let stage = Stage::start_as(Backing::Redis, config).await;
        let (second, _) = stage.rig.beside("second.toml", config).await;
        Self { stage, second }
    }

    /// The workers ask so many times between them, without a pause; how many answers they got.
    async fn asks(&self, times: usize) -> usize {
        self.asks_until(times, Instant::now() + Duration::from_secs(40)).await
    }

    /// The same, and not beyond that instant.
    async fn asks_until(&self, times: usize, until: Instant) -> usize {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut workers = Vec::new();
        for url in [self.stage.rig.broker.url(), self.second.url()] {
            for _ in 0..WORKERS {
                let broker = Broker::connect(url.clone()).unwrap();
                let client = Gemini::builder(&broker)
                    .base_url(&self.stage.gemini.base_url)
                    .deadline((until - Instant::now()).min(Duration::from_secs(10)))
                    .build()
                    .unwrap();
                let asked = Arc::clone(&asked);
                workers.push(tokio::spawn(async move {
                    let mut served = 0;
                    while asked.fetch_add(1, Ordering::Relaxed) < times && Instant::now() < until {
                        served += usize::from(client.ask(MODEL, QUESTION).await.is_ok());
                    }
                    served
                }));
            }
        }
        let mut served = 0;
        for worker in workers {
            served += worker.await.unwrap();
        }
        served
    }

    fn count(&self, id: &str) -> usize {
        self.stage.keys_called().iter().filter(|key| **key == id).count()
    }
}

/// The key of the last project is a backup, for when no other key can serve.
fn with_a_backup() -> String {
    let key = key_text("d1");
    config()
        .replace("name = \"default\"", "name = \"default\"\nstrategy = \"priority\"")
        .replace(&format!("secret = \"{key}\""), &format!("secret = \"{key}\", priority = 1"))
}
