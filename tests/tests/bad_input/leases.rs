//! Leases that are not known, not ours, or over.

use std::time::Duration;

use keybroker_proto::v1::{AcquireRequest, SettleState, Signal, advice::Action};
use keybroker_tests::{
    harness::{
        api::{Details, MODEL, answered, ask, not_sent, succeeded, wire},
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};
use tonic::Code;

use super::CONFIG;

on_both_ledgers!(
    an_unknown_lease_is_said_to_be_unknown_and_changes_nothing,
    a_lease_of_another_pool_is_unknown_and_that_pool_keeps_its_own,
    a_lease_of_another_ledger_is_unknown,
    a_text_that_is_no_lease_id_is_refused_and_names_its_place,
    a_lease_reported_again_gets_the_same_advice_and_nothing_is_counted_twice,
    a_lease_that_has_ended_cannot_be_renewed,
    a_report_of_many_says_of_each_what_became_of_it,
);

/// The id of a lease that could exist and does not.
fn never_granted(lease_id: &str) -> String {
    let (rest, _) = lease_id.rsplit_once(':').expect("the last part of an id is the lease's own");
    format!("{rest}:0123456789abcdef-0")
}

async fn an_unknown_lease_is_said_to_be_unknown_and_changes_nothing(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let unknown = never_granted(&rig.api.lease().await.lease_id);
    for report in [succeeded(&unknown, 5), not_sent(&unknown), answered(&unknown, 403, "reported as leaked")]
    {
        let result = rig.api.report(report).await.expect("a report is answered");
        assert_eq!(result.state(), SettleState::UnknownLease);
        assert_eq!(result.lease_id, unknown);
        assert!(result.advice.is_some_and(|advice| advice.message.contains("no such lease is known")));
    }
    let status = rig.api.renew(&unknown, wire(Duration::from_secs(60))).await.expect_err("there is no lease");
    assert_eq!((status.code(), Details::of(&status).reason.as_str()), (Code::NotFound, "UNKNOWN_LEASE_ID"));
    assert_eq!(rig.api.used("alpha", "requests per minute").await, 1);
    assert!(rig.api.inspect().await.cooldowns.is_empty());
    rig.still_serves().await;
}

async fn a_lease_of_another_pool_is_unknown_and_that_pool_keeps_its_own(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let lease = rig.api.lease().await;
    for pool in ["batch", "nowhere"] {
        let foreign = lease.lease_id.replacen("default", pool, 1);
        let result = rig.api.report(not_sent(&foreign)).await.expect("a report is answered");
        assert_eq!(result.state(), SettleState::UnknownLease, "{pool}");
        let status =
            rig.api.renew(&foreign, wire(Duration::from_secs(60))).await.expect_err("there is no lease");
        assert_eq!(Details::of(&status).reason, "UNKNOWN_LEASE_ID", "{pool}");
    }
    let result = rig.api.report(not_sent(&lease.lease_id)).await.expect("the lease itself is untouched");
    assert_eq!(result.state(), SettleState::Settled);
    rig.still_serves().await;
}

async fn a_lease_of_another_ledger_is_unknown(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let other = Rig::start(backing, CONFIG).await;
    let foreign = other.api.lease().await.lease_id;
    let result = rig.api.report(not_sent(&foreign)).await.expect("a report is answered");
    assert_eq!(result.state(), SettleState::UnknownLease);
    assert_eq!(other.api.used("alpha", "requests per minute").await, 1, "its own ledger still counts it");
    rig.still_serves().await;
}

async fn a_text_that_is_no_lease_id_is_refused_and_names_its_place(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let lease = rig.api.lease().await;
    for garbage in ["", "garbage", "::", "default:x/y:\u{0}", "default:x/\u{e9}:1", &"a:".repeat(4000)] {
        let reports = vec![not_sent(&lease.lease_id), not_sent(garbage)];
        let status = rig.api.report_all(reports).await.expect_err("one of them cannot be read");
        assert_eq!(status.code(), Code::InvalidArgument, "{garbage}: {status:?}");
        assert_eq!(Details::of(&status).field_names(), ["reports[1].lease_id"]);
        let status =
            rig.api.renew(garbage, wire(Duration::from_secs(60))).await.expect_err("it cannot be read");
        assert_eq!(Details::of(&status).field_names(), ["lease_id"]);
        let request = AcquireRequest { settle: Some(not_sent(garbage)), ..ask(MODEL) };
        let status = rig.api.acquire(request).await.expect_err("it cannot be read");
        assert_eq!(Details::of(&status).field_names(), ["settle.lease_id"]);
    }
    // What came in the same call as the garbage was not settled, so nothing of it is lost.
    let result = rig.api.report(not_sent(&lease.lease_id)).await.expect("a report is answered");
    assert_eq!(result.state(), SettleState::Settled);
    let status = rig.api.report_all(Vec::new()).await.expect_err("there is nothing to report");
    assert_eq!(Details::of(&status).field_names(), ["reports"]);
    rig.still_serves().await;
}

async fn a_lease_reported_again_gets_the_same_advice_and_nothing_is_counted_twice(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let used = "input tokens per minute";
    let granted =
        rig.api.acquire(AcquireRequest { input_tokens: 100, ..ask(MODEL) }).await.expect("a lease is free");
    let first = rig.api.report(succeeded(&granted.lease_id, 40)).await.expect("a report is answered");
    assert_eq!(first.state(), SettleState::Settled);
    assert_eq!(rig.api.used("alpha", used).await, 40);
    // Whatever is said the second time, the first report stands.
    for again in [
        succeeded(&granted.lease_id, 90),
        not_sent(&granted.lease_id),
        answered(&granted.lease_id, 403, "reported as leaked"),
    ] {
        let result = rig.api.report(again).await.expect("a report is answered");
        assert_eq!(result.state(), SettleState::AlreadySettled);
        let advice = result.advice.expect("there is advice");
        assert_eq!((advice.action(), advice.signal(), advice.retry_after), (Action::Done, Signal::Ok, None));
    }
    assert_eq!(rig.api.used("alpha", used).await, 40);
    assert_eq!(rig.api.used("alpha", "requests per minute").await, 1);

    let granted = rig.api.lease().await;
    let fault = || answered(&granted.lease_id, 503, r#"{"error":{"code":503,"message":"overloaded"}}"#);
    let first = rig.api.report(fault()).await.expect("a report is answered").advice.expect("there is advice");
    let again = rig.api.report(fault()).await.expect("a report is answered");
    assert_eq!(again.state(), SettleState::AlreadySettled);
    let again = again.advice.expect("there is advice");
    assert_eq!(
        (again.action(), again.signal(), again.retry_after),
        (first.action(), first.signal(), first.retry_after)
    );
    assert_eq!((first.action(), first.signal()), (Action::RetryAfter, Signal::ModelOverloaded));
    rig.still_serves().await;
}

async fn a_lease_that_has_ended_cannot_be_renewed(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let lease = rig.api.lease().await;
    rig.api.report(succeeded(&lease.lease_id, 1)).await.expect("a report is answered");
    let status =
        rig.api.renew(&lease.lease_id, wire(Duration::from_secs(60))).await.expect_err("it was reported");
    assert_eq!(
        (status.code(), Details::of(&status).reason.as_str()),
        (Code::FailedPrecondition, "LEASE_ENDED")
    );
    rig.still_serves().await;
}

async fn a_report_of_many_says_of_each_what_became_of_it(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let (open, settled) = (rig.api.lease().await.lease_id, rig.api.lease().await.lease_id);
    rig.api.report(succeeded(&settled, 1)).await.expect("a report is answered");
    let unknown = never_granted(&open);
    let reports = vec![not_sent(&unknown), succeeded(&settled, 1), succeeded(&open, 1)];
    let results = rig.api.report_all(reports).await.expect("a report is answered");
    let states: Vec<_> = results.iter().map(|result| (result.lease_id.clone(), result.state())).collect();
    let expected = [
        (unknown, SettleState::UnknownLease),
        (settled, SettleState::AlreadySettled),
        (open, SettleState::Settled),
    ];
    assert_eq!(states, expected);
    rig.still_serves().await;
}
