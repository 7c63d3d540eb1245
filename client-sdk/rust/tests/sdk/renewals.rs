//! Renewals.

use std::time::Duration;

use keybroker_client::{AcquireOptions, Error, ErrorReason, Lease};
use tonic::{Code, Status};
use tonic_types::ErrorDetails;

use crate::broker::{Grant, MockBroker};

async fn lease_of(mock: &MockBroker, expires_in: Duration) -> Lease {
    mock.will_grant([Grant::Lease {
        delay: Duration::ZERO,
        send_within: Duration::from_secs(5),
        expires_in,
    }]);
    mock.client().acquire(AcquireOptions::new("gemini-2.5-flash")).await.expect("the mock grants")
}

fn ended() -> Status {
    match Grant::failed(Code::FailedPrecondition, ErrorReason::LeaseEnded, ErrorDetails::new()) {
        Grant::Refuse(status) => status,
        Grant::Lease { .. } => unreachable!("a failure is no lease"),
    }
}

#[tokio::test]
async fn a_renewal_extends_and_never_shortens() {
    let mock = MockBroker::start().await;
    let lease = lease_of(&mock, Duration::from_secs(2)).await;
    assert!(lease.renew(Duration::from_secs(30)).await.unwrap() > Duration::from_secs(29));
    assert!(lease.renew(Duration::from_secs(5)).await.unwrap() > Duration::from_secs(29));
    assert!(lease.expires_in() > Duration::from_secs(29));
}

#[tokio::test]
async fn a_lease_that_has_ended_cannot_be_renewed() {
    let mock = MockBroker::start().await;
    let lease = lease_of(&mock, Duration::from_secs(2)).await;
    mock.script().renew_failures.push_back(ended());
    assert!(matches!(lease.renew(Duration::from_secs(30)).await, Err(Error::LeaseEnded { .. })));
}

#[tokio::test]
async fn the_guard_renews_at_half_of_the_time_until_it_is_dropped() {
    let mock = MockBroker::start().await;
    let lease = lease_of(&mock, Duration::from_millis(200)).await;
    let guard = lease.auto_renew(Duration::from_millis(200));
    mock.until(|script| script.renews.len() >= 3).await;
    assert!(guard.is_active() && lease.expires_in() > Duration::ZERO);
    drop(guard);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let renewed = mock.script().renews.len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(mock.script().renews.len(), renewed);
}

#[tokio::test]
async fn the_guard_tries_again_and_stops_at_the_end_of_the_lease() {
    let mock = MockBroker::start().await;
    let lease = lease_of(&mock, Duration::from_millis(400)).await;
    mock.script().renew_failures.extend([Status::unavailable("not now"), ended()]);
    let guard = lease.auto_renew(Duration::from_secs(1));
    mock.until(|script| script.renews.len() == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!guard.is_active());
}
