//! Leases: what they ask for, that they always report, and that they show no key.

use std::time::Duration;

use keybroker_client::{
    AcquireOptions, Action, Error, ErrorReason, ExposeSecret, Outcome, Tier, TransportKind, Usage,
};
use keybroker_proto::v1::{advice, lease_report};
use tokio::time::timeout;
use tonic::Code;
use tonic_types::ErrorDetails;

use crate::broker::{Grant, MockBroker, SPENDTHRIFT, words};

fn options() -> AcquireOptions {
    AcquireOptions::new("gemini-2.5-flash")
}

#[tokio::test]
async fn every_option_reaches_the_broker() {
    let mock = MockBroker::start().await;
    let options = options()
        .pool("batch")
        .consumer("team-a")
        .input_tokens(1234)
        .output_tokens(567)
        .ttl(Duration::from_secs(30))
        .wait(Duration::from_millis(1500))
        .permits(7)
        .project("alpha")
        .tier(Tier::Paid)
        .exclude_key("key-9")
        .exclude_project("beta")
        .key_label("region", "eu")
        .label("job", "nightly");
    let lease = mock.client().acquire(options).await.unwrap();
    assert_eq!((lease.key_id(), lease.project(), lease.permits()), ("key-1", "alpha", 7));
    let asked = mock.script().acquires[0].clone();
    assert_eq!((asked.pool.as_str(), asked.consumer.as_str()), ("batch", "team-a"));
    assert_eq!((asked.input_tokens, asked.output_tokens, asked.permits), (1234, 567, Some(7)));
    assert_eq!(asked.ttl, Some(prost_types::Duration { seconds: 30, nanos: 0 }));
    assert_eq!(asked.wait, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
    assert_eq!(asked.labels["job"], "nightly");
    let constraints = asked.constraints.unwrap();
    assert_eq!((constraints.project.as_str(), constraints.tier()), ("alpha", Tier::Paid));
    assert_eq!(constraints.exclude_key_ids, ["key-9"]);
    assert_eq!(constraints.exclude_projects, ["beta"]);
    assert_eq!(constraints.labels["region"], "eu");
}

#[tokio::test]
async fn a_lease_says_whether_it_is_over_the_plan_of_its_consumer() {
    let mock = MockBroker::start().await;
    for (consumer, over_plan) in [("thrifty", false), (SPENDTHRIFT, true)] {
        let lease = mock.client().acquire(options().consumer(consumer)).await.unwrap();
        assert_eq!(lease.over_plan(), over_plan);
    }
}

#[tokio::test]
async fn each_outcome_is_reported_and_answered() {
    let mock = MockBroker::start().await;
    let broker = mock.client();
    mock.will_advise([
        (advice::Action::Done, None),
        (advice::Action::RetryAfter, Some(Duration::from_millis(2500))),
        (advice::Action::RetryOtherKey, None),
        (advice::Action::Done, None),
    ]);
    let usage = Usage { input_tokens: Some(7), total_tokens: Some(9), ..Usage::default() };
    let mut lease = broker.acquire(options()).await.unwrap();
    assert_eq!(lease.begin_send().unwrap().expose_secret(), "fake-secret-1");
    assert_eq!(lease.success(usage).await.unwrap().action, Action::Done);
    let lease = broker.acquire(options()).await.unwrap();
    let said = lease.http_error(429, "slow down", Some(Duration::from_secs(3))).await.unwrap();
    assert_eq!(said.action, Action::RetryAfter(Some(Duration::from_millis(2500))));
    assert_eq!(said.message, "said the mock");
    let lease = broker.acquire(options()).await.unwrap();
    let said = lease.transport_error(TransportKind::Timeout).await.unwrap();
    assert_eq!(said.action, Action::RetryOtherKey);
    broker.acquire(options()).await.unwrap().not_sent().await.unwrap();

    let reports = mock.reports(4).await;
    assert_eq!(words(&reports), ["success", "http 429", "timeout", "not sent"]);
    assert!(reports[0].latency.is_some() && reports[3].latency.is_none());
    let Some(lease_report::Outcome::Success(success)) = &reports[0].outcome else { panic!("a success") };
    assert_eq!(success.usage.unwrap().input_tokens, Some(7));
    assert_eq!(success.usage.unwrap().output_tokens, None);
    let Some(lease_report::Outcome::HttpError(error)) = &reports[1].outcome else { panic!("an error") };
    assert_eq!(error.body, "slow down");
    assert_eq!(error.retry_after, Some(prost_types::Duration { seconds: 3, nanos: 0 }));
}

#[tokio::test]
async fn a_lease_dropped_before_sending_is_not_sent_and_after_it_cancelled() {
    let mock = MockBroker::start().await;
    let broker = mock.client();
    drop(broker.acquire(options()).await.unwrap());
    let reports = mock.reports(1).await;
    assert_eq!(words(&reports), ["not sent"]);
    let mut lease = broker.acquire(options()).await.unwrap();
    lease.begin_send().unwrap();
    drop(lease);
    assert_eq!(words(&mock.reports(2).await), ["not sent", "cancelled"]);
}

#[tokio::test]
async fn a_panic_reports_its_lease() {
    let mock = MockBroker::start().await;
    let mut lease = mock.client().acquire(options()).await.unwrap();
    let task = tokio::spawn(async move {
        lease.begin_send().unwrap();
        panic!("on purpose");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(words(&mock.reports(1).await), ["cancelled"]);
}

#[tokio::test]
async fn a_cancelled_future_reports_its_lease() {
    let mock = MockBroker::start().await;
    let mut lease = mock.client().acquire(options()).await.unwrap();
    let work = async move {
        lease.begin_send().unwrap();
        std::future::pending::<()>().await;
    };
    timeout(Duration::from_millis(20), work).await.unwrap_err();
    assert_eq!(words(&mock.reports(1).await), ["cancelled"]);
}

#[tokio::test]
async fn a_report_that_is_not_awaited_is_delivered() {
    let mock = MockBroker::start().await;
    let lease = mock.client().acquire(options()).await.unwrap();
    drop(lease.success(Usage::default()));
    assert_eq!(words(&mock.reports(1).await), ["success"]);
}

#[tokio::test]
async fn a_lease_can_be_dropped_in_a_thread_without_a_runtime() {
    let mock = MockBroker::start().await;
    let lease = mock.client().acquire(options()).await.unwrap();
    let thread = std::thread::spawn(move || drop(lease));
    tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    assert_eq!(words(&mock.reports(1).await), ["not sent"]);
}

#[tokio::test]
async fn a_lease_that_outlives_its_runtime_is_dropped_in_peace() {
    let mock = MockBroker::start().await;
    let address = mock.address();
    let lease = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let broker = keybroker_client::Broker::connect(address).unwrap();
        let lease = runtime.block_on(broker.acquire(options())).unwrap();
        drop(runtime);
        drop(lease);
        broker
    });
    assert_eq!(lease.await.unwrap().reports_lost(), 1);
}

#[tokio::test]
async fn a_lease_that_comes_after_its_caller_gave_up_is_given_back() {
    let mock = MockBroker::start().await;
    mock.will_grant([Grant::Lease {
        delay: Duration::from_millis(100),
        send_within: Duration::from_secs(5),
        expires_in: Duration::from_secs(60),
    }]);
    let broker = mock.client();
    timeout(Duration::from_millis(30), broker.acquire(options())).await.unwrap_err();
    assert_eq!(words(&mock.reports(1).await), ["not sent"]);
}

#[tokio::test]
async fn a_lease_past_its_window_hands_out_no_key() {
    let mock = MockBroker::start().await;
    mock.will_grant([Grant::TOO_LATE]);
    let mut lease = mock.client().acquire(options()).await.unwrap();
    assert_eq!(lease.send_within(), Duration::ZERO);
    let passed = lease.begin_send().unwrap_err();
    assert!(passed.late_by >= Duration::from_millis(15));
    drop(lease);
    assert_eq!(words(&mock.reports(1).await), ["not sent"]);
}

#[tokio::test]
async fn settling_takes_one_round_trip() {
    let mock = MockBroker::start().await;
    let broker = mock.client();
    let first = broker.acquire(options()).await.unwrap();
    let done = first.settle(Outcome::Success(Usage::default()));
    let settled = broker.acquire_settling(options(), done).await.unwrap();
    assert_eq!(settled.advice.unwrap().action, Action::Done);
    assert_eq!(settled.lease.lease_id(), "lease-2");
    assert_eq!(words(&mock.reports(1).await), ["success"]);
    assert_eq!(mock.script().report_calls, 0);
}

#[tokio::test]
async fn settling_reports_also_when_no_lease_comes() {
    let mock = MockBroker::start().await;
    let broker = mock.client();
    let first = broker.acquire(options()).await.unwrap();
    mock.will_grant([Grant::refused_for(Duration::from_secs(9))]);
    let done = first.settle(Outcome::Success(Usage::default()));
    let error = broker.acquire_settling(options(), done).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
    broker.flush().await.unwrap();
    let reports = mock.reports(1).await;
    assert!(reports.iter().all(|report| report.lease_id == "lease-1"));
    assert_eq!(mock.script().report_calls, 1);
}

#[tokio::test]
async fn a_refusal_arrives_typed() {
    let mock = MockBroker::start().await;
    mock.will_grant([
        Grant::refused_for(Duration::from_millis(1234)),
        Grant::failed(Code::FailedPrecondition, ErrorReason::NoUsableKey, ErrorDetails::new()),
    ]);
    let broker = mock.client();
    let Err(Error::Refused(refusal)) = broker.acquire(options()).await else { panic!("a refusal") };
    assert_eq!(refusal.retry_after, Duration::from_millis(1234));
    assert_eq!(refusal.quota[0].subject, "project:alpha");
    assert!(matches!(broker.acquire(options()).await, Err(Error::NoUsableKey { .. })));
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_unavailable_and_granted_nothing() {
    let mut mock = MockBroker::start().await;
    mock.go_away().await;
    let error = mock.client().acquire(options()).await.unwrap_err();
    assert!(error.is_retryable());
    assert!(matches!(error, Error::Unavailable { answer_lost: false, .. }), "{error:?}");
}

#[tokio::test]
async fn no_call_is_without_a_deadline() {
    let mock = MockBroker::start().await;
    mock.will_grant([Grant::Lease {
        delay: Duration::from_secs(30),
        send_within: Duration::from_secs(5),
        expires_in: Duration::from_secs(60),
    }]);
    let builder = keybroker_client::Broker::builder().call_timeout(Duration::from_millis(50));
    let broker = builder.connect(mock.address()).unwrap();
    let error = broker.acquire(options()).await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error:?}");
}

#[tokio::test]
async fn nothing_shows_the_key() {
    let mock = MockBroker::start().await;
    let broker = mock.client();
    let mut lease = broker.acquire(options()).await.unwrap();
    let key = format!("{:?}", lease.begin_send().unwrap());
    let gemini = keybroker_client::Gemini::new(&broker).unwrap();
    let shown = format!("{lease:?} {broker:?} {gemini:?} {key}");
    assert!(shown.contains("lease-1") && shown.contains("key-1"));
    let settlement = lease.settle(Outcome::NotSent);
    assert!(!format!("{shown} {settlement:?}").contains("fake-secret"));
}
