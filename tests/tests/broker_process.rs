//! The broker as an operator sees it: a process that is stopped, killed, reconfigured and shared.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use keybroker_proto::v1::{AcquireRequest, Constraints, SettleState, Tier};
use keybroker_tests::{
    harness::{
        api::{Details, MODEL, answered, ask, succeeded, wire},
        broker::BrokerOptions,
        rig::{Backing, Rig, eventually},
    },
    on_both_ledgers,
};
use tonic::Code;

const THREE_PROJECTS: &str = r#"
[[projects]]
id = "alpha"
tier = "free"
keys = [ { id = "a1", secret = "test-key-broker-process-a1" } ]
limits = [ { requests_per_minute = 100 } ]

[[projects]]
id = "beta"
tier = "paid"
keys = [ { id = "b1", secret = "test-key-broker-process-b1" } ]
limits = [ { requests_per_minute = 100 } ]

[[projects]]
id = "gamma"
keys = [ { id = "c1", secret = "test-key-broker-process-c1" } ]
limits = [ { requests_per_minute = 100 } ]
"#;

on_both_ledgers!(
    a_waiting_call_is_told_of_the_shutdown_and_the_broker_ends_with_code_0_within_its_grace,
    a_limit_by_the_second_names_the_right_instant_and_a_call_that_waits_is_served_then,
    a_request_for_a_tier_a_project_or_without_some_keys_gets_just_that_or_no_usable_key,
);

async fn a_waiting_call_is_told_of_the_shutdown_and_the_broker_ends_with_code_0_within_its_grace(
    backing: Backing,
) {
    const GRACE: Duration = Duration::from_secs(5);
    let options = BrokerOptions::default().arg("--drain-grace", GRACE.as_secs().to_string());
    let mut rig = Rig::start_with(backing, &one_project("requests_per_minute = 1"), options).await;
    rig.api.lease().await;
    let api = rig.api.clone();
    let waiting = tokio::spawn(async move { api.acquire(patient(Duration::from_secs(300))).await });
    let waits =
        eventually(async || rig.api.inspect().await.counters.is_some_and(|counters| counters.waiting == 1));
    assert!(waits.await, "the call waits in the broker");

    rig.broker.process().signal("TERM").unwrap();
    let status = waiting.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(Details::of(&status).reason, "SHUTTING_DOWN");
    // Without blocking this thread: the connection to the broker lives on it, and has to be closed.
    assert!(eventually(async || !rig.broker.process().is_running()).await, "the broker ends");
    let ended = rig.broker.process().wait(Duration::ZERO).unwrap();
    assert_eq!(ended.code(), Some(0));
    rig.logs("stopped").await;
    assert!(!rig.broker.log().contains("the grace ended"), "{}", rig.broker.log());
}

#[tokio::test]
async fn callers_are_told_that_another_fleets_ledger_is_in_the_place_of_theirs() {
    let rig = Rig::start(Backing::Redis, THREE_PROJECTS).await;
    rig.api.lease().await;
    let mut redis = rig.redis.as_ref().unwrap().connect().unwrap();
    ::redis::cmd("HSET").arg("kb:{default}:meta").arg("id").arg("another").exec(&mut redis).unwrap();
    let refused = rig.api.acquire(ask(MODEL)).await.unwrap_err();
    assert_eq!((refused.code(), &*Details::of(&refused).reason), (Code::Unavailable, "LEDGER_CHANGED"));
    assert!(refused.message().contains("restart the brokers"), "{refused:?}");
}

#[tokio::test]
async fn counters_a_cooldown_the_turn_and_a_lease_outlive_a_kill_on_the_embedded_ledger() {
    let mut rig = Rig::start(Backing::Embedded, THREE_PROJECTS).await;
    let mut turns = Vec::new();
    let mut leases = Vec::new();
    for _ in 0..4 {
        let lease = rig.api.lease().await;
        turns.push(lease.project);
        leases.push(lease.lease_id);
    }
    // Another model cools, which leaves the turns of the first one alone.
    let cooled = rig.api.acquire(ask("gemini-cooled")).await.unwrap();
    let minute_429 = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaValue":"50"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"45s"}]}}"#;
    rig.api.report(answered(&cooled.lease_id, 429, minute_429)).await.unwrap();
    let before = rig.api.inspect().await;
    assert_eq!(before.cooldowns.len(), 1, "{:?}", before.cooldowns);

    rig.restart().await;
    // The broker shows the models that were asked for since it started.
    let refused = AcquireRequest { constraints: only_project(&cooled.project), ..ask("gemini-cooled") };
    let refused = rig.api.acquire(refused).await.unwrap_err();
    assert_eq!(Details::of(&refused).reason, "COOLING_DOWN", "{refused:?}");
    for number in 4..7 {
        let lease = rig.api.lease().await;
        assert_eq!(lease.project, turns[number - 3], "turn {number} after {turns:?}");
        turns.push(lease.project);
    }
    let after = rig.api.inspect().await;
    assert_eq!(after.cooldowns, before.cooldowns);
    for project in ["alpha", "beta", "gamma"] {
        let taken = turns.iter().filter(|turn| *turn == project).count();
        assert_eq!(rig.api.used(project, "requests per minute").await, taken as i64, "{project}");
    }
    for lease in &leases {
        let settled = rig.api.report(succeeded(lease, 1)).await.unwrap();
        assert_eq!(settled.state(), SettleState::Settled, "a lease of the dead broker is alive");
    }
    let again = rig.api.report(succeeded(&leases[0], 1)).await.unwrap();
    assert_eq!(again.state(), SettleState::AlreadySettled);
}

#[tokio::test]
async fn a_changed_file_is_taken_up_and_a_bad_one_leaves_the_old_configuration_in_place() {
    let mut rig = Rig::start(Backing::Embedded, &one_project("requests_per_minute = 100")).await;
    assert_eq!(rig.api.lease().await.key_id, "o1");

    rig.configure("[[projects]]\nid = 7\nnonsense = [");
    rig.logs("the new configuration is not used, the old one stays").await;
    assert_eq!(rig.api.lease().await.key_id, "o1", "the old configuration serves");
    assert_eq!(rig.api.used("only", "requests per minute").await, 2);

    rig.configure(THREE_PROJECTS);
    rig.logs("a new configuration is in place").await;
    let keys: Vec<_> = rig.api.inspect().await.keys.into_iter().map(|key| key.key_id).collect();
    assert_eq!(keys, ["a1", "b1", "c1"]);
    let lease = rig.api.lease().await;
    assert!(["a1", "b1", "c1"].contains(&lease.key_id.as_str()), "{}", lease.key_id);
    rig.still_serves().await;
}

#[tokio::test]
async fn two_brokers_with_different_files_on_one_redis_count_together_and_lease_their_own_keys_alone() {
    let shared = |keys: &str| {
        format!(
            "[[projects]]\nid = \"shared\"\nlimits = [ {{ requests_per_minute = 5 }} ]\nkeys = [ {keys} ]\n"
        )
    };
    let own = "[[projects]]\nid = \"own\"\nkeys = [ { id = \"own1\", secret = \"test-key-broker-process-own1\" } ]\n";
    let first = shared(r#"{ id = "s1", secret = "test-key-broker-process-s1" }"#);
    let second = shared(r#"{ id = "s2", secret = "test-key-broker-process-s2" }"#) + own;
    let mut rig = Rig::start(Backing::Redis, &first).await;
    let early = rig.api.lease().await;
    assert_eq!(early.key_id, "s1");

    let (_other, other) = rig.beside("other.toml", &second).await;
    assert_eq!(rig.api.used("shared", "requests per minute").await, 1, "the second broker resets nothing");
    for _ in 0..2 {
        let lease = other.acquire(of_project("shared")).await.unwrap();
        assert_eq!(lease.key_id, "s2");
        assert_eq!(rig.api.lease().await.key_id, "s1");
    }
    for api in [&rig.api, &other] {
        assert_eq!(api.used("shared", "requests per minute").await, 5);
        let refused = api.acquire(of_project("shared")).await.unwrap_err();
        assert_eq!(Details::of(&refused).reason, "QUOTA_EXHAUSTED", "{refused:?}");
    }
    for _ in 0..3 {
        assert_eq!(other.lease().await.key_id, "own1", "the second broker has a project of its own");
    }
    let refused = rig.api.acquire(of_project("own")).await.unwrap_err();
    assert_eq!(Details::of(&refused).reason, "NO_USABLE_KEY", "{refused:?}");
    assert_eq!(other.report(succeeded(&early.lease_id, 1)).await.unwrap().state(), SettleState::Settled);
    assert!(rig.broker.process().is_running());
}

#[tokio::test]
async fn grpcurl_finds_the_services_by_reflection_and_takes_a_lease() {
    let rig = Rig::start(Backing::Embedded, &one_project("requests_per_minute = 100")).await;
    let services = grpcurl(&[&rig.broker.grpc, "list"]);
    for service in ["keybroker.v1.KeyBroker", "keybroker.v1.Admin", "grpc.health.v1.Health"] {
        assert!(services.lines().any(|line| line == service), "{service} is not in:\n{services}");
    }
    let described = grpcurl(&[&rig.broker.grpc, "describe", "keybroker.v1.KeyBroker"]);
    assert!(described.contains("rpc Acquire"), "{described}");

    let request = format!(r#"{{"model": "{MODEL}"}}"#);
    let answer = grpcurl(&["-d", &request, &rig.broker.grpc, "keybroker.v1.KeyBroker/Acquire"]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["lease"]["keyId"], "o1", "{answer}");
    assert_eq!(answer["lease"]["apiKey"], "test-key-broker-process-o1", "{answer}");
    assert_eq!(rig.api.used("only", "requests per minute").await, 1);
}

async fn a_limit_by_the_second_names_the_right_instant_and_a_call_that_waits_is_served_then(
    backing: Backing,
) {
    let rig = Rig::start(backing, &one_project("requests_per_second = 2")).await;
    let asked = Instant::now();
    rig.api.lease().await;
    let granted = Instant::now();
    rig.api.lease().await;

    let refused = rig.api.acquire(ask(MODEL)).await.unwrap_err();
    let told = Instant::now();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let ready = told + Details::of(&refused).retry_after.unwrap();
    // The lease may be sent within a second, and Google counts it for a second then; a window is
    // counted in sixtieths.
    let second = Duration::from_secs(1);
    assert!(ready >= asked + 2 * second, "{:?} is too early", ready - asked);
    assert!(ready <= granted + 2 * second + Duration::from_millis(150), "{:?} is too late", ready - granted);

    tokio::time::sleep_until((ready - Duration::from_millis(200)).into()).await;
    let early = rig.api.acquire(ask(MODEL)).await;
    assert!(early.is_err(), "granted before its instant");
    rig.api.acquire(patient(Duration::from_secs(10))).await.unwrap();
    let served = Instant::now();
    assert!(served >= ready - Duration::from_millis(50), "{:?} too early", ready - served);
    assert!(served <= ready + Duration::from_millis(500), "{:?} too late", served - ready);
}

async fn a_request_for_a_tier_a_project_or_without_some_keys_gets_just_that_or_no_usable_key(
    backing: Backing,
) {
    let rig = Rig::start(backing, THREE_PROJECTS).await;
    let with = |constraints: Constraints| AcquireRequest { constraints: Some(constraints), ..ask(MODEL) };
    let tier = |tier: Tier| with(Constraints { tier: tier.into(), ..Constraints::default() });
    for _ in 0..4 {
        assert_eq!(rig.api.acquire(tier(Tier::Paid)).await.unwrap().project, "beta");
        assert_eq!(rig.api.acquire(of_project("gamma")).await.unwrap().project, "gamma");
        let neither = with(Constraints {
            exclude_key_ids: vec!["a1".to_owned()],
            exclude_projects: vec!["beta".to_owned()],
            ..Constraints::default()
        });
        assert_eq!(rig.api.acquire(neither).await.unwrap().project, "gamma");
    }
    let paid_of_a_free_project =
        Constraints { tier: Tier::Paid.into(), project: "alpha".to_owned(), ..Default::default() };
    let none_left = Constraints {
        exclude_key_ids: vec!["a1".to_owned(), "c1".to_owned()],
        exclude_projects: vec!["beta".to_owned()],
        ..Constraints::default()
    };
    for constraints in [paid_of_a_free_project, none_left] {
        let refused = rig.api.acquire(with(constraints)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert_eq!(Details::of(&refused).reason, "NO_USABLE_KEY");
    }
    assert_eq!(rig.api.used("alpha", "requests per minute").await, 0, "a free key was never charged");
}

fn one_project(limit: &str) -> String {
    format!(
        "[[projects]]\nid = \"only\"\nlimits = [ {{ {limit} }} ]\n\
         keys = [ {{ id = \"o1\", secret = \"test-key-broker-process-o1\" }} ]\n"
    )
}

fn only_project(project: &str) -> Option<Constraints> {
    Some(Constraints { project: project.to_owned(), ..Constraints::default() })
}

fn of_project(project: &str) -> AcquireRequest {
    AcquireRequest { constraints: only_project(project), ..ask(MODEL) }
}

fn patient(wait: Duration) -> AcquireRequest {
    AcquireRequest { wait: Some(wire(wait)), ..ask(MODEL) }
}

/// Runs grpcurl without TLS and answers what it prints.
fn grpcurl(arguments: &[&str]) -> String {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/grpcurl");
    let of_go = std::env::var_os("HOME").map(|home| PathBuf::from(home).join("go/bin/grpcurl"));
    let installed = [Some(here), of_go].into_iter().flatten().find(|path| path.is_file());
    let program = installed.unwrap_or_else(|| PathBuf::from("grpcurl"));
    let output = Command::new(program).arg("-plaintext").args(arguments).output();
    let output = output.expect("grpcurl is installed; `make setup` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
