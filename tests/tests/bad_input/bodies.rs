//! Error bodies as the world sends them: huge, torn, and in no encoding.

use keybroker_proto::v1::{SettleState, Signal, lease_report::Outcome, transport_error::Kind};
use keybroker_tests::{
    harness::{
        api::{Details, answered, reported},
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};
use tonic::Code;

use super::CONFIG;

on_both_ledgers!(
    an_error_body_of_a_mebibyte_is_read_as_far_as_it_matters,
    invalid_utf_8_in_an_error_body_does_not_hide_what_it_says,
    a_body_of_random_bytes_penalises_nobody,
    a_report_too_large_to_be_read_leaves_its_lease_open,
    a_report_without_an_outcome_or_with_a_wrong_status_is_refused,
);

const MEBIBYTE: usize = 1 << 20;
const MINUTE: &[u8] = br#""details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaValue":"5"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"7s"}]"#;

/// A 429 for the minute with these bytes in its message.
fn minute_429(message: &[u8]) -> Vec<u8> {
    [
        br#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","#,
        MINUTE,
        br#","message":""#,
        message,
        br#""}}"#,
    ]
    .concat()
}

async fn signal_of(rig: &Rig, status: i32, body: Vec<u8>) -> Signal {
    let lease =
        rig.api.acquire(keybroker_tests::harness::api::ask("gemini-body")).await.expect("a lease is free");
    let result =
        rig.api.report(answered(&lease.lease_id, status, body)).await.expect("the report is answered");
    assert_eq!(result.state(), SettleState::Settled);
    result.advice.expect("there is advice").signal()
}

async fn an_error_body_of_a_mebibyte_is_read_as_far_as_it_matters(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    // What rules stands at the front, the ballast behind it is cut.
    assert_eq!(signal_of(&rig, 429, minute_429(&vec![b'x'; MEBIBYTE])).await, Signal::MinuteQuota);
    let cooldowns = rig.api.inspect().await.cooldowns;
    assert_eq!(cooldowns.len(), 1, "{cooldowns:?}");
    assert_eq!(cooldowns[0].subject, "project alpha, model gemini-body");
    rig.still_serves().await;
}

async fn invalid_utf_8_in_an_error_body_does_not_hide_what_it_says(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    assert_eq!(signal_of(&rig, 429, minute_429(b"\xff\xfe\xc3 no text \x80")).await, Signal::MinuteQuota);
    rig.still_serves().await;
}

async fn a_body_of_random_bytes_penalises_nobody(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let noise: Vec<u8> = (0..MEBIBYTE).map(|_| rand::random()).collect();
    for (status, signal) in
        [(400, Signal::RequestFault), (500, Signal::ServerFault), (503, Signal::ModelOverloaded)]
    {
        assert_eq!(signal_of(&rig, status, noise.clone()).await, signal);
    }
    assert!(rig.api.inspect().await.cooldowns.is_empty());
    rig.still_serves().await;
}

async fn a_report_too_large_to_be_read_leaves_its_lease_open(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let lease = rig.api.lease().await;
    let status = rig.api.report(answered(&lease.lease_id, 500, vec![b'x'; 16 * MEBIBYTE])).await;
    let status = status.expect_err("16 MiB are not read");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    let result =
        rig.api.report(answered(&lease.lease_id, 500, "short")).await.expect("the report is answered");
    assert_eq!(result.state(), SettleState::Settled);
    rig.still_serves().await;
}

async fn a_report_without_an_outcome_or_with_a_wrong_status_is_refused(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let id = rig.api.lease().await.lease_id;
    let silent = keybroker_proto::v1::TransportError { kind: Kind::Unspecified.into(), ..Default::default() };
    let mut nothing = answered(&id, 500, "");
    nothing.outcome = None;
    for (report, field) in [
        (nothing, "reports[0]"),
        (answered(&id, 0, ""), "reports[0].http_error.status"),
        (answered(&id, 600, ""), "reports[0].http_error.status"),
        (answered(&id, -200, ""), "reports[0].http_error.status"),
        (reported(&id, Outcome::TransportError(silent)), "reports[0].transport_error.kind"),
    ] {
        let status = rig.api.report(report).await.expect_err("it is refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(Details::of(&status).field_names(), [field]);
    }
    let result = rig.api.report(answered(&id, 500, "")).await.expect("the lease is still open");
    assert_eq!(result.state(), SettleState::Settled);
    rig.still_serves().await;
}
