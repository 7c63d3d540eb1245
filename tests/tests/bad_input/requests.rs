//! A request that cannot be served is refused with the right code, the field and the fix.

use std::time::Duration;

use keybroker_proto::v1::{AcquireRequest, Constraints};
use keybroker_tests::{
    harness::{
        api::{Api, Details, MODEL, ask, not_sent, wire},
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};
use tonic::Code;

use super::CONFIG;

/// The details of the refusal of a request for a wrong field.
async fn invalid(api: &Api, request: AcquireRequest) -> Details {
    let status = api.acquire(request).await.expect_err("it is refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = Details::of(&status);
    assert_eq!(details.reason, "INVALID_FIELD");
    for (field, wrong) in &details.fields {
        assert!(!wrong.is_empty(), "{field} is named without a fix");
        assert!(status.message().contains(field), "the message names {field} too: {status:?}");
    }
    details
}

#[tokio::test]
async fn an_unknown_pool_is_not_found_and_the_pools_there_are_are_named() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    let status =
        rig.api.acquire(AcquireRequest { pool: "bach".to_owned(), ..ask(MODEL) }).await.expect_err("no pool");
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    assert_eq!(Details::of(&status).reason, "UNKNOWN_POOL");
    for name in ["\"bach\"", "batch", "default"] {
        assert!(status.message().contains(name), "{name}: {}", status.message());
    }
    let status = rig.api.try_inspect("bach").await.expect_err("no pool");
    assert_eq!((status.code(), Details::of(&status).reason.as_str()), (Code::NotFound, "UNKNOWN_POOL"));
    rig.still_serves().await;
}

#[tokio::test]
async fn an_empty_model_is_refused_with_an_example_of_one() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    for model in ["", "models/"] {
        let details = invalid(&rig.api, ask(model)).await;
        assert_eq!(details.field_names(), ["model"]);
        assert!(details.fields[0].1.contains("gemini"), "{details:?}");
    }
    for model in ["two words", "gemini\u{e9}", "a#b", &"m".repeat(129)] {
        assert_eq!(invalid(&rig.api, ask(model)).await.field_names(), ["model"], "{model}");
    }
    rig.still_serves().await;
}

#[tokio::test]
async fn permits_of_zero_below_it_and_beyond_the_most_are_refused() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    for permits in [0, -1, 1001, i32::MAX, i32::MIN] {
        let details = invalid(&rig.api, AcquireRequest { permits: Some(permits), ..ask(MODEL) }).await;
        assert_eq!(details.field_names(), ["permits"]);
        assert!(details.fields[0].1.contains("1 to 1000"), "{details:?}");
    }
    assert_eq!(rig.api.used("alpha", "requests per minute").await, 0, "a refusal charges nothing");
    rig.still_serves().await;
}

#[tokio::test]
async fn a_ttl_of_zero_below_it_and_beyond_the_most_is_refused() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    let lease = rig.api.lease().await;
    for (seconds, nanos) in
        [(0, 0), (0, 999_999_999), (-1, 0), (-5, 7), (3600, 1), (i64::MAX, 0), (i64::MIN, 0), (5, -1)]
    {
        let ttl = prost_types::Duration { seconds, nanos };
        let details = invalid(&rig.api, AcquireRequest { ttl: Some(ttl), ..ask(MODEL) }).await;
        assert_eq!(details.field_names(), ["ttl"], "{ttl:?}");
        assert!(details.fields[0].1.contains("1s to 3600s"), "{details:?}");
        let status = rig.api.renew(&lease.lease_id, ttl).await.expect_err("the same holds for Renew");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(Details::of(&status).field_names(), ["ttl"]);
    }
    rig.still_serves().await;
}

#[tokio::test]
async fn tokens_waits_labels_and_tiers_out_of_range_are_refused() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    for input_tokens in [-1, i64::MIN, i64::MAX] {
        let details = invalid(&rig.api, AcquireRequest { input_tokens, ..ask(MODEL) }).await;
        assert_eq!(details.field_names(), ["input_tokens"]);
    }
    for seconds in [-1, 601, i64::MAX] {
        let wait = prost_types::Duration { seconds, nanos: 0 };
        let details = invalid(&rig.api, AcquireRequest { wait: Some(wait), ..ask(MODEL) }).await;
        assert_eq!(details.field_names(), ["wait"]);
    }
    for (name, value) in
        [("n".repeat(64), String::new()), ("n".to_owned(), "v".repeat(257)), (String::new(), String::new())]
    {
        let request = AcquireRequest { labels: [(name, value)].into(), ..ask(MODEL) };
        assert_eq!(invalid(&rig.api, request).await.field_names(), ["labels"]);
    }
    let many = (0..17).map(|number| (format!("label-{number}"), String::new())).collect();
    assert_eq!(
        invalid(&rig.api, AcquireRequest { labels: many, ..ask(MODEL) }).await.field_names(),
        ["labels"]
    );
    let constraints = Constraints {
        tier: 7,
        exclude_key_ids: vec!["k".to_owned(); 257],
        exclude_projects: vec!["p".to_owned(); 257],
        ..Constraints::default()
    };
    let details = invalid(&rig.api, AcquireRequest { constraints: Some(constraints), ..ask(MODEL) }).await;
    let mut fields = details.field_names();
    fields.sort_unstable();
    assert_eq!(fields, ["constraints.exclude_key_ids", "constraints.exclude_projects", "constraints.tier"]);
    rig.still_serves().await;
}

#[tokio::test]
async fn output_tokens_key_labels_and_consumers_out_of_range_are_refused() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    for output_tokens in [-1, i64::MIN, 1_000_000_000_001, i64::MAX] {
        let details = invalid(&rig.api, AcquireRequest { output_tokens, ..ask(MODEL) }).await;
        assert_eq!(details.field_names(), ["output_tokens"]);
    }
    let many = (0..17).map(|number| (format!("label-{number}"), String::new())).collect();
    for labels in [
        [(String::new(), String::new())].into(),
        [("n".repeat(64), String::new())].into(),
        [("n".to_owned(), "v".repeat(257))].into(),
        many,
    ] {
        let constraints = Some(Constraints { labels, ..Constraints::default() });
        let details = invalid(&rig.api, AcquireRequest { constraints, ..ask(MODEL) }).await;
        assert_eq!(details.field_names(), ["constraints.labels"]);
    }
    for consumer in
        ["two words", " ", "tab\there", "line\n", "caf\u{e9}", "unit\u{1f}mark", "nul\0", &"c".repeat(129)]
    {
        let details = invalid(&rig.api, AcquireRequest { consumer: consumer.to_owned(), ..ask(MODEL) }).await;
        assert_eq!(details.field_names(), ["consumer"], "{consumer:?}");
        assert!(details.fields[0].1.contains("1 to 128 visible ASCII characters"), "{details:?}");
    }
    for consumer in ["", "ann@example.com", "team/a#1", &"c".repeat(128)] {
        let request = AcquireRequest { consumer: consumer.to_owned(), ..ask(MODEL) };
        let lease = rig.api.acquire(request).await.expect("these are consumers");
        rig.api.report(not_sent(&lease.lease_id)).await.expect("a lease can be given back");
    }
    rig.still_serves().await;
}

#[tokio::test]
async fn names_in_constraints_that_no_id_can_be_are_refused() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    let long = || "x".repeat(100_000);
    let constraints = Constraints {
        project: long(),
        exclude_key_ids: vec!["a1".to_owned(), long()],
        exclude_projects: vec![long()],
        ..Constraints::default()
    };
    let details = invalid(&rig.api, AcquireRequest { constraints: Some(constraints), ..ask(MODEL) }).await;
    let mut fields = details.field_names();
    fields.sort_unstable();
    let expected = ["constraints.exclude_key_ids", "constraints.exclude_projects", "constraints.project"];
    assert_eq!(fields, expected);
    rig.still_serves().await;
}

#[tokio::test]
async fn several_wrong_fields_are_all_named_at_once() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    let request = AcquireRequest {
        model: String::new(),
        input_tokens: -5,
        permits: Some(0),
        ttl: Some(wire(Duration::ZERO)),
        wait: Some(wire(Duration::from_secs(6000))),
        consumer: "c".repeat(129),
        ..AcquireRequest::default()
    };
    let details = invalid(&rig.api, request).await;
    let mut fields = details.field_names();
    fields.sort_unstable();
    assert_eq!(fields, ["consumer", "input_tokens", "model", "permits", "ttl", "wait"]);
    rig.still_serves().await;
}

#[tokio::test]
async fn a_wrong_field_of_the_request_and_one_of_its_settle_are_named_at_once() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    let request = AcquireRequest { permits: Some(0), settle: Some(not_sent("garbage")), ..ask(MODEL) };
    assert_eq!(invalid(&rig.api, request).await.field_names(), ["permits", "settle.lease_id"]);
    rig.still_serves().await;
}

#[tokio::test]
async fn a_refused_request_does_not_settle_the_lease_that_came_with_it() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    let lease = rig.api.lease().await;
    let wrong = AcquireRequest { permits: Some(0), settle: Some(not_sent(&lease.lease_id)), ..ask(MODEL) };
    invalid(&rig.api, wrong).await;
    assert_eq!(rig.api.used("alpha", "requests per minute").await, 1);
    let result = rig.api.report(not_sent(&lease.lease_id)).await.expect("the lease is still open");
    assert_eq!(result.state(), keybroker_proto::v1::SettleState::Settled);
    rig.still_serves().await;
}

/// 1,000 input tokens a minute, and a request that says it has more.
async fn a_request_above_the_limit_is_told_never_and_not_later(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    for (request, named) in [
        (AcquireRequest { input_tokens: 1001, ..ask("gemini-small") }, "input tokens per minute"),
        (
            AcquireRequest { input_tokens: 1_000_000_000_000, ..ask("gemini-small") },
            "input tokens per minute",
        ),
        (AcquireRequest { permits: Some(101), ..ask(MODEL) }, "requests per minute"),
        // Waiting cannot help, so the call does not wait.
        (
            AcquireRequest {
                input_tokens: 1001,
                wait: Some(wire(Duration::from_secs(600))),
                ..ask("gemini-small")
            },
            "input tokens per minute",
        ),
    ] {
        let status = rig.api.acquire(request).await.expect_err("it never fits");
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        let details = Details::of(&status);
        assert_eq!(details.reason, "REQUEST_EXCEEDS_LIMIT");
        assert_eq!(details.retry_after, None, "there is no instant at which it fits");
        assert!(
            status.message().contains(named) && status.message().contains("never"),
            "{}",
            status.message()
        );
        assert!(!status.message().contains("can be given in"), "{}", status.message());
        assert_eq!(details.spent.len(), 1, "{details:?}");
    }
    let fits = rig.api.acquire(AcquireRequest { input_tokens: 1000, ..ask("gemini-small") }).await;
    assert!(fits.is_ok(), "what just fits is granted: {fits:?}");
    rig.still_serves().await;
}

on_both_ledgers!(a_request_above_the_limit_is_told_never_and_not_later);
