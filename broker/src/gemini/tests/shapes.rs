//! Every row in every shape, details in every order, and what several violations in one body mean.

use serde_json::{Value, json};

use super::super::{Dimension, LearnedQuota, Scope, Signal, Window};
use super::bodies::*;
use super::{answer, fake_key, secs};

/// A body of each row that has one, with the status it comes with.
pub(super) fn samples() -> Vec<(u16, Value, Signal)> {
    let refused = |status, name, message: &str| error(status, name, message, vec![]);
    let denied = |message: &str| refused(403, "PERMISSION_DENIED", message);
    let spent = |message: &str| refused(429, "RESOURCE_EXHAUSTED", message);
    vec![
        (429, minute(Some("34s")), Signal::MinuteQuota),
        (429, day(Some("26s")), Signal::DailyQuota),
        (429, quota(vec![violation(DAY_ID, Some("0"))], None), Signal::ModelNotOffered),
        (429, opaque(), Signal::Capacity),
        (429, spent("Your billing account has exceeded its spend rate limit."), Signal::SpendRate),
        (429, spent("Your project has exceeded its monthly spending cap."), Signal::SpendCap),
        (429, spent("Your prepayment credits are depleted."), Signal::CreditDepleted),
        (400, invalid_key(), Signal::KeyInvalid),
        (
            401,
            reasoned(401, "UNAUTHENTICATED", "Expected OAuth 2.", "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
            Signal::KeyBinding,
        ),
        (403, leaked(), Signal::KeyLeaked),
        (403, suspended(&fake_key()), Signal::KeySuspended),
        (403, reasoned(403, "PERMISSION_DENIED", "Off.", "SERVICE_DISABLED"), Signal::ProjectDisabled),
        (403, reasoned(403, "PERMISSION_DENIED", "No.", "API_KEY_SERVICE_BLOCKED"), Signal::KeyRestricted),
        (403, denied("You do not have permission to access the File f."), Signal::WrongProject),
        (403, denied("The caller does not have permission"), Signal::PermissionUnclear),
        (
            400,
            refused(400, "INVALID_ARGUMENT", "Multiple authentication credentials received."),
            Signal::RequestFault,
        ),
        (
            400,
            refused(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
            Signal::RegionUnsupported,
        ),
        (400, refused(400, "INVALID_ARGUMENT", "Invalid JSON payload received."), Signal::RequestFault),
        (404, refused(404, "NOT_FOUND", "m is no longer available to new users."), Signal::ModelClosed),
        (503, overloaded(), Signal::ModelOverloaded),
        (500, refused(500, "INTERNAL", "An internal error has occurred."), Signal::ServerFault),
    ]
}

#[test]
fn every_row_is_the_same_in_every_shape() {
    for (status, body, signal) in samples() {
        let expected = answer(status, body.to_string());
        assert_eq!(expected.signal, signal);
        let pretty = serde_json::to_string_pretty(&body).unwrap();
        let chunk = json!({"candidates": [{"content": {"parts": [{"text": "Hello"}]}}]});
        // As an SDK gives it when it puts the whole answer into an error of its own.
        let nested = json!({"error": {"message": pretty, "code": status, "status": "Too Many Requests"}});
        let whole = [
            json!([body]).to_string(),
            pretty.clone(),
            format!("\u{feff}  {pretty}\r\n"),
            nested.to_string(),
            format!("data: {body}\r\n\r\n"),
            body["error"].to_string(),
        ];
        for text in whole {
            assert_eq!(answer(status, &text), expected, "{text}");
        }
        let streams = [
            body.to_string(),
            format!("data: {body}\r\n\r\n"),
            format!("data: {chunk}\r\n\r\ndata: {body}\r\n\r\n"),
            format!("data:{chunk}\n\nevent: error\ndata:{body}\n\n"),
            format!("data: {chunk}\r\n\r\n{pretty}"),
            format!("data: {}\n\n", pretty.replace('\n', "\ndata: ")),
            format!("[{chunk}\n,\r\n{body}\n]"),
            format!("[{chunk}\n,\r\n{body}"),
            format!("data: {{\"candidates\": [cut\r\n\r\ndata: {body}\r\n\r\n"),
        ];
        for text in streams {
            assert_eq!(answer(200, &text), expected, "{text}");
        }
    }
}

#[test]
fn the_codes_of_the_interactions_api_rule_inside_a_stream() {
    for (code, signal) in [
        ("quota_exceeded", Signal::DailyQuota),
        ("too_many_requests", Signal::Capacity),
        ("invalid_request", Signal::RequestFault),
        ("not_found", Signal::RequestFault),
        ("permission_denied", Signal::PermissionUnclear),
        ("internal_error", Signal::ServerFault),
        ("unavailable", Signal::ModelOverloaded),
        ("a_code_of_tomorrow", Signal::Unreadable),
    ] {
        let body = json!({"event_type": "error", "error": {"code": code, "message": "No."}});
        assert_eq!(answer(200, format!("event: error\ndata: {body}\n\n")).signal, signal, "{code}");
    }
}

#[test]
fn the_numbers_of_rpc_codes_rule_inside_a_stream() {
    for (code, signal) in [(8, Signal::Capacity), (13, Signal::ServerFault), (14, Signal::ModelOverloaded)] {
        assert_eq!(
            answer(200, json!({"error": {"code": code, "message": "No."}}).to_string()).signal,
            signal
        );
    }
}

#[test]
fn a_good_answer_without_an_error_is_unreadable_and_penalises_nobody() {
    let words = json!({"candidates": [{"content": {"parts": [{"text": "{\"error\":{\"code\":400,\"message\":\"API_KEY_INVALID\"}}"}]}}]});
    let call = json!({"candidates": [{"content": {"parts": [
        {"functionCall": {"name": "f", "args": {"error": {"code": 403, "message": "reported as leaked"}}}},
    ]}}]});
    let cut = call.to_string();
    let cut = &cut[..cut.len() - 30];
    for body in [
        "",
        "OK",
        "<html>API_KEY_INVALID</html>",
        &words.to_string(),
        &call.to_string(),
        cut,
        "null",
        "[]",
        "{}",
    ] {
        let decision = answer(200, body);
        assert_eq!((decision.signal, decision.blocks), (Signal::Unreadable, vec![]), "{body}");
    }
}

#[test]
fn a_status_that_is_no_error_is_unreadable() {
    for status in [0, 100, 199, 301, 302, 399, 600, u16::MAX] {
        let decision = answer(status, invalid_key().to_string());
        assert_eq!((decision.signal, decision.blocks), (Signal::Unreadable, vec![]), "{status}");
    }
}

#[test]
fn the_order_of_details_and_violations_is_no_matter() {
    let violations = [
        violation(MINUTE_ID, Some("5")),
        violation(DAY_ID, Some("20")),
        violation(TOKENS_ID, Some("250000")),
    ];
    let mut seen = Vec::new();
    for shift in 0..3 {
        let mut turned = violations.to_vec();
        turned.rotate_left(shift);
        let mut details = vec![help(), quota_failure(turned), retry_info("26s"), info("RATE_LIMIT_EXCEEDED")];
        for _ in 0..details.len() {
            details.rotate_left(1);
            for reversed in [false, true] {
                let mut details = details.clone();
                if reversed {
                    details.reverse();
                }
                seen.push(answer(
                    429,
                    error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", details).to_string(),
                ));
            }
        }
    }
    assert_eq!(seen[0].signal, Signal::DailyQuota, "the longest-lived violation rules");
    assert!(seen.iter().all(|decision| *decision == seen[0]));
}

#[test]
fn every_quota_value_is_learned() {
    let body = quota(
        vec![violation(DAY_ID, Some("20")), violation(TOKENS_ID, None), violation(DAY_ID, Some("20"))],
        None,
    );
    let lesson = |id: &str, value, dimension, window| LearnedQuota {
        quota_id: id.into(),
        quota_value: value,
        quota_model: Some("gemini-3.8-flash".into()),
        dimension,
        window,
    };
    assert_eq!(
        answer(429, body.to_string()).learned,
        [
            lesson(TOKENS_ID, None, Dimension::InputTokens, Window::Minute),
            lesson(DAY_ID, Some(20), Dimension::Requests, Window::Day),
        ]
    );
}

#[test]
fn several_quotas_in_one_body_are_all_learned_and_the_longest_lived_rules() {
    let other_model = |mut violation: Value| {
        violation["quotaDimensions"]["model"] = json!("gemini-embedding-1.0");
        violation
    };
    let tokens_of_a_day = "GenerateContentInputTokensPerModelPerDay-FreeTier";
    let body = quota(
        vec![
            violation(MINUTE_ID, Some("5")),
            other_model(violation(tokens_of_a_day, Some("1000000"))),
            violation(TOKENS_ID, Some("250000")),
        ],
        Some("26s"),
    );
    let decision = answer(429, body.to_string());
    assert_eq!(decision.signal, Signal::DailyQuota);
    let facts = |quota: &LearnedQuota| {
        (quota.quota_value, quota.dimension, quota.window, quota.quota_model.clone().unwrap())
    };
    let learned: Vec<_> = decision.learned.iter().map(facts).collect();
    let flash = || "gemini-3.8-flash".to_owned();
    assert_eq!(
        learned,
        [
            (Some(1_000_000), Dimension::InputTokens, Window::Day, "gemini-embedding-1.0".to_owned()),
            (Some(250_000), Dimension::InputTokens, Window::Minute, flash()),
            (Some(5), Dimension::Requests, Window::Minute, flash()),
        ]
    );
}

#[test]
fn a_limit_of_zero_is_a_verdict_and_never_a_limit_to_go_by() {
    let body = quota(vec![violation(DAY_ID, Some("0")), violation(MINUTE_ID, Some("5"))], None);
    let decision = answer(429, body.to_string());
    assert_eq!(decision.signal, Signal::ModelNotOffered);
    let values: Vec<_> = decision.learned.iter().map(|quota| quota.quota_value).collect();
    assert_eq!(values, [None, Some(5)]);
}

#[test]
fn names_that_are_not_names_are_not_learned() {
    let mut spoiled = violation(DAY_ID, Some("-1"));
    spoiled["quotaDimensions"]["model"] = json!("a model\nwith lines");
    let decision =
        answer(429, quota(vec![spoiled, violation("Per Day!", Some("3")), json!(7)], None).to_string());
    assert_eq!(decision.learned.len(), 1);
    assert_eq!((decision.learned[0].quota_value, &decision.learned[0].quota_model), (None, &None));
}

#[test]
fn the_quota_limit_of_an_error_info_tells_the_window() {
    let mut info = info("RATE_LIMIT_EXCEEDED");
    info["metadata"]["quota_limit"] = json!("GenerateContentRequestsPerMinutePerProjectPerRegion");
    info["metadata"]["quota_limit_value"] = json!("60");
    let decision = answer(429, error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", vec![info]).to_string());
    assert_eq!(decision.signal, Signal::MinuteQuota);
    assert_eq!(decision.blocks[0].length.steps, [secs(60)]);
}

#[test]
fn words_tell_the_window_when_nothing_else_does() {
    for (words, signal) in
        [("requests per day", Signal::DailyQuota), ("requests per minute", Signal::MinuteQuota)]
    {
        let message = format!("Quota exceeded for quota metric 'Requests' and limit '{words} per user'.");
        assert_eq!(
            answer(429, error(429, "RESOURCE_EXHAUSTED", &message, vec![]).to_string()).signal,
            signal
        );
    }
}

#[test]
fn a_server_that_fails_blames_no_key_whatever_its_body_says() {
    for status in [408, 500, 502, 503, 504] {
        for (_, body, _) in samples() {
            let decision = answer(status, body.to_string());
            let of_the_model = decision.blocks.iter().all(|block| block.scope == Scope::Model);
            assert!(of_the_model && decision.health == 0, "{status} {body}");
            assert_eq!(decision.blocks.is_empty(), status != 503, "only an overload opens the breaker");
        }
    }
}
