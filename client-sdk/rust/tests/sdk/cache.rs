//! Answers to identical requests, from memory.

use std::time::Duration;

use keybroker_client::{
    Gemini,
    gemini::{
        ResponseCache,
        types::{CountTokensRequest, GenerateContentRequest},
    },
};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    broker::MockBroker,
    upstream::{Reply, Upstream, answer_of, error_of},
};

const MODEL: &str = "gemini-2.5-flash";

fn cached(upstream: &Upstream, mock: &MockBroker, ttl: Duration) -> Gemini {
    upstream.client(mock).attempts(1).cache(ResponseCache::new(10, ttl)).build().unwrap()
}

#[tokio::test]
async fn an_identical_request_takes_no_lease() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = cached(&upstream, &mock, Duration::from_secs(60));
    for _ in 0..3 {
        assert_eq!(gemini.ask(MODEL, "Why?").await.unwrap(), "hello");
    }
    assert_eq!((mock.script().acquires.len(), upstream.seen().len()), (1, 1));
    // Another model, another question, another project: each is another request.
    gemini.ask("gemini-2.5-pro", "Why?").await.unwrap();
    gemini.ask(MODEL, "Who?").await.unwrap();
    let of_alpha = gemini.customize().project("alpha").build().unwrap();
    of_alpha.ask(MODEL, "Why?").await.unwrap();
    assert_eq!(upstream.seen().len(), 4);
    let counting = CountTokensRequest::default();
    upstream.will([Reply::Json(200, json!({ "totalTokens": 3 }))]);
    for _ in 0..2 {
        assert_eq!(gemini.count_tokens(MODEL, &counting).await.unwrap().total_tokens, 3);
    }
    assert_eq!(upstream.seen().len(), 5);
}

#[tokio::test]
async fn errors_and_streams_are_not_kept() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = cached(&upstream, &mock, Duration::from_secs(60));
    upstream.will([Reply::Json(500, error_of(500, "odd")), Reply::Json(200, error_of(503, "busy"))]);
    gemini.ask(MODEL, "Why?").await.unwrap_err();
    gemini.ask(MODEL, "Why?").await.unwrap_err();
    gemini.ask(MODEL, "Why?").await.unwrap();
    let request = GenerateContentRequest::text("Why?");
    for _ in 0..2 {
        drop(gemini.stream_generate_content(MODEL, &request).await);
    }
    assert_eq!(upstream.seen().len(), 5);
}

#[tokio::test]
async fn what_is_kept_is_forgotten_after_its_time() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = cached(&upstream, &mock, Duration::from_millis(50));
    gemini.ask(MODEL, "Why?").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    gemini.ask(MODEL, "Why?").await.unwrap();
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_request_of_any_http_client_is_answered_from_memory() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = cached(&upstream, &mock, Duration::from_secs(60));
    upstream.will([Reply::Typed("application/json", answer_of("kept").to_string())]);
    let http = reqwest::Client::new();
    let url = format!("{}/v1beta/models/{MODEL}:generateContent", upstream.url);
    for _ in 0..2 {
        let request = http.post(&url).json(&json!({ "contents": [] })).build().unwrap();
        let answer = gemini.execute(request).await.unwrap();
        assert_eq!(
            (answer.status(), answer.headers().contains_key("content-type")),
            (200.try_into().unwrap(), true)
        );
        assert!(answer.text().await.unwrap().contains("kept"));
    }
    assert_eq!((mock.script().acquires.len(), upstream.seen().len()), (1, 1));
}
