//! How a pool stands, told by real brokers on both ledgers: used, limit, left, in flight, cooldowns, health,
//! learned limits, when one more fits and when it runs out.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::time::Duration;

use keybroker_proto::v1::{
    AcquireRequest, DisableKeyRequest, InspectPoolResponse, KeyStatus, LimitStatus, Tier,
};
use keybroker_tests::{
    fake_gemini::{bodies, quota_id::Violation},
    harness::{
        api::{Api, Details, MODEL, answered, ask, not_sent, succeeded},
        refused::{now, refused},
        rig::{Backing, Rig, eventually},
    },
    on_both_ledgers,
};
use tonic::Code;

on_both_ledgers!(
    requests_in_flight_are_counted_for_every_project_and_model_limited_or_not,
    each_limit_shows_what_is_used_and_left_and_when_one_more_fits,
    what_is_used_is_foretold_to_run_out_at_the_present_rate,
    the_largest_limits_and_requests_are_shown_without_harm,
    keys_show_their_tier_their_health_and_whether_they_are_available,
    cooldowns_show_whom_why_and_until_when,
    a_pool_is_shown_alike_by_all_brokers_and_after_a_restart,
    an_unknown_pool_is_named_with_those_there_are,
);

const CONFIG: &str = r#"
[[pools]]
totals = { in_flight = 50 }
[[projects]]
id = "alpha"
tier = "free"
billing_account = "payer"
limits = [ { requests_per_minute = 20, requests_per_day = 12, input_tokens_per_minute = 1000 } ]
keys = [ { id = "a1", secret = "test-key-view-a1", limits = [ { requests_per_10_minutes = 15 } ] } ]
[[projects]]
id = "beta"
tier = "paid"
keys = [ { id = "b1", secret = "test-key-view-b1" } ]
[[projects]]
id = "gamma"
keys = [ { id = "c1", secret = "test-key-view-c1" } ]
[[pools]]
name = "huge"
[[projects]]
id = "delta"
pool = "huge"
limits = [ { input_tokens_per_day = 1000000000000, total_tokens_per_month = 1000000000000 } ]
keys = [ { id = "d1", secret = "test-key-view-d1" } ]
"#;

fn of(project: &str) -> AcquireRequest {
    let constraints = keybroker_proto::v1::Constraints { project: project.to_owned(), ..Default::default() };
    AcquireRequest { constraints: Some(constraints), ..ask(MODEL) }
}

fn found(view: &InspectPoolResponse, subject: &str, name: &str) -> LimitStatus {
    let is_it = |limit: &&LimitStatus| (limit.subject.as_str(), limit.limit_name.as_str()) == (subject, name);
    view.limits.iter().find(is_it).unwrap_or_else(|| panic!("no {name} of {subject}: {view:#?}")).clone()
}

async fn limit(api: &Api, subject: &str, name: &str) -> LimitStatus {
    found(&api.inspect().await, subject, name)
}

fn millis(at: Option<prost_types::Timestamp>) -> Option<i64> {
    at.map(|at| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000)
}

const ALPHA: &str = "project alpha, model gemini-fake";
const BETA: &str = "project beta, model gemini-fake";

async fn requests_in_flight_are_counted_for_every_project_and_model_limited_or_not(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    let in_flight = async |subject: &str| limit(&rig.api, subject, "requests in flight").await.used;
    let first = rig.api.acquire(of("beta")).await.unwrap();
    let batch = rig.api.acquire(AcquireRequest { permits: Some(4), ..of("beta") }).await.unwrap();
    let other =
        rig.api.acquire(AcquireRequest { model: "gemini-other".to_owned(), ..of("beta") }).await.unwrap();
    assert_eq!((in_flight(BETA).await, in_flight("project beta, model gemini-other").await), (5, 1));
    let unlimited = limit(&rig.api, BETA, "requests in flight").await;
    assert_eq!((unlimited.limit, unlimited.left, unlimited.next_free), (None, None, None));
    let whole = limit(&rig.api, "pool default", "requests in flight").await;
    assert_eq!((whole.used, whole.limit, whole.left), (6, Some(50), Some(44)));
    rig.api.report(succeeded(&first.lease_id, 1)).await.unwrap();
    rig.api.report(not_sent(&batch.lease_id)).await.unwrap();
    rig.api.report(answered(&other.lease_id, 500, "")).await.unwrap();
    assert_eq!((in_flight(BETA).await, in_flight("project beta, model gemini-other").await), (0, 0));
    assert_eq!(limit(&rig.api, "pool default", "requests in flight").await.left, Some(50));
}

async fn each_limit_shows_what_is_used_and_left_and_when_one_more_fits(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    for _ in 0..12 {
        rig.api.acquire(AcquireRequest { input_tokens: 40, ..of("alpha") }).await.unwrap();
    }
    let refusal = refused(&rig.api, of("alpha")).await;
    let view = rig.api.inspect().await;
    for (subject, name, used, limit) in [
        (ALPHA, "requests per minute", 12, 20),
        (ALPHA, "input tokens per minute", 480, 1000),
        (ALPHA, "requests per Pacific day", 12, 12),
        ("key a1, model gemini-fake", "requests per 10 minutes", 12, 15),
    ] {
        let status = found(&view, subject, name);
        assert_eq!(
            (status.used, status.limit, status.left),
            (used, Some(limit), Some(limit - used)),
            "{name}"
        );
        assert_eq!((status.configured_limit, status.learned_limit), (Some(limit), None), "{name}");
        let project = if subject == ALPHA { "alpha" } else { "" };
        assert_eq!((status.project.as_str(), status.quota_model.as_str()), (project, MODEL), "{name}");
        let full = used == limit;
        let next_free = if full { refusal.retry_at } else { millis(view.now).unwrap() };
        assert_eq!(millis(status.next_free), Some(next_free), "{name}");
    }
}

async fn what_is_used_is_foretold_to_run_out_at_the_present_rate(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    assert!(
        rig.api.inspect().await.limits.iter().all(|limit| limit.exhausted_at.is_none()),
        "nothing is used"
    );
    for _ in 0..10 {
        rig.api.acquire(of("alpha")).await.unwrap();
    }
    let view = rig.api.inspect().await;
    let now = millis(view.now).unwrap();
    // Ten in the last minute, and two or five are left.
    let day = found(&view, ALPHA, "requests per Pacific day");
    assert_eq!(millis(day.exhausted_at), Some(now + 12_000));
    assert_eq!(
        millis(found(&view, ALPHA, "requests per minute").exhausted_at),
        None,
        "20 a minute are not reached"
    );
    assert_eq!(millis(found(&view, ALPHA, "input tokens per minute").exhausted_at), None);
    assert_eq!(millis(found(&view, BETA, "requests per Pacific day").exhausted_at), None, "it has no limit");
    rig.api.acquire(AcquireRequest { permits: Some(2), ..of("alpha") }).await.unwrap();
    let view = rig.api.inspect().await;
    let day = found(&view, ALPHA, "requests per Pacific day");
    assert_eq!(millis(day.exhausted_at), millis(view.now), "it is exhausted now");
}

async fn the_largest_limits_and_requests_are_shown_without_harm(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let huge = |input_tokens, output_tokens| AcquireRequest {
        pool: "huge".to_owned(),
        input_tokens,
        output_tokens,
        ..ask(MODEL)
    };
    let view = async || rig.api.try_inspect("huge").await.unwrap();
    let subject = "project delta, model gemini-fake";
    rig.api.acquire(huge(1, 0)).await.unwrap();
    let day = found(&view().await, subject, "input tokens per Pacific day");
    assert_eq!((day.left, day.exhausted_at), (Some(999_999_999_999), None), "not before the day is over");
    let lease = rig.api.acquire(huge(999_999_999_999, 0)).await.unwrap();
    let full = view().await;
    let day = found(&full, subject, "input tokens per Pacific day");
    assert_eq!((day.used, day.left), (1_000_000_000_000, Some(0)));
    assert_eq!(millis(day.exhausted_at), millis(full.now));
    // More than the limit, by the report: nothing overflows, and what is left is nought.
    rig.api.report(succeeded(&lease.lease_id, 1_000_000_000_000)).await.unwrap();
    let day = found(&view().await, subject, "input tokens per Pacific day");
    assert_eq!((day.used, day.left), (1_000_000_000_001, Some(0)));
    rig.still_serves().await;
}

async fn keys_show_their_tier_their_health_and_whether_they_are_available(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    let key = |key_id: &str, project: &str, tier: Tier, available, health| KeyStatus {
        key_id: key_id.to_owned(),
        project: project.to_owned(),
        tier: tier.into(),
        available,
        health,
        cooling: !available,
        ..KeyStatus::default()
    };
    let fails = async |project: &str, body: bodies::ErrorBody| {
        let lease = rig.api.acquire(of(project)).await.unwrap();
        rig.api.report(answered(&lease.lease_id, i32::from(body.status), body.text)).await.unwrap();
    };
    fails("alpha", bodies::invalid_key()).await;
    fails("beta", bodies::caller_forbidden()).await;
    let lease = rig.api.acquire(of("beta")).await.unwrap();
    rig.api.report(succeeded(&lease.lease_id, 1)).await.unwrap();
    fails("gamma", bodies::spending_cap_429()).await;
    // When they come back is told of cooldowns as well.
    let untimed = |key| KeyStatus { cooling_until: None, cooling_since: None, ..key };
    let keys: Vec<KeyStatus> = rig.api.inspect().await.keys.into_iter().map(untimed).collect();
    let expected = [
        key("a1", "alpha", Tier::Free, false, 80),
        key("b1", "beta", Tier::Paid, true, 85),
        key("c1", "gamma", Tier::Unspecified, false, 100),
    ];
    assert_eq!(keys, expected, "a cap is no fault of the key's");
}

async fn cooldowns_show_whom_why_and_until_when(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    let before = now();
    for (project, body) in [("alpha", bodies::leaked()), ("beta", minute_of(7, 30))] {
        let lease = rig.api.acquire(of(project)).await.unwrap();
        rig.api.report(answered(&lease.lease_id, i32::from(body.status), body.text)).await.unwrap();
    }
    let after = now();
    let view = rig.api.inspect().await;
    let mut cooldowns = view.cooldowns.clone();
    cooldowns.sort_by(|a, b| a.subject.cmp(&b.subject));
    let told: Vec<_> =
        cooldowns.iter().map(|cooldown| (cooldown.subject.as_str(), cooldown.reason.as_str())).collect();
    assert_eq!(told, [("key a1", "key_leaked"), (BETA, "minute_quota")]);
    assert_eq!(cooldowns[0].until, None, "until an operator acts");
    assert!((before + 30_000..=after + 30_000).contains(&millis(cooldowns[1].until).unwrap()));
    assert!(cooldowns.iter().all(|cooldown| !cooldown.probing && cooldown.ramp_until.is_none()));
    // What Google named is shown beside what is configured.
    let learned = found(&view, BETA, "requests per minute");
    let limits = (learned.limit, learned.configured_limit, learned.learned_limit, learned.left);
    assert_eq!(limits, (Some(7), None, Some(7), Some(6)));
}

/// A quota of so many requests per minute is spent, for so long.
fn minute_of(value: u64, seconds: u64) -> bodies::ErrorBody {
    let violation = Violation {
        metric: "generativelanguage.googleapis.com/fake".to_owned(),
        quota_id: "GenerateRequestsPerMinutePerProjectPerModel-FreeTier".to_owned(),
        model: MODEL.to_owned(),
        value,
        daily: false,
    };
    bodies::quota_429(&[violation], Duration::from_secs(seconds))
}

async fn a_pool_is_shown_alike_by_all_brokers_and_after_a_restart(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    for _ in 0..5 {
        rig.api.acquire(of("alpha")).await.unwrap();
    }
    let beside = if backing == Backing::Redis { Some(rig.beside("second.toml", CONFIG).await) } else { None };
    if beside.is_none() {
        rig.restart().await;
    }
    let api = beside.as_ref().map_or(&rig.api, |(_, api)| api).clone();
    // A broker shows the models that it was asked for.
    let lease = api.acquire(of("alpha")).await.unwrap();
    api.report(not_sent(&lease.lease_id)).await.unwrap();
    let view = api.inspect().await;
    assert_eq!(found(&view, ALPHA, "requests per Pacific day").used, 5);
    assert_eq!(found(&view, ALPHA, "requests in flight").used, 5);
    assert_eq!(view.counters.unwrap().granted, 1, "counters are the broker's own");

    let name = "pools/default/keys/b1".to_owned();
    api.admin().disable_key(DisableKeyRequest { name, ..Default::default() }).await.unwrap();
    let is_left_out = async || !api.inspect().await.keys.iter().any(|key| key.key_id == "b1");
    assert!(eventually(is_left_out).await);
    let view = api.inspect().await;
    assert_eq!(found(&view, ALPHA, "requests in flight").used, 5, "a new catalogue was asked for as much");
}

async fn an_unknown_pool_is_named_with_those_there_are(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    for pool in ["nowhere", "Default", "pools/default"] {
        let status = rig.api.try_inspect(pool).await.unwrap_err();
        assert_eq!((status.code(), Details::of(&status).reason.as_str()), (Code::NotFound, "UNKNOWN_POOL"));
        for word in [pool, "default", "huge"] {
            assert!(status.message().contains(word), "{word}: {}", status.message());
        }
    }
    rig.still_serves().await;
}
