//! The judge seen from outside: what is counted, what is refused, and what the verdict says.

use keybroker_tests::fake_gemini::config::ANY;
use keybroker_tests::fake_gemini::{Dimension, Limits, Tier};
use serde_json::{Value, json};

use crate::support::{Bench, MODEL, OTHER_KEY, config, prompt, read};

fn details<'a>(body: &'a Value, kind: &str) -> &'a Value {
    let details = body["error"]["details"].as_array().unwrap();
    details.iter().find(|detail| detail["@type"].as_str().unwrap().ends_with(kind)).unwrap()
}

#[tokio::test]
async fn the_request_over_the_limit_is_refused_with_the_quota_named() {
    let limits = Limits { rpm: Some(2), ..Limits::default() };
    let bench = Bench::with(config().with_limits(ANY, "gemini-fake", limits)).await;
    assert_eq!(bench.generated().await.status(), 200);
    assert_eq!(bench.generated().await.status(), 200);
    let (status, body) = read(bench.generated().await).await;
    assert_eq!((status, &body["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
    let violation = &details(&body, "QuotaFailure")["violations"][0];
    assert_eq!(violation["quotaId"], "GenerateRequestsPerMinutePerProjectPerModel-FreeTier");
    assert_eq!(violation["quotaValue"], "2");
    assert_eq!(violation["quotaDimensions"]["model"], "gemini-fake");
    let delay = details(&body, "RetryInfo")["retryDelay"].as_str().unwrap();
    let seconds: f64 = delay.strip_suffix('s').unwrap().parse().unwrap();
    assert!((40.0..60.0).contains(&seconds), "{delay}");

    let other = bench.generate().header("x-goog-api-key", OTHER_KEY);
    assert_eq!(other.send().await.unwrap().status(), 400, "two keys in one request");
    let url = bench.url(&format!("v1/models/{MODEL}:generateContent"));
    let other = bench.http.post(url).header("x-goog-api-key", OTHER_KEY).json(&prompt("x"));
    assert_eq!(other.send().await.unwrap().status(), 200, "the other project has a budget of its own");

    let verdict = bench.fake.verdict();
    assert!(!verdict.exact);
    assert_eq!((verdict.calls, verdict.quota_refusals), (5, 1));
    let line = verdict.line("alpha", "gemini-fake", Dimension::Rpm).unwrap();
    assert_eq!((line.limit, line.worst_admitted, line.worst_offered), (Some(2), 2, 3));
    assert_eq!((line.admitted, line.refused, line.refused_calls), (2, 1, 1));
    assert_eq!(line.utilisation, Some(1.0));
    let overspent: Vec<&str> = verdict.overspent().map(|line| line.project.as_str()).collect();
    assert_eq!(overspent, ["alpha"]);
}

#[tokio::test]
async fn all_keys_and_model_ids_of_one_family_share_its_budget() {
    let limits = Limits { rpm: Some(1), ..Limits::default() };
    let config = config().with_key("fake-key-second", "alpha").with_limits("alpha", ANY, limits);
    let bench = Bench::with(config).await;
    assert_eq!(bench.generated().await.status(), 200);
    let url = bench.url("v1/models/gemini-fake:generateContent");
    let second = bench.http.post(url).header("x-goog-api-key", "fake-key-second").json(&prompt("x"));
    assert_eq!(second.send().await.unwrap().status(), 429);
}

#[tokio::test]
async fn input_tokens_are_limited_and_may_be_told_by_header() {
    let limits = Limits { input_tpm: Some(100), ..Limits::default() };
    let bench = Bench::with(config().with_limits(ANY, ANY, limits)).await;
    let sized = |tokens: &str| bench.generate().header("x-fake-input-tokens", tokens).send();
    let (status, body) = read(sized("90").await.unwrap()).await;
    assert_eq!((status, &body["usageMetadata"]["promptTokenCount"]), (200, &json!(90)));
    let (status, body) = read(sized("11").await.unwrap()).await;
    assert_eq!(status, 429);
    let violation = &details(&body, "QuotaFailure")["violations"][0];
    assert_eq!(violation["quotaId"], "GenerateContentInputTokensPerModelPerMinute-FreeTier");
    assert_eq!(sized("10").await.unwrap().status(), 200, "the refused one spent nothing");
}

#[tokio::test]
async fn a_spent_day_is_refused_with_a_short_and_misleading_hint() {
    let limits = Limits { rpd: Some(1), ..Limits::default() };
    let mut config = config().with_limits(ANY, ANY, limits);
    config.tiers.insert("alpha".to_owned(), Tier::Tier1);
    let bench = Bench::with(config).await;
    assert_eq!(bench.generated().await.status(), 200);
    let (status, body) = read(bench.generated().await).await;
    assert_eq!(status, 429);
    let violation = &details(&body, "QuotaFailure")["violations"][0];
    assert_eq!(violation["quotaId"], "GenerateRequestsPerDayPerProjectPerModel");
    assert_eq!(details(&body, "RetryInfo")["retryDelay"], "26s");
}

#[tokio::test]
async fn a_batch_of_embeddings_costs_one_request_for_each_text() {
    let limits = Limits { rpm: Some(5), ..Limits::default() };
    let bench = Bench::with(config().with_limits(ANY, ANY, limits)).await;
    let batch = |size: usize| {
        let text = json!({"content": {"parts": [{"text": "x"}]}});
        bench.post("batchEmbedContents", &json!({"requests": vec![text; size]})).send()
    };
    assert_eq!(batch(3).await.unwrap().status(), 200);
    let (status, body) = read(batch(3).await.unwrap()).await;
    assert_eq!(status, 429);
    let violation = &details(&body, "QuotaFailure")["violations"][0];
    assert_eq!(violation["quotaId"], "EmbedContentRequestsPerMinutePerUserPerProjectPerModel-FreeTier");
    assert_eq!(batch(2).await.unwrap().status(), 200);
    let verdict = bench.fake.verdict();
    let line = verdict.line("alpha", "gemini-fake", Dimension::Rpm).unwrap();
    assert_eq!((line.admitted, line.refused, line.worst_offered), (5, 3, 8));
}

#[tokio::test]
async fn counting_tokens_and_looking_at_models_is_free() {
    let limits = Limits { rpm: Some(0), ..Limits::default() };
    let bench = Bench::with(config().with_limits(ANY, ANY, limits)).await;
    assert_eq!(bench.post("countTokens", &prompt("x")).send().await.unwrap().status(), 200);
    assert!(bench.fake.verdict().exact);
    assert_eq!(bench.generated().await.status(), 429);
    assert!(!bench.fake.verdict().exact);
}

#[tokio::test]
async fn a_refused_stream_without_events_is_an_array_with_the_error() {
    let limits = Limits { rpm: Some(0), ..Limits::default() };
    let bench = Bench::with(config().with_limits(ANY, ANY, limits)).await;
    let (status, body) = read(bench.post("streamGenerateContent", &prompt("x")).send().await.unwrap()).await;
    assert_eq!((status, &body[0]["error"]["code"]), (429, &json!(429)));
    let events = bench.post("streamGenerateContent?alt=sse", &prompt("x"));
    let (status, body) = read(events.send().await.unwrap()).await;
    assert_eq!((status, &body["error"]["code"]), (429, &json!(429)));
}

#[tokio::test]
async fn many_callers_at_once_are_admitted_up_to_the_limit_and_not_one_more() {
    let limits = Limits { rpm: Some(50), ..Limits::default() };
    let bench = Bench::with(config().with_limits(ANY, ANY, limits)).await;
    let calls = (0..200).map(|_| async { bench.generated().await.status().as_u16() });
    let statuses = futures_util::future::join_all(calls).await;
    assert_eq!(statuses.iter().filter(|&&status| status == 200).count(), 50);
    let verdict = bench.fake.verdict();
    let line = verdict.line("alpha", "gemini-fake", Dimension::Rpm).unwrap();
    assert_eq!((line.worst_admitted, line.worst_offered, verdict.quota_refusals), (50, 200, 150));
}
