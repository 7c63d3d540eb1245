//! How many input tokens a lease is asked for.

use keybroker_client::gemini::types::GenerateContentRequest;
use serde_json::{Value, json};

use crate::{
    broker::{MockBroker, words},
    upstream::{Reply, Upstream, answer_of, error_of},
};

const MODEL: &str = "gemini-2.5-flash";

fn tokens(mock: &MockBroker) -> Vec<i64> {
    mock.script().acquires.iter().map(|asked| asked.input_tokens).collect()
}

#[tokio::test]
async fn a_local_estimate_is_the_default_and_can_be_ones_own() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    upstream.client(&mock).build().unwrap().ask(MODEL, "Why?").await.unwrap();
    let flat = upstream.client(&mock).estimator(|_: &Value| 42).build().unwrap();
    flat.ask(MODEL, "Why?").await.unwrap();
    let asked = tokens(&mock);
    assert!(asked[0] > 4 && asked[0] < 60 && asked[1] == 42, "{asked:?}");
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn gemini_counts_first_with_a_lease_of_its_own() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).count_tokens(true).build().unwrap();
    upstream.will([Reply::Json(200, json!({ "totalTokens": 7_777 })), Reply::Json(200, answer_of("hello"))]);
    gemini.ask(MODEL, "Why?").await.unwrap();
    let seen = upstream.seen();
    assert_eq!(seen[0].target, "/v1beta/models/gemini-2.5-flash:countTokens");
    assert_eq!(seen[0].body["generateContentRequest"]["model"], "models/gemini-2.5-flash");
    assert_eq!(seen[0].body["generateContentRequest"]["contents"], seen[1].body["contents"]);
    assert_eq!(tokens(&mock)[1], 7_777);
    assert_eq!(words(&mock.script().reports), ["success", "success"]);

    // A stream is counted too, and what is counted itself is not.
    upstream.will([Reply::Json(200, json!({ "totalTokens": 8_888 }))]);
    let request = GenerateContentRequest::text("Why?");
    drop(gemini.stream_generate_content(MODEL, &request).await);
    assert_eq!(tokens(&mock)[3], 8_888);
    upstream.will([Reply::Json(200, json!({ "totalTokens": 1 }))]);
    gemini.count_tokens(MODEL, &Default::default()).await.unwrap();
    let counts = upstream.seen().iter().filter(|seen| seen.target.ends_with(":countTokens")).count();
    assert_eq!(counts, 3);
}

#[tokio::test]
async fn where_counting_fails_the_estimate_stands() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).count_tokens(true).estimator(|_: &Value| 42).build().unwrap();
    upstream.will([Reply::Json(500, error_of(500, "odd"))]);
    assert_eq!(gemini.ask(MODEL, "Why?").await.unwrap(), "hello");
    assert_eq!(tokens(&mock), [42, 42]);
}

#[tokio::test]
async fn a_request_of_any_http_client_is_counted_too() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let gemini = upstream.client(&mock).count_tokens(true).build().unwrap();
    upstream.will([Reply::Json(200, json!({ "totalTokens": 7_777 }))]);
    let url = format!("{}/v1beta/models/{MODEL}:streamGenerateContent?alt=sse", upstream.url);
    let request = reqwest::Client::new().post(url).json(&json!({ "contents": [] })).build().unwrap();
    drop(gemini.execute(request).await.unwrap());
    assert_eq!(upstream.seen()[0].target, "/v1beta/models/gemini-2.5-flash:countTokens");
    assert_eq!(tokens(&mock)[1], 7_777);
}
