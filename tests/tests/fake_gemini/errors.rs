//! Every error answer the fake can give.

use keybroker_tests::fake_gemini::{Fault, FaultRule, NamedError};
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
        if name == NamedError::InteractionsQuotaExceeded {
            assert_eq!(error["code"], "quota_exceeded");
        } else {
            assert_eq!(error["code"], status, "{name:?}");
        }
    }
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
