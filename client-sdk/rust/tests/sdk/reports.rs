//! The delivery of reports.

use std::time::Duration;

use futures_util::future::join_all;
use keybroker_client::{AcquireOptions, Broker, Error, Usage};
use tonic::Status;

use crate::broker::{MockBroker, words};

fn options() -> AcquireOptions {
    AcquireOptions::new("gemini-2.5-flash")
}

#[tokio::test]
async fn flush_delivers_what_is_in_the_background() {
    let mock = MockBroker::start().await;
    let broker = mock.client();
    broker.flush().await.unwrap();
    let leases = join_all((0..300).map(|_| broker.acquire(options()))).await;
    drop(leases);
    assert!(broker.unreported() > 0);
    broker.flush().await.unwrap();
    assert_eq!(broker.unreported(), 0);
    assert_eq!(mock.script().reports.len(), 300);
    assert!(mock.script().report_calls < 300, "reports that wait travel together");
}

#[tokio::test]
async fn close_delivers_and_then_refuses_leases() {
    let mock = MockBroker::start().await;
    let broker = mock.client();
    let held = broker.acquire(options()).await.unwrap();
    drop(broker.acquire(options()).await.unwrap());
    broker.close().await.unwrap();
    assert_eq!(mock.script().reports.len(), 1);
    assert!(matches!(broker.clone().acquire(options()).await, Err(Error::Closed)));
    held.success(Usage::default()).await.unwrap();
}

#[tokio::test]
async fn a_report_is_tried_again_while_the_broker_cannot_serve() {
    let mock = MockBroker::start().await;
    let broker = mock.client();
    let lease = broker.acquire(options()).await.unwrap();
    let failures = [Status::unavailable("not now"), Status::deadline_exceeded("slow")];
    mock.script().report_failures.extend(failures);
    lease.success(Usage::default()).await.unwrap();
    assert_eq!(mock.script().report_calls, 3);
}

#[tokio::test]
async fn a_report_waits_for_a_broker_that_is_gone_and_comes_back() {
    let mut mock = MockBroker::start().await;
    let broker = mock.client();
    let mut lease = broker.acquire(options()).await.unwrap();
    lease.begin_send().unwrap();
    mock.go_away().await;
    drop(lease);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(broker.unreported(), 1);
    mock.come_back().await;
    broker.flush().await.unwrap();
    assert_eq!(words(&mock.reports(1).await), ["cancelled"]);
    assert_eq!(broker.reports_lost(), 0);
}

#[tokio::test]
async fn flush_ends_at_its_deadline_and_says_what_is_missing() {
    let mut mock = MockBroker::start().await;
    let builder = Broker::builder().flush_timeout(Duration::from_millis(50));
    let broker = builder.connect(mock.address()).unwrap();
    let lease = broker.acquire(options()).await.unwrap();
    mock.go_away().await;
    drop(lease);
    assert!(matches!(broker.flush().await, Err(Error::Undelivered { reports: 1, .. })));
}

#[tokio::test]
async fn patience_ends_and_the_loss_is_counted() {
    let mut mock = MockBroker::start().await;
    let builder = Broker::builder().report_patience(Duration::from_millis(100));
    let broker = builder.connect(mock.address()).unwrap();
    let lease = broker.acquire(options()).await.unwrap();
    mock.go_away().await;
    assert!(matches!(lease.success(Usage::default()).await, Err(Error::ReportLost { .. })));
    assert_eq!((broker.unreported(), broker.reports_lost()), (0, 1));
}

#[tokio::test]
async fn a_full_queue_gives_up_new_reports_and_counts_them() {
    let mut mock = MockBroker::start().await;
    let broker = Broker::builder().report_queue(1).connect(mock.address()).unwrap();
    let leases = join_all((0..40).map(|_| broker.acquire(options()))).await;
    mock.go_away().await;
    drop(leases);
    assert!(broker.reports_lost() >= 39 - 8, "{}", broker.reports_lost());
}

#[tokio::test]
async fn one_refused_report_does_not_take_the_others_with_it() {
    let mock = MockBroker::start().await;
    let broker = mock.client();
    let leases = join_all((0..20).map(|_| broker.acquire(options()))).await;
    mock.script().report_failures.push_back(Status::invalid_argument("one of them is wrong"));
    drop(leases);
    broker.flush().await.unwrap();
    assert_eq!((mock.script().reports.len(), broker.reports_lost()), (20, 0));
}

#[tokio::test]
async fn a_report_that_is_refused_alone_is_an_error() {
    let mock = MockBroker::start().await;
    let lease = mock.client().acquire(options()).await.unwrap();
    mock.script().report_failures.push_back(Status::invalid_argument("it is wrong"));
    assert!(matches!(lease.success(Usage::default()).await, Err(Error::InvalidArgument { .. })));
    assert_eq!(mock.script().report_calls, 1);
}
