//! The methods of the API when all goes well, and the calls it does not take.

use keybroker_tests::fake_gemini::estimate_input_tokens;
use serde_json::{Value, json};

use crate::support::{Bench, KEY, MODEL, config, prompt, read};

#[tokio::test]
async fn both_versions_answer_with_usage_model_and_an_echo() {
    let bench = Bench::start().await;
    for version in ["v1", "v1beta"] {
        let url = bench.url(&format!("{version}/models/{MODEL}:generateContent"));
        let body = prompt("hello fake");
        let answer = bench.http.post(url).header("x-goog-api-key", KEY).json(&body).send().await.unwrap();
        let (status, answer) = read(answer).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], "echo: hello fake");
        assert_eq!(answer["candidates"][0]["finishReason"], "STOP");
        assert_eq!(answer["modelVersion"], MODEL);
        assert!(answer["responseId"].is_string());
        let usage = &answer["usageMetadata"];
        assert_eq!(usage["promptTokenCount"], estimate_input_tokens(&body));
        let count = |name: &str| usage[name].as_u64().unwrap();
        let sum = count("promptTokenCount") + count("candidatesTokenCount");
        assert_eq!(count("totalTokenCount"), sum);
    }
}

#[tokio::test]
async fn a_stream_of_events_is_framed_with_crlf_and_has_usage_on_every_chunk() {
    let bench = Bench::start().await;
    let answer = bench.post("streamGenerateContent?alt=sse", &prompt("hello")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap();
    assert!(text.ends_with("}\r\n\r\n") && !text.contains("[DONE]"), "{text:?}");
    let events: Vec<Value> = text
        .split_terminator("\r\n\r\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event["usageMetadata"]["totalTokenCount"].is_u64()));
    let finishes: Vec<bool> =
        events.iter().map(|event| event["candidates"][0].get("finishReason").is_some()).collect();
    assert_eq!(finishes, [false, false, true]);
    let pieces =
        events.iter().map(|event| event["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap());
    assert_eq!(pieces.collect::<String>(), "echo: hello");
    let (_, whole) = read(bench.generated().await).await;
    assert_eq!(events[2]["usageMetadata"], whole["usageMetadata"], "the last chunk has the final usage");
}

#[tokio::test]
async fn a_stream_without_events_is_one_json_array() {
    let bench = Bench::start().await;
    let answer = bench.post("streamGenerateContent", &prompt("hello")).send().await.unwrap();
    let (status, answer) = read(answer).await;
    assert_eq!(status, 200);
    assert_eq!(answer.as_array().unwrap().len(), 3);
    assert_eq!(answer[2]["candidates"][0]["finishReason"], "STOP");
}

#[tokio::test]
async fn tokens_are_counted_and_texts_embedded() {
    let bench = Bench::start().await;
    let (_, counted) = read(bench.post("countTokens", &prompt("12345")).send().await.unwrap()).await;
    assert_eq!(counted, json!({"totalTokens": 2}));
    let text = json!({"content": {"parts": [{"text": "x"}]}});
    let (_, one) = read(bench.post("embedContent", &text).send().await.unwrap()).await;
    let values = &one["embedding"]["values"];
    assert!(values.as_array().is_some_and(|values| !values.is_empty()));
    let batch = json!({"requests": [text, text]});
    let (_, many) = read(bench.post("batchEmbedContents", &batch).send().await.unwrap()).await;
    assert_eq!(many["embeddings"], json!([{"values": values}, {"values": values}]));
}

#[tokio::test]
async fn models_are_listed_and_shown() {
    let bench = Bench::with(config().with_models(&["one", "two"])).await;
    let get = |path: &str| bench.http.get(bench.url(path)).header("x-goog-api-key", KEY).send();
    let (_, all) = read(get("v1/models").await.unwrap()).await;
    assert_eq!(all["models"].as_array().unwrap().len(), 2);
    let (_, first) = read(get("v1/models?pageSize=1").await.unwrap()).await;
    assert_eq!(first["models"].as_array().unwrap().len(), 1);
    let (_, two) = read(get("v1beta/models/two").await.unwrap()).await;
    assert_eq!(two["name"], "models/two");
}

#[tokio::test]
async fn an_unknown_model_is_not_found_and_an_unknown_method_neither() {
    let bench = Bench::with(config().with_models(&["one"])).await;
    let (status, body) = read(bench.generated().await).await;
    assert_eq!((status, &body["error"]["status"]), (404, &json!("NOT_FOUND")));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("models/{MODEL} is not found for API version v1beta")), "{message}");
    let answer = bench.post("dance", &prompt("x")).send().await.unwrap();
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn a_body_that_is_no_json_or_lacks_its_contents_is_an_invalid_argument() {
    let bench = Bench::start().await;
    for body in ["{", "{}", r#"{"contents": []}"#] {
        let request = bench.generate().body(body.to_owned());
        let (status, answer) = read(request.send().await.unwrap()).await;
        assert_eq!((status, &answer["error"]["status"]), (400, &json!("INVALID_ARGUMENT")), "{body}");
    }
    assert!(bench.fake.verdict().lines.is_empty(), "a bad request counts against no quota");
}

#[tokio::test]
async fn a_key_is_taken_from_the_header_alone_without_complaint() {
    let bench = Bench::start().await;
    let url = bench.url(&format!("v1/models/{MODEL}:generateContent"));
    let bare = || bench.http.post(&url).json(&prompt("x"));

    let (status, body) = read(bare().send().await.unwrap()).await;
    assert_eq!((status, &body["error"]["status"]), (403, &json!("PERMISSION_DENIED")));
    assert!(
        body["error"]["message"].as_str().unwrap().starts_with("Method doesn't allow unregistered callers")
    );

    let unknown = bare().header("x-goog-api-key", "fake-key-nobody");
    let (status, body) = read(unknown.send().await.unwrap()).await;
    assert_eq!((status, &body["error"]["details"][0]["reason"]), (400, &json!("API_KEY_INVALID")));

    let twice = bare().header("x-goog-api-key", KEY).header("x-goog-api-key", KEY);
    let (status, body) = read(twice.send().await.unwrap()).await;
    assert_eq!(status, 400);
    assert!(body["error"]["message"].as_str().unwrap().contains("Multiple authentication credentials"));
    assert_eq!(bench.fake.verdict().keys_in_url, 0);

    let in_url = bench.http.post(format!("{url}?key={KEY}")).json(&prompt("x"));
    assert_eq!(in_url.send().await.unwrap().status(), 200, "Google takes it");
    assert_eq!(bench.fake.verdict().keys_in_url, 1, "but the verdict tells of it");
}
