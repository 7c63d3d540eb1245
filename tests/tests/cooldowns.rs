//! Cooldowns, with real brokers on both ledgers: whom they cover, that they only lengthen, how they end,
//! and how an operator ends them.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::time::Duration;

use futures_util::future::join_all;
use keybroker_proto::v1::{
    AcquireRequest, Constraints, Cooldown, Lease, ListAuditRecordsRequest, ResetCooldownsRequest,
};
use keybroker_tests::{
    fake_gemini::{bodies, bodies::ErrorBody, quota_id::Violation},
    harness::{
        api::{Api, MODEL, answered, ask, not_sent, succeeded, wire},
        refused::{Refused, now, refused},
        rig::{Backing, Rig, eventually},
    },
    on_both_ledgers,
};
use tonic::{Code, Request, Status};

on_both_ledgers!(
    each_scope_is_cooled_as_a_whole_and_nobody_else,
    a_cooldown_is_lengthened_by_a_longer_one_and_never_shortened,
    a_cooldown_ends_with_one_probe_and_then_a_quarter_is_open,
    a_probe_that_fails_begins_anew_and_one_that_was_not_sent_is_sent_again,
    an_operator_resets_a_pool_a_key_or_one_quota_model,
    a_reset_reaches_what_other_brokers_cooled_and_is_recorded,
    a_reset_of_what_is_not_there_is_refused_with_the_right_code,
);

const OTHER: &str = "gemini-other";
const CONFIG: &str = r#"
[[projects]]
id = "alpha"
billing_account = "payer"
keys = [ { id = "a1", secret = "test-key-cooldowns-a1" }, { id = "a2", secret = "test-key-cooldowns-a2" } ]
[[projects]]
id = "beta"
billing_account = "payer"
keys = [ { id = "b1", secret = "test-key-cooldowns-b1" } ]
[[projects]]
id = "gamma"
keys = [ { id = "c1", secret = "test-key-cooldowns-c1" } ]
"#;
const KEYS: [&str; 4] = ["a1", "a2", "b1", "c1"];

/// One project alone, with a limit for its ramp.
const ALONE: &str = r#"
[[projects]]
id = "alpha"
limits = [ { requests_per_minute = 40 } ]
keys = [ { id = "a1", secret = "test-key-cooldowns-a1" } ]
"#;

fn only(key: &str, model: &str) -> AcquireRequest {
    let exclude_key_ids =
        KEYS.iter().filter(|other| **other != key).map(|other| (*other).to_owned()).collect();
    let constraints = Constraints { exclude_key_ids, ..Constraints::default() };
    AcquireRequest { constraints: Some(constraints), ..ask(model) }
}

/// A minute's quota is spent, and Google says for how long.
fn minute(seconds: u64) -> ErrorBody {
    let violation = Violation {
        metric: "generativelanguage.googleapis.com/fake".to_owned(),
        quota_id: "GenerateRequestsPerMinutePerProjectPerModel".to_owned(),
        model: MODEL.to_owned(),
        value: 1000,
        daily: false,
    };
    bodies::quota_429(&[violation], Duration::from_secs(seconds))
}

async fn fails(api: &Api, lease: &Lease, body: ErrorBody) {
    api.report(answered(&lease.lease_id, i32::from(body.status), body.text)).await.unwrap();
}

async fn cooldowns(api: &Api) -> Vec<Cooldown> {
    let mut cooldowns = api.inspect().await.cooldowns;
    cooldowns.sort_by(|a, b| a.subject.cmp(&b.subject));
    cooldowns
}

async fn subjects(api: &Api) -> Vec<String> {
    cooldowns(api).await.into_iter().map(|cooldown| cooldown.subject).collect()
}

/// The one cooldown there is.
async fn the_cooldown(api: &Api) -> Cooldown {
    let cooldowns = cooldowns(api).await;
    assert_eq!(cooldowns.len(), 1, "{cooldowns:?}");
    cooldowns.into_iter().next().unwrap()
}

fn millis(at: Option<prost_types::Timestamp>) -> i64 {
    at.map(|at| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000).unwrap()
}

/// The keys that can be leased for a model; all leases are given back.
async fn open(api: &Api, model: &str) -> Vec<&'static str> {
    let mut open = Vec::new();
    for key in KEYS {
        if let Ok(lease) = api.acquire(only(key, model)).await {
            assert_eq!(lease.key_id, key);
            api.report(not_sent(&lease.lease_id)).await.unwrap();
            open.push(key);
        }
    }
    open
}

async fn each_scope_is_cooled_as_a_whole_and_nobody_else(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    for (body, times, subject, of_model, of_other) in [
        (bodies::invalid_key(), 1, "key a1", &["a2", "b1", "c1"][..], &["a2", "b1", "c1"][..]),
        (minute(30), 1, "project alpha, model gemini-fake", &["b1", "c1"], &KEYS),
        (bodies::spending_cap_429(), 1, "project alpha", &["b1", "c1"], &["b1", "c1"]),
        (bodies::credits_depleted_429(), 1, "billing account payer", &["c1"], &["c1"]),
        (bodies::overloaded(), 3, "model gemini-fake", &[], &KEYS),
    ] {
        // What was under way while the breaker counted says nothing new, so one after the other.
        for _ in 0..times {
            let lease = rig.api.acquire(only("a1", MODEL)).await.unwrap();
            fails(&rig.api, &lease, body.clone()).await;
        }
        assert_eq!(subjects(&rig.api).await, [subject]);
        assert_eq!(open(&rig.api, MODEL).await, of_model, "{subject}");
        assert_eq!(open(&rig.api, OTHER).await, of_other, "{subject}");
        let refusal = refused_if_any(&rig.api, of_model).await;
        assert!(refusal.is_none_or(|refusal| refusal.subject == subject && refusal.reason == "COOLING_DOWN"));
        assert_eq!(reset(&rig.api, "pools/default", "").await.unwrap(), 1, "{subject}");
        assert_eq!(open(&rig.api, MODEL).await, KEYS, "{subject} is reset");
    }
}

/// The refusal of a request for a key that is out.
async fn refused_if_any(api: &Api, open: &[&str]) -> Option<Refused> {
    if open.contains(&"a1") { None } else { Some(refused(api, only("a1", MODEL)).await) }
}

async fn a_cooldown_is_lengthened_by_a_longer_one_and_never_shortened(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    let leases: Vec<_> = join_all((0..3).map(|_| rig.api.acquire(only("a1", MODEL)))).await;
    let mut leases = leases.into_iter().map(Result::unwrap);
    let mut fails_for = async |seconds| {
        fails(&rig.api, &leases.next().unwrap(), minute(seconds)).await;
        millis(the_cooldown(&rig.api).await.until)
    };
    let first = fails_for(34).await;
    assert_eq!(fails_for(5).await, first, "a shorter one changes nothing");
    let third = fails_for(90).await;
    assert!((first + 56_000..first + 60_000).contains(&third), "{} later", third - first);
    let refusal = refused(&rig.api, only("a2", MODEL)).await;
    assert_eq!(refusal.retry_at, third, "the refusal tells the same instant");
}

/// Lets a lone project cool for the shortest time there is, and asks ten times at once when it is over:
/// the probe.
async fn probe_after_a_second(api: &Api) -> Lease {
    let lease = api.lease().await;
    fails(api, &lease, minute(1)).await;
    let cooldown = the_cooldown(api).await;
    let until = millis(cooldown.until);
    assert!(cooldown.ramp_until.is_none() && !cooldown.probing, "{cooldown:?}");
    let told = refused(api, ask(MODEL)).await;
    assert_eq!((told.retry_at, told.reason.as_str()), (until, "COOLING_DOWN"));
    let waiting = AcquireRequest { wait: Some(wire(Duration::from_secs(10))), ..ask(MODEL) };
    let probe = api.acquire(waiting).await.unwrap();
    assert!(now() >= until, "not before its end");
    probe
}

/// Nobody else gets a lease while a probe is out.
async fn probe_is_alone(api: &Api) {
    for answer in join_all((0..10).map(|_| api.acquire(ask(MODEL)))).await {
        let refusal = Refused::of(&answer.unwrap_err());
        assert_eq!(refusal.reason, "COOLING_DOWN");
        assert!(refusal.description.contains("one lease is out alone"), "{refusal:?}");
    }
    let cooldown = the_cooldown(api).await;
    assert!(cooldown.probing && cooldown.ramp_until.is_none(), "{cooldown:?}");
}

async fn a_cooldown_ends_with_one_probe_and_then_a_quarter_is_open(backing: Backing) {
    let rig = Rig::start(backing, ALONE).await;
    let probe = probe_after_a_second(&rig.api).await;
    probe_is_alone(&rig.api).await;
    let before = now();
    rig.api.report(succeeded(&probe.lease_id, 1)).await.unwrap();
    let after = now();
    let cooldown = the_cooldown(&rig.api).await;
    let ramp_until = millis(cooldown.ramp_until);
    assert!((before + 30_000..=after + 30_000).contains(&ramp_until), "two stages of 15 s");
    assert!(!cooldown.probing, "{cooldown:?}");
    // A quarter of 40: the one that failed, the probe, and eight more.
    for _ in 0..8 {
        rig.api.lease().await;
    }
    let refusal = refused(&rig.api, ask(MODEL)).await;
    refusal.is_of_limit("project alpha, model gemini-fake", "requests per minute");
    assert_eq!(refusal.retry_at, ramp_until - 15_000, "then half of it is open");
    // An operator need not wait for it.
    assert_eq!(reset(&rig.api, "pools/default", "").await.unwrap(), 1);
    assert_eq!(cooldowns(&rig.api).await, []);
    for _ in 0..30 {
        rig.api.lease().await;
    }
    refused(&rig.api, ask(MODEL))
        .await
        .is_of_limit("project alpha, model gemini-fake", "requests per minute");
}

async fn a_probe_that_fails_begins_anew_and_one_that_was_not_sent_is_sent_again(backing: Backing) {
    let rig = Rig::start(backing, ALONE).await;
    let probe = probe_after_a_second(&rig.api).await;
    rig.api.report(not_sent(&probe.lease_id)).await.unwrap();
    let probe = rig.api.lease().await;
    probe_is_alone(&rig.api).await;
    fails(&rig.api, &probe, minute(20)).await;
    let cooldown = the_cooldown(&rig.api).await;
    assert!(!cooldown.probing && cooldown.ramp_until.is_none(), "{cooldown:?}");
    assert!((now() + 18_000..=now() + 20_000).contains(&millis(cooldown.until)), "{cooldown:?}");
}

/// The answer to a reset by ann.
async fn reset(api: &Api, name: &str, quota_model: &str) -> Result<i32, Status> {
    let request = ResetCooldownsRequest { name: name.to_owned(), quota_model: quota_model.to_owned() };
    let mut request = Request::new(request);
    request.metadata_mut().insert("x-keybroker-actor", "ann".parse().unwrap());
    api.admin().reset_cooldowns(request).await.map(|answer| answer.into_inner().reset_count)
}

/// Cools key a1, its project for both models, its billing account, and project gamma for both models.
async fn cool_much(api: &Api) {
    let of_a1 = [api.acquire(only("a1", MODEL)).await, api.acquire(only("a1", MODEL)).await];
    let (for_key, for_model) = (of_a1[0].as_ref().unwrap(), of_a1[1].as_ref().unwrap());
    let for_other = api.acquire(only("a2", OTHER)).await.unwrap();
    let for_account = api.acquire(only("b1", MODEL)).await.unwrap();
    let of_gamma = [api.acquire(only("c1", MODEL)).await, api.acquire(only("c1", OTHER)).await];
    fails(api, for_key, bodies::leaked()).await;
    fails(api, for_model, minute(60)).await;
    fails(api, &for_other, bodies::retired_model(OTHER)).await;
    fails(api, &for_account, bodies::credits_depleted_429()).await;
    for lease in of_gamma {
        // A day, so that none of them ends by itself meanwhile.
        fails(api, &lease.unwrap(), bodies::retired_model(MODEL)).await;
    }
}

async fn an_operator_resets_a_pool_a_key_or_one_quota_model(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    cool_much(&rig.api).await;
    let gamma = ["project gamma, model gemini-fake", "project gamma, model gemini-other"];
    assert_eq!(reset(&rig.api, "pools/default", OTHER).await.unwrap(), 2);
    let left = ["billing account payer", "key a1", "project alpha, model gemini-fake", gamma[0]];
    assert_eq!(subjects(&rig.api).await, left);
    // What holds one key back: its own, its project's and its account's.
    assert_eq!(reset(&rig.api, "pools/default/keys/a1", MODEL).await.unwrap(), 1);
    assert_eq!(subjects(&rig.api).await, ["billing account payer", "key a1", gamma[0]]);
    assert_eq!(open(&rig.api, OTHER).await, ["c1"]);
    assert_eq!(reset(&rig.api, "pools/default/keys/a1", "").await.unwrap(), 2);
    assert_eq!(open(&rig.api, MODEL).await, ["a1", "a2", "b1"]);
    assert_eq!(reset(&rig.api, "pools/default", "").await.unwrap(), 1);
    assert_eq!(open(&rig.api, MODEL).await, KEYS);
    assert_eq!(reset(&rig.api, "pools/default", "").await.unwrap(), 0, "nothing is left");
}

async fn a_reset_reaches_what_other_brokers_cooled_and_is_recorded(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    cool_much(&rig.api).await;
    // One that was never asked for these models: beside it, or after a restart.
    let beside = match backing {
        Backing::Redis => Some(rig.beside("second.toml", CONFIG).await),
        Backing::Embedded => {
            rig.restart().await;
            None
        }
    };
    let api = beside.as_ref().map_or(&rig.api, |(_, api)| api).clone();
    assert_eq!(reset(&api, "pools/default", MODEL).await.unwrap(), 2);
    assert_eq!(reset(&api, "pools/default/keys/a1", "").await.unwrap(), 3);
    assert_eq!(reset(&api, "pools/default", "").await.unwrap(), 1);
    for model in [MODEL, OTHER] {
        assert!(eventually(async || open(&rig.api, model).await == KEYS).await, "{model}");
    }
    let request = ListAuditRecordsRequest { page_size: 10, page_token: String::new() };
    let records = api.admin().list_audit_records(request).await.unwrap().into_inner().records;
    let told: Vec<_> = records
        .iter()
        .map(|record| {
            assert_eq!((record.actor.as_str(), record.action.as_str()), ("ann", "ResetCooldowns"));
            (record.resource.as_str(), serde_json::from_str::<serde_json::Value>(&record.after_json).unwrap())
        })
        .collect();
    let ended =
        |count: i32, model: &str| serde_json::json!({ "cooldowns_ended": count, "quota_model": model });
    assert_eq!(
        told,
        [
            ("pools/default", ended(1, "")),
            ("pools/default/keys/a1", ended(3, "")),
            ("pools/default", ended(2, MODEL))
        ]
    );
}

async fn a_reset_of_what_is_not_there_is_refused_with_the_right_code(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    for (name, code, word) in [
        ("pools/nowhere", Code::NotFound, "nowhere"),
        ("pools/default/keys/nobody", Code::NotFound, "nobody"),
        ("pools/nowhere/keys/a1", Code::NotFound, "nowhere"),
        ("", Code::InvalidArgument, "pools/{pool}"),
        ("default", Code::InvalidArgument, "pools/{pool}"),
        ("pools/default/keys/", Code::InvalidArgument, "pools/{pool}/keys/{key}"),
    ] {
        let status = reset(&rig.api, name, "").await.unwrap_err();
        assert_eq!(status.code(), code, "{name}: {status:?}");
        assert!(status.message().contains(word), "{name}: {status:?}");
    }
    for model in ["two words", "a/b#c", "m\u{e9}"] {
        let status = reset(&rig.api, "pools/default", model).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{model}: {status:?}");
        assert!(status.message().contains("quota_model"), "{status:?}");
    }
    rig.still_serves().await;
}
