//! Hooks against a receiver on loopback.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use serde_json::Value;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

use super::*;
use crate::{
    catalogue::{EventKind, Hook, HookAction, HookFormat},
    claims::{FleetTurns, LocalClaims},
    events::{Event, Events, Redactor, Subject},
    secret::Secret,
};

/// Longer than anything takes here; it only bounds a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn event(kind: EventKind) -> Event {
    let text = |text: &str| Redactor::default().text(text);
    let subject = Subject {
        pool: text("default"),
        name: text("project team-a, model flash"),
        key_id: text("a1"),
        project: text("team-a"),
        quota_model: text("flash"),
        ..Subject::default()
    };
    let mut event = Event::new(kind, 1_784_044_800_000, subject);
    event.numbers.limit_name = "requests per minute".to_owned();
    event
}

pub(super) fn labelled(mut event: Event, name: &str, value: &str) -> Event {
    let text = |text: &str| Redactor::default().text(text);
    event.subject.labels.insert(text(name), text(value));
    event
}

/// A hook for all events that goes nowhere yet.
pub(super) fn hook(name: &str, labels: &[(&str, &str)]) -> Hook {
    Hook {
        name: name.to_owned(),
        events: BTreeSet::from(EventKind::ALL),
        labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        pools: BTreeSet::new(),
        action: HookAction::Post { url: Secret::from("http://127.0.0.1:9/"), format: HookFormat::Json },
        cooldown: Duration::from_secs(300),
        timeout: Duration::from_secs(10),
        attempts: 3,
    }
}

/// Takes what is posted and answers with the statuses it was given, then with 200.
struct Receiver {
    url: String,
    shared: Arc<Told>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    bodies: Mutex<Vec<Value>>,
    answers: Mutex<VecDeque<u16>>,
    changed: Notify,
    // While it is locked nothing is answered.
    gate: tokio::sync::Mutex<()>,
}

impl Receiver {
    async fn start(answers: &[u16]) -> Self {
        let shared =
            Arc::new(Told { answers: Mutex::new(answers.iter().copied().collect()), ..Told::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(take)).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, server }
    }

    fn hook(&self, name: &str, labels: &[(&str, &str)]) -> Hook {
        let action = HookAction::Post { url: Secret::from(self.url.as_str()), format: HookFormat::Json };
        Hook { action, ..hook(name, labels) }
    }

    /// What was posted, once it is so much.
    async fn told(&self, count: usize) -> Vec<Value> {
        let enough = async {
            loop {
                let changed = self.shared.changed.notified();
                let bodies = self.shared.bodies.lock().unwrap().clone();
                if bodies.len() >= count {
                    return bodies;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.expect("the receiver is told in time")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(told): State<Arc<Told>>, body: Bytes) -> StatusCode {
    told.bodies.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    told.changed.notify_waiters();
    let _open = told.gate.lock().await;
    let answer = told.answers.lock().unwrap().pop_front().unwrap_or(200);
    StatusCode::from_u16(answer).unwrap()
}

struct Broker {
    events: Events,
    hooks: Hooks,
}

impl Broker {
    fn start(fleet: &Arc<LocalClaims>, hooks: &[Hook]) -> Self {
        let events = Events::new();
        let running = Hooks::start(&events, FleetTurns::new(fleet.clone())).unwrap();
        running.replace(hooks, Redactor::default());
        Self { events, hooks: running }
    }

    fn alone(hooks: &[Hook]) -> Self {
        Self::start(&Arc::default(), hooks)
    }

    async fn counts(&self, name: &str, enough: impl Fn(HookCounts) -> bool) -> HookCounts {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let counts = self.hooks.counts()[name];
            if enough(counts) {
                return counts;
            }
            assert!(std::time::Instant::now() < deadline, "{counts:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn an_event_is_posted_as_json_to_the_hooks_it_is_for_and_to_no_other() {
    let receiver = Receiver::start(&[]).await;
    let only =
        |events: EventKind, name: &str| Hook { events: BTreeSet::from([events]), ..receiver.hook(name, &[]) };
    let elsewhere = Hook { pools: BTreeSet::from(["another".to_owned()]), ..receiver.hook("elsewhere", &[]) };
    let broker = Broker::alone(&[
        only(EventKind::KeyDisabled, "keys"),
        only(EventKind::PoolExhausted, "pools"),
        elsewhere,
        receiver.hook("labels", &[("integration", "zalo")]),
    ]);
    let event = event(EventKind::KeyDisabled);
    broker.events.emit(event.clone());
    let told = receiver.told(1).await;
    assert_eq!(told, [serde_json::to_value(&event).unwrap()]);
    broker.hooks.close(PATIENCE).await;
    assert_eq!(receiver.told(1).await.len(), 1, "only one hook is for it");
}

#[tokio::test]
async fn a_relogin_hook_is_called_once_by_four_brokers_whatever_keys_the_limits_hit() {
    let receiver = Receiver::start(&[]).await;
    let fleet = Arc::new(LocalClaims::default());
    let relogin = receiver.hook("relogin", &[("integration", "zalo")]);
    let brokers: Vec<_> = (0..4).map(|_| Broker::start(&fleet, std::slice::from_ref(&relogin))).collect();
    for (at, broker) in brokers.iter().enumerate() {
        for key in ["a1", "b1"] {
            let mut event = labelled(event(EventKind::CooldownBegun), "integration", "zalo");
            event.subject.key_id = Redactor::default().text(&format!("{key}-{at}"));
            broker.events.emit(event);
        }
    }
    let mut counts = Vec::new();
    for broker in &brokers {
        counts.push(broker.counts("relogin", |counts| counts.delivered + counts.held_back == 2).await);
    }
    assert_eq!(counts.iter().map(|counts| counts.delivered).sum::<u64>(), 1);
    assert_eq!(receiver.told(1).await.len(), 1);
}

#[tokio::test]
async fn without_a_cooldown_every_event_is_told_in_order() {
    let receiver = Receiver::start(&[]).await;
    let broker = Broker::alone(&[Hook { cooldown: Duration::ZERO, ..receiver.hook("all", &[]) }]);
    let events: Vec<_> = (0..5).map(|_| event(EventKind::CooldownBegun)).collect();
    events.iter().for_each(|event| broker.events.emit(event.clone()));
    let told: Vec<_> =
        receiver.told(5).await.iter().map(|body| body["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, events.iter().map(|event| event.id.clone()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_and_one_that_refuses_is_not() {
    let failing = Receiver::start(&[503]).await;
    let refusing = Receiver::start(&[404, 404]).await;
    let broker = Broker::alone(&[failing.hook("failing", &[]), refusing.hook("refusing", &[])]);
    broker.events.emit(event(EventKind::KeyDisabled));
    let told = failing.told(2).await;
    assert_eq!(told[0], told[1], "the same event, by the same id");
    let counts = broker.counts("failing", |counts| counts.delivered == 1).await;
    assert_eq!(counts, HookCounts { delivered: 1, ..HookCounts::default() });
    broker.counts("refusing", |counts| counts.failed == 1).await;
    assert_eq!(refusing.told(1).await.len(), 1);
}

#[tokio::test]
async fn a_hook_that_was_not_told_keeps_its_cooldown() {
    let receiver = Receiver::start(&[500]).await;
    let broker = Broker::alone(&[Hook { attempts: 1, ..receiver.hook("once", &[]) }]);
    broker.events.emit(event(EventKind::KeyDisabled));
    broker.counts("once", |counts| counts.failed == 1).await;
    broker.events.emit(event(EventKind::KeyDisabled));
    let counts = broker.counts("once", |counts| counts.held_back == 1).await;
    assert_eq!(counts.delivered, 0);
    assert_eq!(receiver.told(1).await.len(), 1);
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_given_up_at_the_timeout() {
    let receiver = Receiver::start(&[]).await;
    let _shut = receiver.shared.gate.lock().await;
    let timeout = Duration::from_millis(200);
    let broker = Broker::alone(&[Hook { timeout, attempts: 1, ..receiver.hook("slow", &[]) }]);
    broker.events.emit(event(EventKind::KeyDisabled));
    broker.counts("slow", |counts| counts.failed == 1).await;
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_delays_no_other_hook() {
    let (slow, quick) = (Receiver::start(&[]).await, Receiver::start(&[]).await);
    let shut = slow.shared.gate.lock().await;
    let all = |receiver: &Receiver, name: &str| Hook {
        cooldown: Duration::ZERO,
        timeout: PATIENCE,
        ..receiver.hook(name, &[])
    };
    let broker = Broker::alone(&[all(&slow, "slow"), all(&quick, "quick")]);
    broker.events.emit(event(EventKind::KeyDisabled));
    slow.told(1).await;
    // One is under way; so many may wait, and three more find no room.
    for _ in 0..worker::LONGEST_QUEUE + 3 {
        broker.events.emit(event(EventKind::KeyDisabled));
        tokio::task::yield_now().await;
    }
    broker.counts("slow", |counts| counts.dropped == 3).await;
    assert_eq!(slow.shared.bodies.lock().unwrap().len(), 1);
    quick.told(10).await;
    drop(shut);
    slow.told(1 + worker::LONGEST_QUEUE).await;
}

#[tokio::test]
async fn a_reload_finishes_what_is_under_way_and_keeps_hooks_that_did_not_change() {
    let (old, new) = (Receiver::start(&[]).await, Receiver::start(&[]).await);
    let shut = old.shared.gate.lock().await;
    let every = |hook: Hook| Hook { cooldown: Duration::ZERO, ..hook };
    let broker = Broker::alone(&[every(old.hook("moved", &[])), every(new.hook("kept", &[]))]);
    broker.events.emit(event(EventKind::KeyDisabled));
    broker.events.emit(event(EventKind::KeyRecovered));
    old.told(1).await;
    new.told(2).await;
    broker.hooks.replace(&[every(new.hook("moved", &[])), every(new.hook("kept", &[]))], Redactor::default());
    broker.events.emit(event(EventKind::PoolExhausted));
    new.told(4).await;
    drop(shut);
    let told = old.told(2).await;
    assert_eq!([&told[0]["kind"], &told[1]["kind"]], ["key_disabled", "key_recovered"]);
    let counts = broker.counts("moved", |counts| counts.delivered == 3).await;
    assert_eq!(counts.failed, 0);
    assert_eq!(broker.hooks.counts()["kept"].delivered, 3);
}

#[tokio::test]
async fn closing_tells_what_is_queued_and_ends_at_the_grace() {
    let (open, shut) = (Receiver::start(&[]).await, Receiver::start(&[]).await);
    let every = |hook: Hook| Hook { cooldown: Duration::ZERO, timeout: PATIENCE, ..hook };
    let broker = Broker::alone(&[every(open.hook("open", &[]))]);
    (0..3).for_each(|_| broker.events.emit(event(EventKind::KeyDisabled)));
    broker.hooks.close(PATIENCE).await;
    assert_eq!(open.told(3).await.len(), 3);

    let _shut = shut.shared.gate.lock().await;
    let broker = Broker::alone(&[every(shut.hook("shut", &[]))]);
    broker.events.emit(event(EventKind::KeyDisabled));
    shut.told(1).await;
    let begun = std::time::Instant::now();
    broker.hooks.close(Duration::from_millis(50)).await;
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn slack_and_discord_get_their_own_forms() {
    let receiver = Receiver::start(&[]).await;
    let formed = |name: &str, format| Hook {
        action: HookAction::Post { url: Secret::from(receiver.url.as_str()), format },
        ..hook(name, &[])
    };
    let broker = Broker::alone(&[formed("slack", HookFormat::Slack), formed("discord", HookFormat::Discord)]);
    broker.events.emit(event(EventKind::KeyDisabled));
    let told: BTreeMap<String, Value> =
        receiver.told(2).await.iter().flat_map(|body| body.as_object().unwrap().clone()).collect();
    assert!(told["text"].as_str().unwrap().contains("is disabled"));
    assert!(told["content"].as_str().unwrap().contains("is disabled"));
}
