//! The client for programs without an async runtime.

use std::{thread, time::Duration};

use keybroker_client::{
    AcquireOptions, Error, ExposeSecret, GeminiError, TransportKind, Usage,
    blocking::{Broker, Gemini, Lease},
    gemini::types::GenerateContentRequest,
};
use keybroker_proto::v1::advice::Action;
use tokio::task::spawn;

use crate::{
    broker::{MockBroker, words},
    upstream::{Piece, Reply, Upstream, answer_of, part_of},
};

const MODEL: &str = "gemini-2.5-flash";

fn options() -> AcquireOptions {
    AcquireOptions::new(MODEL)
}

/// Runs a part of a program without a runtime, in a thread of its own.
async fn without_runtime<T: Send + 'static>(part: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, answer) = tokio::sync::oneshot::channel();
    thread::spawn(move || drop(sender.send(part())));
    answer.await.expect("the part does not panic")
}

#[tokio::test]
async fn each_outcome_is_reported_and_answered() {
    let mock = MockBroker::start().await;
    mock.will_advise([(Action::Done, None), (Action::RetryAfter, Some(Duration::from_secs(2)))]);
    let address = mock.address();
    without_runtime(move || {
        let broker = Broker::connect(address).unwrap();
        let mut lease = broker.acquire(options()).unwrap();
        assert_eq!((lease.key_id(), lease.project()), ("key-1", "alpha"));
        assert_eq!(lease.begin_send().unwrap().expose_secret(), "fake-secret-1");
        lease.success(Usage::default()).unwrap();
        let lease = broker.acquire(options()).unwrap();
        assert!(lease.http_error(503, "busy", None).unwrap().is_retryable());
        let lease = broker.acquire(options()).unwrap();
        let _renewed = lease.auto_renew(Duration::from_secs(60));
        assert!(lease.renew(Duration::from_secs(60)).unwrap() > Duration::from_secs(50));
        lease.transport_error(TransportKind::Timeout).unwrap();
        broker.acquire(options()).unwrap().not_sent().unwrap();
        broker.close().unwrap();
        assert!(matches!(broker.acquire(options()), Err(Error::Closed)));
        assert_eq!((broker.unreported(), broker.reports_lost()), (0, 0));
    })
    .await;
    assert_eq!(words(&mock.script().reports), ["success", "http 503", "timeout", "not sent"]);
}

#[tokio::test]
async fn a_lease_without_a_report_is_reported_before_its_client_is_gone() {
    let mock = MockBroker::start().await;
    let address = mock.address();
    let reports = without_runtime(move || {
        let broker = Broker::connect(address).unwrap();
        drop(broker.acquire(options()).unwrap());
        let mut sent: Lease = broker.acquire(options()).unwrap();
        sent.begin_send().unwrap();
        drop(broker);
        // The lease holds on to the client, and is its end.
        drop(sent);
    });
    reports.await;
    // Nothing is waited for here: the drop has done so.
    assert_eq!(words(&mock.script().reports), ["not sent", "cancelled"]);
}

#[tokio::test]
async fn gemini_is_asked_and_its_events_are_an_iterator() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let (address, url) = (mock.address(), upstream.url.clone());
    let pieces = || vec![Piece::event(&part_of("he")), Piece::event(&answer_of("llo"))];
    upstream.will([Reply::Json(200, answer_of("hello")), Reply::Pieces(pieces()), Reply::Pieces(pieces())]);
    without_runtime(move || {
        let broker = Broker::connect(address).unwrap();
        let gemini = Gemini::with(&broker, |settings| settings.base_url(url).consumer("team-a")).unwrap();
        assert_eq!(gemini.ask(MODEL, "Why?").unwrap(), "hello");
        let request = GenerateContentRequest::text("Why?");
        let events = gemini.stream_generate_content(MODEL, &request).unwrap();
        let text: String = events.map(|event| event.unwrap().text()).collect();
        assert_eq!(text, "hello");
        // A stream that is left reports itself.
        gemini.stream_generate_content(MODEL, &request).unwrap().next().unwrap().unwrap();
        broker.close().unwrap();
    })
    .await;
    assert_eq!(words(&mock.script().reports), ["success", "success", "cancelled"]);
    assert_eq!(mock.script().acquires[0].consumer, "team-a");
}

#[tokio::test]
async fn within_a_runtime_a_call_is_refused_and_nothing_panics() {
    let mock = MockBroker::start().await;
    let address = mock.address();
    let (broker, lease) = without_runtime(move || {
        let broker = Broker::connect(address).unwrap();
        let lease = broker.acquire(options()).unwrap();
        (broker, lease)
    })
    .await;
    let gemini = Gemini::new(&broker).unwrap();
    let task = spawn(async move {
        let error = broker.acquire(options()).unwrap_err();
        assert!(matches!(error, Error::WithinRuntime) && error.to_string().contains("async client"));
        let error = gemini.ask(MODEL, "Why?").unwrap_err();
        assert!(matches!(error, GeminiError::Broker(Error::WithinRuntime)), "{error}");
        assert!(matches!(broker.close(), Err(Error::WithinRuntime)));
        // The report is on its way all the same, and the client ends in the background.
        assert!(matches!(lease.not_sent(), Err(Error::WithinRuntime)));
    });
    task.await.unwrap();
    assert_eq!(words(&mock.reports(1).await), ["not sent"]);
}
