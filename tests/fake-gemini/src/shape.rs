//! The shapes in which one and the same error reaches a client.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::bodies::ErrorBody;

/// A shape that is not Google's usual object. (An error inside a stream is a fault of its own:
/// [`Fault::InStreamError`](super::Fault::InStreamError).)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The usual object as the only element of an array.
    Array,
    /// As the Interactions API has it: a word for the code, a message, and no details.
    Interactions,
    /// The message alone, as plain text.
    Text,
    /// The message in a page, as front ends and proxies answer.
    Html,
}

impl Shape {
    /// The same answer in this shape. A body that is no JSON has no other shape than its own.
    pub fn of(self, body: ErrorBody) -> ErrorBody {
        let Ok(json) = serde_json::from_str::<Value>(&body.text) else { return body };
        let message = json.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
        let status = body.status;
        match self {
            Self::Array => ErrorBody { text: format!("[{}\n]\n", body.text), ..body },
            Self::Interactions => {
                let error = json!({"code": code_word(status, &body.text), "message": message});
                ErrorBody { text: json!({ "error": error }).to_string(), ..body }
            }
            Self::Text => {
                ErrorBody { status, content_type: "text/plain; charset=UTF-8", text: message.to_owned() }
            }
            Self::Html => {
                let text = format!(
                    "<!DOCTYPE html>\n<html><title>Error {status}</title><p><b>{status}.</b> {message}</html>\n"
                );
                ErrorBody { status, content_type: "text/html; charset=UTF-8", text }
            }
        }
    }
}

/// The word that the Interactions API has for an error; a spent day has one of its own.
fn code_word(status: u16, text: &str) -> &'static str {
    match status {
        429 if text.contains("PerDay") => "quota_exceeded",
        429 => "too_many_requests",
        401 => "authentication_error",
        403 => "permission_denied",
        404 => "not_found",
        400..=499 => "invalid_request",
        503 => "unavailable",
        504 => "gateway_timeout",
        _ => "internal_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bodies;

    #[test]
    fn an_error_keeps_its_status_and_its_words_in_every_shape() {
        for shape in [Shape::Array, Shape::Interactions, Shape::Text, Shape::Html] {
            let body = shape.of(bodies::leaked());
            assert_eq!(body.status, 403);
            assert!(body.text.contains("reported as leaked"), "{shape:?}: {}", body.text);
        }
    }

    #[test]
    fn the_interactions_api_has_no_details_and_a_word_for_a_spent_day() {
        let named = bodies::quota_429(&[], std::time::Duration::from_secs(1));
        let word = |body: ErrorBody| {
            let json: Value = serde_json::from_str(&Shape::Interactions.of(body).text).unwrap();
            assert_eq!(json.pointer("/error/details"), None);
            json["error"]["code"].as_str().unwrap().to_owned()
        };
        assert_eq!(word(named.clone()), "too_many_requests");
        assert_eq!(
            word(ErrorBody {
                text: named.text.replace("\"details\":", "\"PerDay\":1,\"details\":"),
                ..named
            }),
            "quota_exceeded"
        );
        assert_eq!(word(bodies::internal()), "internal_error");
    }

    #[test]
    fn a_page_stays_a_page() {
        assert_eq!(Shape::Array.of(bodies::bad_gateway()), bodies::bad_gateway());
    }
}
