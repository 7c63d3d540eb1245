//! Every error answer the fake can give.

use keybroker_tests::fake_gemini::{Fault, FaultRule, NamedError, Shape};
use serde_json::Value;

use crate::support::{Bench, KEY};

#[tokio::test]
async fn every_error_answer_is_sent_whole_and_parses() {
    let bench = Bench::start().await;
    for &name in NamedError::ALL {
        bench.fake.clear_faults();
        bench.fake.add_fault(FaultRule::always(Fault::Error { name }));
        let answer = bench.generated().await;
        let status = answer.status().as_u16();
        assert!((400..600).contains(&status), "{name:?} has status {status}");
        let is_json = answer.headers()["content-type"].to_str().unwrap().contains("json");
        let text = answer.text().await.unwrap();
        if name == NamedError::BadGateway {
            assert!(!is_json && text.contains("<html"), "a front end answers with a page");
            continue;
        }
        let body: Value = serde_json::from_str(&text).unwrap();
        let error = &body["error"];
        assert!(is_json && error["message"].as_str().is_some_and(|message| !message.is_empty()), "{text}");
        match name {
            NamedError::InteractionsQuotaExceeded => assert_eq!(error["code"], "quota_exceeded"),
            NamedError::InteractionsTooManyRequests => assert_eq!(error["code"], "too_many_requests"),
            _ => assert_eq!(error["code"], status, "{name:?}"),
        }
    }
}

#[tokio::test]
async fn an_error_can_be_asked_for_in_another_shape() {
    let bench = Bench::start().await;
    for (shape, content_type, beginning) in [
        (Shape::Array, "application/json", "[{"),
        (Shape::Interactions, "application/json", "{\"error\":{\"code\":\"quota_exceeded\""),
        (Shape::Text, "text/plain", "You exceeded your current quota"),
        (Shape::Html, "text/html", "<!DOCTYPE html>"),
    ] {
        bench.fake.clear_faults();
        bench.fake.add_fault(FaultRule::always(Fault::ShapedError { name: NamedError::Daily429, shape }));
        let answer = bench.generated().await;
        assert_eq!(answer.status(), 429);
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with(content_type), "{shape:?}");
        let text = answer.text().await.unwrap();
        assert!(text.starts_with(beginning), "{shape:?}: {text}");
    }
}

#[tokio::test]
async fn an_answer_can_be_withheld_which_is_no_error() {
    let bench = Bench::start().await;
    bench.fake.add_fault(FaultRule::always(Fault::Withheld));
    let answer = bench.generated().await;
    assert_eq!(answer.status(), 200);
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(body["candidates"][0]["finishReason"], "SAFETY");
}

#[tokio::test]
async fn every_error_answer_can_be_asked_for_by_its_name() {
    let names = NamedError::ALL.iter().map(|name| serde_json::to_value(name).unwrap());
    let names: Vec<String> = names.map(|name| name.as_str().unwrap().to_owned()).collect();
    for expected in ["suspended", "leaked", "invalid", "opaque_429", "daily_429", "minute_429", "overloaded"]
    {
        assert!(names.iter().any(|name| name == expected), "{expected} is not among {names:?}");
    }
}

#[tokio::test]
async fn the_answer_for_a_suspended_key_shows_the_whole_key_twice_and_no_other_does() {
    let bench = Bench::start().await;
    for &name in NamedError::ALL {
        bench.fake.clear_faults();
        bench.fake.add_fault(FaultRule::always(Fault::Error { name }));
        let shown = bench.generated().await.text().await.unwrap().matches(KEY).count();
        assert_eq!(shown, if name == NamedError::Suspended { 2 } else { 0 }, "{name:?}");
    }
}
