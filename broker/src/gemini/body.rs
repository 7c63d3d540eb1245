//! Finding the error object in a body, in whichever of its shapes it came.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde_json::{Map, Value};

use super::{MAX_BODY, delay, salvage, status};
use crate::secret::holds_a_key;

/// No real body lists more; a hostile one must not make the broker work or remember without bound.
const MOST_DETAILS: usize = 64;

/// What an error body says, whatever its shape was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ErrorBody {
    /// The HTTP status that the error object itself names.
    pub(super) status: Option<u16>,
    /// The code of the Interactions API, in snake_case.
    pub(super) code_name: Option<String>,
    pub(super) message: String,
    /// Every `ErrorInfo.reason`.
    pub(super) reasons: Vec<String>,
    /// Every quota named as violated.
    pub(super) violations: Vec<Violation>,
    pub(super) retry_delay: Option<Duration>,
    /// False if the facts were picked out of text that is not whole JSON; they are then good enough
    /// to classify by and too poor to learn from.
    pub(super) whole: bool,
}

/// One violated quota.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) quota_id: Option<String>,
    pub(super) value: Option<u64>,
    pub(super) model: Option<String>,
}

/// What was found in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Error(ErrorBody),
    /// An answer without an error that a safety filter withheld.
    Blocked,
    /// No error in it.
    Nothing,
}

/// Reads a body. Inside a stream that began well, only an error object at the top counts: the rest is
/// the model's own words, which may look like anything.
pub(super) fn parse(bytes: &[u8], in_stream: bool) -> Body {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BODY)]);
    let text = unframed(text.trim_start_matches('\u{feff}'));
    let (values, tail) = top_values(&text);
    if let Some(error) = values.iter().rev().find_map(|value| wrapped_error(value, 1)) {
        return Body::Error(error);
    }
    if !in_stream {
        return Body::Error(
            values.iter().rev().find_map(bare_error).unwrap_or_else(|| salvage::from_text(&text)),
        );
    }
    if tail.is_some_and(opens_an_error) {
        return Body::Error(salvage::from_text(tail.unwrap_or_default()));
    }
    if values.iter().any(is_blocked) { Body::Blocked } else { Body::Nothing }
}

/// Takes away the `data:` that begins each line of a server-sent event. A raw line break cannot stand
/// inside a JSON string, so no value is harmed.
fn unframed(text: &str) -> Cow<'_, str> {
    static DATA: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?m)^[ \t]*data:").expect("the pattern is valid"));
    DATA.replace_all(text, "")
}

/// The objects at the top of the text in order, whether they stand alone, in an array or in events, and the
/// first one that could not be read. Arrays are not nested here: their brackets are skipped, so that an
/// array which was cut still yields its whole elements.
fn top_values(text: &str) -> (Vec<Value>, Option<&str>) {
    static BLANK_LINE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\r?\n\r?\n").expect("the pattern is valid"));
    let mut values = Vec::new();
    let mut tail = None;
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '[' | ']' | ','));
        if rest.is_empty() {
            return (values, tail);
        }
        if !rest.starts_with('{') {
            // The name of an event, a comment, or prose.
            rest = rest.split_once('\n').map_or("", |(_, next)| next);
            continue;
        }
        let mut reader = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match reader.next() {
            Some(Ok(value)) => {
                rest = &rest[reader.byte_offset()..];
                values.push(value);
            }
            _ => {
                tail = tail.or(Some(rest));
                // Events end with an empty line, and the JSON of one object holds none.
                rest = BLANK_LINE.find(rest).map_or("", |blank| &rest[blank.end()..]);
            }
        }
    }
}

fn opens_an_error(text: &str) -> bool {
    static OPENING: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"^\{\s*(?:"event_type"\s*:\s*"error"\s*,\s*)?"error"\s*:"#)
            .expect("the pattern is valid")
    });
    OPENING.is_match(text)
}

/// Reads `{"error": ...}`. Some SDKs put the text of Google's whole body into the message of an error of
/// their own, so a message that is such an object is read instead, `depth` times at most.
fn wrapped_error(value: &Value, depth: u8) -> Option<ErrorBody> {
    match value.get("error")? {
        Value::Object(error) => Some(from_object(error, depth)),
        Value::String(message) => {
            Some(ErrorBody { message: message.clone(), whole: true, ..ErrorBody::default() })
        }
        _ => None,
    }
}

/// Reads an error object that lost its wrapper, or a gateway's `{"message": ...}`.
fn bare_error(value: &Value) -> Option<ErrorBody> {
    let object = value.as_object()?;
    object.get("message")?.as_str()?;
    Some(from_object(object, 1))
}

fn from_object(object: &Map<String, Value>, depth: u8) -> ErrorBody {
    let message = text_at(object.get("message")).unwrap_or_default();
    if depth > 0
        && message.trim_start().starts_with(['{', '['])
        && let (values, _) = top_values(message)
        && let Some(inner) = values.iter().rev().find_map(|value| wrapped_error(value, depth - 1))
    {
        let outer = named_status(object);
        return ErrorBody { status: inner.status.or(outer), ..inner };
    }
    let mut body = ErrorBody {
        status: named_status(object),
        code_name: text_at(object.get("code"))
            .filter(|code| code.parse::<u64>().is_err())
            .map(str::to_lowercase),
        message: message.to_owned(),
        whole: true,
        ..ErrorBody::default()
    };
    let details = object.get("details").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for detail in details.iter().take(MOST_DETAILS) {
        read_detail(detail, &mut body);
    }
    body
}

/// The status that an error object names: by its number if it has one, else by its name.
fn named_status(object: &Map<String, Value>) -> Option<u16> {
    let code = object.get("code");
    number_at(code)
        .and_then(status::from_number)
        .or_else(|| text_at(object.get("status")).and_then(status::from_name))
        .or_else(|| text_at(code).and_then(status::from_name))
}

/// Takes what a detail tells. The fields decide and not the `@type`, which proxies have been seen to drop.
fn read_detail(detail: &Value, body: &mut ErrorBody) {
    if let Some(reason) = text_at(detail.get("reason")) {
        body.reasons.push(reason.to_owned());
    }
    if let Some(limit) = text_at(detail.pointer("/metadata/quota_limit")).and_then(identifier) {
        body.violations.push(Violation { quota_id: Some(limit), ..Violation::default() });
    }
    let violations = detail.get("violations").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let room = MOST_DETAILS.saturating_sub(body.violations.len());
    body.violations.extend(violations.iter().take(room).filter(|violation| violation.is_object()).map(
        |violation| Violation {
            quota_id: text_at(violation.get("quotaId")).and_then(identifier),
            value: number_at(violation.get("quotaValue")),
            model: text_at(violation.pointer("/quotaDimensions/model")).and_then(identifier),
        },
    ));
    let delay = text_at(detail.get("retryDelay")).and_then(delay::from_protobuf);
    body.retry_delay = body.retry_delay.max(delay);
}

fn text_at(value: Option<&Value>) -> Option<&str> {
    value?.as_str()
}

/// A whole number, which JSON of protobuf writes as a string when it has 64 bits.
fn number_at(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A name that may be remembered: short, of harmless characters and no key, since it came from outside.
fn identifier(text: &str) -> Option<String> {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (!text.is_empty() && text.len() <= 128 && text.bytes().all(harmless) && !holds_a_key(text))
        .then(|| text.to_owned())
}

/// Whether a filter withheld the answer.
fn is_blocked(value: &Value) -> bool {
    const WITHHELD: [&str; 10] = [
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
    ];
    let candidates = value.get("candidates").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    value.pointer("/promptFeedback/blockReason").is_some_and(Value::is_string)
        || candidates
            .iter()
            .filter_map(|candidate| text_at(candidate.get("finishReason")))
            .any(|reason| WITHHELD.contains(&reason))
}
