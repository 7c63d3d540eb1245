//! What the Gemini client sends, and what it makes of good answers.

use std::time::Duration;

use keybroker_client::{
    GeminiError, Tier,
    gemini::types::{
        BatchEmbedContentsRequest, CountTokensRequest, EmbedContentRequest, GenerateContentRequest,
    },
};
use keybroker_proto::v1::lease_report;
use serde_json::{Value, json};

use crate::{
    broker::{MockBroker, words},
    upstream::{Reply, Upstream},
};

const MODEL: &str = "gemini-2.5-flash";

#[tokio::test]
async fn a_question_is_answered_and_its_usage_reported() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).pool("batch").consumer("team-a").tier(Tier::Paid).build().unwrap();
    assert_eq!(gemini.ask(MODEL, "Why?").await.unwrap(), "hello");

    let seen = upstream.seen().remove(0);
    assert_eq!(seen.target, "/v1beta/models/gemini-2.5-flash:generateContent");
    assert_eq!(seen.key(), "fake-secret-1");
    assert_eq!(seen.headers.get_all("x-goog-api-key").iter().count(), 1);
    let length = seen.body.to_string().len().to_string();
    assert_eq!(seen.headers.get_all("content-length").iter().collect::<Vec<_>>(), [&length]);
    assert!(!seen.headers.contains_key("transfer-encoding"));
    assert_eq!(seen.body, json!({"contents": [{"role": "user", "parts": [{"text": "Why?"}]}]}));

    let asked = mock.script().acquires[0].clone();
    assert_eq!(
        (asked.model.as_str(), asked.pool.as_str(), asked.consumer.as_str()),
        (MODEL, "batch", "team-a")
    );
    assert!(asked.input_tokens > 4 && asked.input_tokens < 60, "{}", asked.input_tokens);
    let reports = mock.script().reports.clone();
    let Some(lease_report::Outcome::Success(success)) = &reports[0].outcome else { panic!("a success") };
    let usage = success.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.total_tokens), (Some(7), Some(2), Some(9)));
}

#[tokio::test]
async fn the_key_is_never_in_a_url() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).api_version("v1").build().unwrap();
    gemini.ask(MODEL, "Why?").await.unwrap();
    gemini.stream_raw(MODEL, &json!({})).await.unwrap_err();
    gemini.ask("x?key=y", "Why?").await.unwrap_err();
    let targets: Vec<_> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(
        targets,
        [
            "/v1/models/gemini-2.5-flash:generateContent",
            "/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        ]
    );
}

#[tokio::test]
async fn a_batch_of_texts_takes_a_permit_for_each() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([Reply::Json(200, json!({"embeddings": [{"values": [0.5, 1.0]}, {"values": [2.0]}]}))]);
    let request = BatchEmbedContentsRequest::texts(["one", "two"]);
    let response = gemini.batch_embed_contents("gemini-embedding-001", &request).await.unwrap();
    assert_eq!(response.embeddings[0].values, [0.5, 1.0]);
    assert_eq!(mock.script().acquires[0].permits, Some(2));
    let seen = upstream.seen().remove(0);
    assert_eq!(seen.target, "/v1beta/models/gemini-embedding-001:batchEmbedContents");
    assert_eq!(seen.body["requests"][1]["model"], "models/gemini-embedding-001");
    assert_eq!(seen.body["requests"][1]["content"]["parts"][0]["text"], "two");

    let empty = gemini.batch_embed_contents(MODEL, &BatchEmbedContentsRequest::default()).await;
    assert!(matches!(empty, Err(GeminiError::InvalidRequest { .. })));
}

#[tokio::test]
async fn the_other_methods_read_their_answers() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([
        Reply::Json(200, json!({"embedding": {"values": [0.25]}})),
        Reply::Json(200, json!({"totalTokens": 31})),
        Reply::Json(200, json!({"anything": [1, 2, 3]})),
    ]);
    let embedded = gemini.embed_content(MODEL, &EmbedContentRequest::text("one")).await.unwrap();
    assert_eq!(embedded.embedding.values, [0.25]);
    let request = CountTokensRequest {
        generate_content_request: Some(GenerateContentRequest::text("Why?")),
        ..Default::default()
    };
    assert_eq!(gemini.count_tokens(MODEL, &request).await.unwrap().total_tokens, 31);
    let raw: Value = gemini.call_raw("tunedModels/mine", "doThings", &json!({"x": 1}), 3).await.unwrap();
    assert_eq!(raw, json!({"anything": [1, 2, 3]}));
    let seen = upstream.seen();
    assert_eq!(seen[1].body["generateContentRequest"]["model"], "models/gemini-2.5-flash");
    assert_eq!(seen[2].target, "/v1beta/tunedModels/mine:doThings");
    assert_eq!(mock.script().acquires[2].permits, Some(3));
}

#[tokio::test]
async fn the_estimator_can_be_replaced() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini =
        upstream.client(&mock).estimator(|body| if body.is_object() { 42 } else { 0 }).build().unwrap();
    gemini.ask(MODEL, "Why?").await.unwrap();
    assert_eq!(mock.script().acquires[0].input_tokens, 42);
}

#[tokio::test]
async fn a_customized_client_leaves_the_first_as_it_was() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).pool("batch").build().unwrap();
    let other = gemini.customize().project("alpha").build().unwrap();
    other.ask(MODEL, "Why?").await.unwrap();
    gemini.ask(MODEL, "Why?").await.unwrap();
    let acquires = mock.script().acquires.clone();
    let project = |n: usize| acquires[n].constraints.clone().unwrap().project;
    assert_eq!((acquires[0].pool.as_str(), project(0).as_str(), project(1).as_str()), ("batch", "alpha", ""));
}

#[tokio::test]
async fn a_good_status_with_an_unreadable_body_is_a_success_that_cannot_be_read() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([Reply::Text(200, "<html>welcome</html>")]);
    assert!(matches!(gemini.ask(MODEL, "Why?").await, Err(GeminiError::Decode { .. })));
    assert_eq!(words(&mock.script().reports), ["success"]);
}

#[tokio::test]
async fn a_dropped_call_reports_that_it_was_cancelled() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).build().unwrap();
    upstream.will([Reply::Silence]);
    let call = gemini.ask(MODEL, "Why?");
    tokio::time::timeout(Duration::from_millis(150), call).await.unwrap_err();
    assert_eq!(words(&mock.reports(1).await), ["cancelled"]);
}

#[tokio::test]
async fn a_long_request_keeps_its_lease() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let ttl = Duration::from_secs(1);
    mock.will_grant([crate::broker::Grant::Lease {
        delay: Duration::ZERO,
        send_within: Duration::from_secs(5),
        expires_in: Duration::from_millis(200),
    }]);
    let gemini = upstream
        .client(&mock)
        .lease_ttl(ttl)
        .attempts(1)
        .request_timeout(Duration::from_millis(400))
        .build()
        .unwrap();
    upstream.will([Reply::Silence]);
    gemini.ask(MODEL, "Why?").await.unwrap_err();
    assert!(!mock.script().renews.is_empty());
    assert_eq!(words(&mock.script().reports), ["timeout"]);
}

#[tokio::test]
async fn a_base_url_that_cannot_be_used_is_refused() {
    let mock = MockBroker::start().await;
    for url in ["nonsense", "ftp://host", "http://host/?key=x"] {
        let made = keybroker_client::Gemini::builder(&mock.client()).base_url(url).build();
        assert!(matches!(made, Err(GeminiError::Setup { .. })), "{url}");
    }
}
