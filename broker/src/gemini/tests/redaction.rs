//! What `redact` takes out, and what it leaves.

use super::super::{MAX_REDACTED, redact};
use super::bodies::suspended;
use super::fake_key;

const NO_KEYS: [&str; 0] = [];

#[test]
fn a_suspended_keys_body_shows_no_key() {
    let key = fake_key();
    let body = suspended(&key).to_string();
    for keys in [vec![key.as_str()], vec![]] {
        let text = redact(body.as_bytes(), keys.into_iter());
        assert!(!text.contains(&key), "{text}");
        assert!(text.contains("Permission denied: Consumer 'api_key:***' has been suspended."), "{text}");
        assert!(text.contains("CONSUMER_SUSPENDED"));
    }
}

#[test]
fn the_pools_own_keys_go_whatever_their_form() {
    assert_eq!(
        redact(b"a:plain-secret:b plain-secret", ["plain-secret", "absent", ""].into_iter()),
        "a:***:b ***"
    );
}

#[test]
fn keys_that_overlap_leave_no_piece() {
    assert_eq!(redact(b"<abcdef>", ["abcd", "cdef", "bc"].into_iter()), "<***>");
    assert_eq!(redact(b"abcabc", ["abc"].into_iter()), "***");
}

#[test]
fn secrets_are_known_by_their_forms() {
    let aq = format!("AQ.{}", "ab_C-9".repeat(5));
    for (text, expected) in [
        (format!("key {} used", fake_key()), "key *** used".to_owned()),
        (format!("key {aq}."), "key ***.".to_owned()),
        ("GET /v1/models?key=sesame&alt=sse".into(), "GET /v1/models?key=***&alt=sse".into()),
        ("/v1?alt=sse&key=sesame\"".into(), "/v1?alt=sse&key=***\"".into()),
        ("u=%2Fv1%3Fkey%3Dsesame done".into(), "u=%2Fv1%3Fkey%3D*** done".into()),
        ("Authorization: Bearer sesame, more".into(), "Authorization: Bearer ***, more".into()),
        ("'api_key:sesame' is".into(), "'api_key:***' is".into()),
        ("x-goog-api-key: sesame\n".into(), "x-goog-api-key: ***\n".into()),
        (r#"{"apiKey": "sesame", "a": 1}"#.into(), r#"{"apiKey": "***", "a": 1}"#.into()),
        (r#"{\"api_key\": \"sesame\"}"#.into(), r#"{\"api_key\": \"***\"}"#.into()),
        ("API key not valid.".into(), "API key not valid.".into()),
    ] {
        assert_eq!(redact(text.as_bytes(), NO_KEYS.into_iter()), expected, "{text}");
    }
}

#[test]
fn a_key_that_the_end_of_the_body_cuts_is_masked_too() {
    assert_eq!(redact(b"x plain-se", ["plain-secret"].into_iter()), "x ***");
    assert_eq!(redact(b"x plain-\xc3", ["plain-\u{e9}secret"].into_iter()), "x ***\u{fffd}");
}

#[test]
fn the_result_is_bounded_and_a_key_on_its_edge_is_masked() {
    for before in MAX_REDACTED - 40..MAX_REDACTED + 2 {
        let body = format!("{}secret-of-a-pool{}", "é".repeat(before / 2), "x".repeat(9_000));
        let text = redact(body.as_bytes(), ["secret-of-a-pool"].into_iter());
        assert!(text.len() <= MAX_REDACTED + '…'.len_utf8());
        assert!(text.ends_with('…') && !text.contains("secr"), "{before}");
    }
}
