//! Failures of the Gemini client, which obeys the broker's advice and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use keybroker_client::{
    Error, ErrorReason, GeminiError, TransportKind,
    gemini::types::{GenerateContentRequest, GenerateContentResponse},
};
use keybroker_proto::v1::advice::Action;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::Code;
use tonic_types::ErrorDetails;

use crate::{
    broker::{Grant, MockBroker, words},
    upstream::{Reply, Upstream, answer_of, error_of},
};

const MODEL: &str = "gemini-2.5-flash";

#[tokio::test]
async fn another_key_is_taken_when_the_broker_says_so() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    // A status that by any table would be final: only the advice counts.
    upstream.will([Reply::Json(400, error_of(400, "odd")), Reply::Text(418, "odder")]);
    mock.will_advise([(Action::RetryOtherKey, None), (Action::RetryOtherKey, None)]);
    assert_eq!(gemini.ask(MODEL, "Why?").await.unwrap(), "hello");
    let excluded: Vec<_> =
        mock.script().acquires.iter().map(|a| a.constraints.clone().unwrap().exclude_key_ids).collect();
    assert_eq!(excluded, [vec![], vec!["key-1".to_owned()], vec!["key-1".to_owned(), "key-2".to_owned()]]);
    assert_eq!(words(&mock.script().reports), ["http 400", "http 418", "success"]);
    let keys: Vec<_> = upstream.seen().iter().map(|seen| seen.key().to_owned()).collect();
    assert_eq!(keys, ["fake-secret-1", "fake-secret-2", "fake-secret-3"]);
}

#[tokio::test]
async fn a_named_wait_is_waited() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([Reply::Json(503, error_of(503, "busy"))]);
    mock.will_advise([(Action::RetryAfter, Some(Duration::from_millis(200)))]);
    let started = Instant::now();
    gemini.ask(MODEL, "Why?").await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200));
    let second = mock.script().acquires[1].clone();
    assert!(second.constraints.unwrap().exclude_key_ids.is_empty());
}

#[tokio::test]
async fn a_retry_without_a_named_wait_backs_off() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([Reply::Json(500, error_of(500, "oops"))]);
    mock.will_advise([(Action::RetryAfter, None)]);
    assert_eq!(gemini.ask(MODEL, "Why?").await.unwrap(), "hello");
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).deadline(Duration::from_secs(5)).build().unwrap();
    upstream.will([Reply::Json(503, error_of(503, "busy"))]);
    mock.will_advise([(Action::RetryAfter, Some(Duration::from_secs(60)))]);
    let started = Instant::now();
    let error = gemini.ask(MODEL, "Why?").await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(4));
    assert!(error.is_retryable());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn a_request_at_fault_is_not_sent_again() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let called = Arc::new(AtomicU32::new(0));
    let calls = Arc::clone(&called);
    let gemini = upstream
        .client(&mock)
        .fallback(move |_, error| {
            calls.fetch_add(1, Ordering::SeqCst);
            async move { Err::<GenerateContentResponse, _>(error) }
        })
        .build()
        .unwrap();
    let echo = json!({"error": {"code": 403, "status": "PERMISSION_DENIED",
        "message": "Consumer 'api_key:fake-secret-1' is suspended", "details": [{"a": "fake-secret-1"}]}});
    upstream.will([Reply::Json(403, echo)]);
    mock.will_advise([(Action::DoNotRetry, None)]);
    let error = gemini.ask(MODEL, "Why?").await.unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!((error.status(), called.load(Ordering::SeqCst)), (Some(403), 0));
    assert!(!format!("{error:?} {error}").contains("fake-secret"));
    let GeminiError::Upstream(upstream_error) = error else { panic!("an upstream error") };
    assert_eq!(upstream_error.google.unwrap().message, "Consumer 'api_key:[redacted]' is suspended");
    assert_eq!((upstream_error.key_id.as_str(), upstream_error.attempts), ("key-1", 1));
    assert!(upstream_error.body.contains("[redacted]"));
    assert!(!format!("{:?}", mock.script().reports).contains("fake-secret"));
}

#[tokio::test]
async fn the_attempts_are_limited() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).attempts(2).build().unwrap();
    upstream.will((0..5).map(|_| Reply::Json(503, error_of(503, "busy"))));
    mock.will_advise((0..5).map(|_| (Action::RetryOtherKey, None)));
    let error = gemini.ask(MODEL, "Why?").await.unwrap_err();
    assert!(error.to_string().contains("after 2 tries"), "{error}");
    assert_eq!((upstream.seen().len(), mock.script().reports.len()), (2, 2));
}

#[tokio::test]
async fn an_error_in_a_good_answer_is_an_error() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([Reply::Json(200, json!([error_of(429, "slow down")]))]);
    mock.will_advise([(Action::RetryOtherKey, None)]);
    assert_eq!(gemini.ask(MODEL, "Why?").await.unwrap(), "hello");
    assert_eq!(words(&mock.script().reports), ["http 429", "success"]);
}

#[tokio::test]
async fn transport_faults_are_told_apart() {
    let mock = MockBroker::start().await;
    let upstream = Upstream::start().await;
    upstream.will([Reply::Silence]);
    let slow = upstream.client(&mock).request_timeout(Duration::from_millis(50)).build().unwrap();
    let error = slow.ask(MODEL, "Why?").await.unwrap_err();
    assert!(matches!(error, GeminiError::Transport { kind: TransportKind::Timeout, attempts: 1, .. }));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gone = slow.customize().base_url(&url).request_timeout(Duration::from_secs(5)).build().unwrap();
    let accept = tokio::spawn(async move { drop(listener.accept().await) });
    let error = gone.ask(MODEL, "Why?").await.unwrap_err();
    assert!(matches!(error, GeminiError::Transport { kind: TransportKind::Reset, .. }), "{error:?}");
    accept.await.unwrap();
    let error = gone.ask(MODEL, "Why?").await.unwrap_err();
    assert!(matches!(error, GeminiError::Transport { kind: TransportKind::Connect, .. }), "{error:?}");
    assert!(!error.to_string().contains("http://"));
    assert_eq!(words(&mock.script().reports), ["timeout", "reset", "connect"]);
}

#[tokio::test]
async fn a_missed_window_gives_the_lease_back_and_asks_again() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    mock.will_grant([Grant::TOO_LATE]);
    assert_eq!(gemini.ask(MODEL, "Why?").await.unwrap(), "hello");
    assert_eq!(words(&mock.script().reports), ["not sent", "success"]);
    assert_eq!(upstream.seen()[0].key(), "fake-secret-2");
    assert_eq!(upstream.seen().len(), 1);
}

/// Knows every name, but only after a while.
struct SlowNames;

impl Resolve for SlowNames {
    fn resolve(&self, _: Name) -> Resolving {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let addresses: Addrs = Box::new(std::iter::once(([127, 0, 0, 1], 0).into()));
            Ok(addresses)
        })
    }
}

#[tokio::test]
async fn a_connection_that_takes_longer_than_the_window_sends_nothing() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let http = reqwest::Client::builder().dns_resolver(Arc::new(SlowNames)).no_proxy().build().unwrap();
    let gemini = upstream
        .client(&mock)
        .base_url(upstream.url.replace("127.0.0.1", "slow.example"))
        .http_client(http)
        .build()
        .unwrap();
    mock.will_grant([Grant::Lease {
        delay: Duration::ZERO,
        send_within: Duration::from_millis(100),
        expires_in: Duration::from_secs(60),
    }]);
    assert_eq!(gemini.ask(MODEL, "Why?").await.unwrap(), "hello");
    assert_eq!(words(&mock.script().reports), ["not sent", "success"]);
    let seen = upstream.seen();
    let whole: Vec<_> = seen.iter().filter(|seen| !seen.body.is_null()).map(|seen| seen.key()).collect();
    assert_eq!(whole, ["fake-secret-2"]);

    let hasty = gemini.customize().request_timeout(Duration::from_millis(50));
    let hasty =
        hasty.http_client(reqwest::Client::builder().dns_resolver(Arc::new(SlowNames)).build().unwrap());
    let error = hasty.build().unwrap().ask(MODEL, "Why?").await.unwrap_err();
    assert!(matches!(error, GeminiError::Transport { kind: TransportKind::Connect, .. }), "{error:?}");
}

#[tokio::test]
async fn windows_that_are_always_missed_end_in_an_error() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    mock.will_grant((0..9).map(|_| Grant::TOO_LATE));
    let error = gemini.ask(MODEL, "Why?").await.unwrap_err();
    assert!(matches!(error, GeminiError::Broker(Error::SendWindowPassed(_))), "{error:?}");
    assert_eq!(words(&mock.reports(3).await), ["not sent", "not sent", "not sent"]);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_refusal_is_waited_out_to_its_exact_time() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    mock.will_grant([Grant::refused_for(Duration::from_millis(300))]);
    let started = Instant::now();
    gemini.ask(MODEL, "Why?").await.unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(2_000), "{took:?}");
    assert_eq!((mock.script().acquires.len(), upstream.seen().len()), (2, 1));
}

#[tokio::test]
async fn a_refusal_longer_than_the_wait_allowed_is_an_error_at_once() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).max_wait(Duration::from_millis(100)).build().unwrap();
    mock.will_grant([Grant::refused_for(Duration::from_secs(40))]);
    let started = Instant::now();
    let error = gemini.ask(MODEL, "Why?").await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(matches!(error, GeminiError::Broker(Error::Refused(_))));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(40)));
}

#[tokio::test]
async fn a_broker_that_cannot_serve_for_a_moment_is_asked_again() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    let down = || Grant::failed(Code::Unavailable, ErrorReason::LedgerUnavailable, ErrorDetails::new());
    mock.will_grant([down(), down()]);
    gemini.ask(MODEL, "Why?").await.unwrap();
    // For as long as the call lasts, since nothing was handed out.
    mock.will_grant([down(), down(), down(), down(), down()]);
    gemini.ask(MODEL, "Why?").await.unwrap();
    let hasty = upstream.client(&mock).max_wait(Duration::ZERO).build().unwrap();
    mock.will_grant([down()]);
    let error = hasty.ask(MODEL, "Why?").await.unwrap_err();
    assert!(matches!(error, GeminiError::Broker(Error::Unavailable { .. })));
    // Where something else would serve it is asked as often as requests are sent.
    let with_fallback = upstream.client(&mock).attempts(2).fallback_key(|_| async { None }).build().unwrap();
    mock.will_grant([down(), down()]);
    let error = with_fallback.ask(MODEL, "Why?").await.unwrap_err();
    assert!(matches!(error, GeminiError::Broker(Error::Unavailable { .. })));
}

#[tokio::test]
async fn when_no_other_key_is_left_the_upstream_error_is_told() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([Reply::Json(429, error_of(429, "slow down"))]);
    mock.will_advise([(Action::RetryOtherKey, None)]);
    let none = Grant::failed(Code::FailedPrecondition, ErrorReason::NoUsableKey, ErrorDetails::new());
    mock.will_grant([Grant::USUAL, none]);
    let error = gemini.ask(MODEL, "Why?").await.unwrap_err();
    assert_eq!(error.status(), Some(429));
}

#[tokio::test]
async fn the_fallback_answers_when_all_tries_have_failed() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream
        .client(&mock)
        .attempts(1)
        .fallback(|request, error| async move {
            let asked: GenerateContentRequest = serde_json::from_value(request.body).unwrap();
            let text = asked.contents[0].parts[0].text.clone().unwrap();
            let answer = format!("{} {} {text} {:?}", request.model, request.method, error.status());
            Ok(answer_of(&answer))
        })
        .build()
        .unwrap();
    upstream.will([Reply::Json(503, error_of(503, "busy"))]);
    mock.will_advise([(Action::RetryOtherKey, None)]);
    let answer = gemini.ask(MODEL, "Why?").await.unwrap();
    assert_eq!(answer, "gemini-2.5-flash generateContent Why? Some(503)");

    mock.will_grant([Grant::refused_for(Duration::from_secs(3600))]);
    let answer = gemini.ask(MODEL, "Why?").await.unwrap();
    assert_eq!(answer, "gemini-2.5-flash generateContent Why? None");
}

#[tokio::test]
async fn without_advice_nothing_is_sent_again() {
    let (mut mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).request_timeout(Duration::from_millis(300));
    let gemini = gemini.deadline(Duration::from_millis(800)).build().unwrap();
    upstream.will([Reply::Silence]);
    let call = tokio::spawn(async move { gemini.ask(MODEL, "Why?").await });
    while upstream.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    mock.go_away().await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, GeminiError::Transport { advice: None, attempts: 1, .. }), "{error:?}");
    mock.come_back().await;
    assert_eq!(words(&mock.reports(1).await), ["timeout"]);
}
