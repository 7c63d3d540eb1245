//! A key of the caller's own, where no lease can be had.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use keybroker_client::{Error, ErrorReason, Gemini, GeminiError, SecretString};
use serde_json::json;
use tonic::Code;
use tonic_types::ErrorDetails;

use crate::{
    broker::{Grant, MockBroker},
    upstream::{Piece, Reply, Upstream, answer_of, error_of, part_of},
};

const MODEL: &str = "gemini-2.5-flash";

fn no_key() -> Grant {
    Grant::failed(Code::FailedPrecondition, ErrorReason::NoUsableKey, ErrorDetails::new())
}

/// A client with a spare key, and the errors for which it was asked.
fn with_spare(upstream: &Upstream, mock: &MockBroker) -> (Gemini, Arc<Mutex<Vec<String>>>) {
    let errors = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&errors);
    let gemini = upstream.client(mock).fallback_key(move |error: &GeminiError| {
        seen.lock().unwrap().push(error.to_string());
        async { Some(SecretString::from("fake-spare")) }
    });
    (gemini.build().unwrap(), errors)
}

#[tokio::test]
async fn it_is_sent_once_and_nothing_is_reported() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let (gemini, errors) = with_spare(&upstream, &mock);
    mock.will_grant([no_key(), Grant::refused_for(Duration::from_secs(3_600))]);
    assert_eq!(gemini.ask(MODEL, "Why?").await.unwrap(), "hello");
    upstream.will([Reply::Pieces(vec![Piece::event(&part_of("he")), Piece::event(&answer_of("llo"))])]);
    let events = gemini.stream_raw(MODEL, &json!({})).await.unwrap();
    assert_eq!(events.collect::<Vec<_>>().await.len(), 2);
    // A lease is there again.
    gemini.ask(MODEL, "Why?").await.unwrap();
    let keys: Vec<_> = upstream.seen().iter().map(|seen| seen.key().to_owned()).collect();
    assert_eq!(keys, ["fake-spare", "fake-spare", "fake-secret-3"]);
    let errors = errors.lock().unwrap().clone();
    assert!(errors.len() == 2 && errors[0].contains("no usable key") && errors[1].contains("no key is free"));
    assert_eq!(mock.reports(1).await.len(), 1);
    assert!(mock.script().renews.is_empty());
}

#[tokio::test]
async fn its_failure_is_the_callers_and_shows_no_key() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let (gemini, _) = with_spare(&upstream, &mock);
    mock.will_grant([no_key()]);
    upstream.will([Reply::Json(429, error_of(429, "slow down, fake-spare"))]);
    let error = gemini.ask(MODEL, "Why?").await.unwrap_err();
    assert_eq!((error.status(), upstream.seen().len()), (Some(429), 1));
    let text = format!("{error} {error:?}");
    assert!(text.contains("slow down, [redacted]") && !text.contains("fake-spare"), "{text}");
    assert!(mock.script().reports.is_empty());
}

#[tokio::test]
async fn a_request_of_any_http_client_falls_back_too() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let (gemini, _) = with_spare(&upstream, &mock);
    mock.will_grant([no_key()]);
    let url = format!("{}/v1beta/models/{MODEL}:generateContent", upstream.url);
    let request = reqwest::Client::new().post(url).json(&json!({ "contents": [] })).build().unwrap();
    assert!(gemini.execute(request).await.unwrap().status().is_success());
    assert_eq!(upstream.seen()[0].key(), "fake-spare");
}

#[tokio::test]
async fn it_may_have_none_and_is_not_asked_for_a_request_at_fault() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let gemini = upstream.client(&mock).fallback_key(move |_: &GeminiError| {
        count.fetch_add(1, Ordering::Relaxed);
        async { None }
    });
    let gemini = gemini.build().unwrap();
    let invalid = Grant::failed(Code::InvalidArgument, ErrorReason::InvalidField, ErrorDetails::new());
    mock.will_grant([no_key(), invalid]);
    let error = gemini.ask(MODEL, "Why?").await.unwrap_err();
    assert!(matches!(error, GeminiError::Broker(Error::NoUsableKey { .. })), "{error}");
    gemini.ask(MODEL, "Why?").await.unwrap_err();
    assert_eq!((asked.load(Ordering::Relaxed), upstream.seen().len()), (1, 0));
}
