//! Bodies that are not whole: cut, buried in prose, too deep, not text.

use serde_json::json;

use super::super::{MAX_BODY, Signal};
use super::bodies::*;
use super::{answer, fake_key, secs};

#[test]
fn a_body_that_was_cut_is_classified_by_what_is_left() {
    for (status, body, mark, signal) in [
        (400, invalid_key(), "API_KEY_INVALID", Signal::KeyInvalid),
        (403, suspended(&fake_key()), "CONSUMER_SUSPENDED", Signal::KeySuspended),
        (403, leaked(), "reported as leaked", Signal::KeyLeaked),
        (429, day(Some("26s")), "PerDayPerProject", Signal::DailyQuota),
        (429, minute(Some("26s")), "PerMinutePerProject", Signal::MinuteQuota),
    ] {
        let text = body.to_string();
        let cut = &text[..text.find(mark).unwrap() + mark.len()];
        for body in [cut.to_owned(), format!("<html><pre>{text}</pre></html>"), format!("got: {cut}")] {
            let decision = answer(status, &body);
            assert_eq!(decision.signal, signal, "{body}");
            assert_eq!(decision.learned, [], "torn text teaches nothing");
        }
    }
}

#[test]
fn a_cut_error_inside_a_stream_is_still_read() {
    let text = day(None).to_string();
    let cut = &text[..text.rfind("quotaValue").unwrap()];
    let cut = format!("data: {{\"candidates\":[]}}\r\n\r\ndata: {}", cut.replacen('{', "{ ", 1));
    // serde_json orders the fields of an error by name, so the code comes first.
    assert_eq!(answer(200, cut).signal, Signal::DailyQuota);
}

#[test]
fn the_delay_is_read_from_torn_text() {
    let text = minute(Some("34s")).to_string();
    let decision = answer(429, &text[..text.len() - 1]);
    assert_eq!(decision.blocks[0].length.steps, [secs(34)]);
}

#[test]
fn torn_text_of_a_bad_request_suspends_nobody_and_spends_no_quota() {
    let quoted = "{\"error\":{\"message\":\"Invalid value: CONSUMER_SUSPENDED GenerateRequestsPerDay reported as leaked";
    let decision = answer(400, quoted);
    assert_eq!((decision.signal, decision.blocks), (Signal::RequestFault, vec![]));
}

#[test]
fn bytes_that_are_not_text_are_read_around() {
    let mut body = b"\xff\xfe{\"error\":{\"message\":\"\xc3(".to_vec();
    body.extend_from_slice(b"\",\"details\":[{\"reason\":\"API_KEY_INVALID\"}]}}");
    assert_eq!(answer(400, &body).signal, Signal::KeyInvalid);
    assert_eq!(answer(429, [0xff; 100]).signal, Signal::Capacity);
}

#[test]
fn deep_nesting_is_read_as_text() {
    let deep = format!(
        "{{\"error\":{{\"code\":400,\"details\":[{{\"reason\":\"API_KEY_INVALID\"}},{}",
        "[".repeat(MAX_BODY)
    );
    assert_eq!(answer(400, deep).signal, Signal::KeyInvalid);
    assert_eq!(answer(429, "{\"a\":".repeat(20_000)).signal, Signal::Capacity);
    assert_eq!(answer(200, "[".repeat(MAX_BODY)).signal, Signal::Unreadable);
}

#[test]
fn only_the_first_bytes_are_read() {
    let late = format!("{}API_KEY_INVALID", " ".repeat(MAX_BODY));
    assert_eq!(answer(400, late).signal, Signal::RequestFault);
}

#[test]
fn fields_of_the_wrong_kind_are_passed_over() {
    let odd = json!({"error": {"code": [1], "message": 7, "status": {}, "details": [
        7, null, "API_KEY_INVALID", {"reason": 5}, {"violations": {}}, {"retryDelay": {"seconds": 3}},
    ]}});
    assert_eq!(answer(429, odd.to_string()).signal, Signal::Capacity);
    for odd in ["{\"error\":null}", "{\"error\":\"quota\"}", "{\"error\":[]}", "{\"message\":\"Forbidden\"}"]
    {
        assert_eq!(answer(403, odd).signal, Signal::PermissionUnclear, "{odd}");
    }
}

#[test]
fn a_hostile_list_of_violations_teaches_only_so_much() {
    let violations = (0..500).map(|n| violation(&format!("Requests{n}PerDay"), Some("1"))).collect();
    let decision = answer(429, quota(violations, None).to_string());
    assert!(decision.learned.len() <= 64);
}

#[test]
fn many_broken_values_are_read_in_reasonable_time() {
    let started = std::time::Instant::now();
    for piece in ["{\n\n", "{\"a\":[{},\n\n", "data: {\r\n\r\n", "{}", "\n"] {
        answer(200, piece.repeat(MAX_BODY / piece.len()));
        answer(429, piece.repeat(MAX_BODY / piece.len()));
    }
    // Seconds on a busy machine; a reading that is quadratic takes minutes.
    assert!(started.elapsed() < secs(30), "{:?}", started.elapsed());
}
