//! How many input tokens a request may cost, before anyone has counted them.

use std::{fmt, sync::Arc};

use serde_json::Value;

/// What bytes that are no text (an image, a file by reference) are taken for.
const MEDIA: u64 = 2_240;
/// Longer media is taken for one token to this many base64 characters.
const MEDIA_BYTES: u64 = 40;

/// The caller's function.
#[derive(Clone)]
pub(crate) struct Estimator(pub(crate) Arc<dyn Fn(&Value) -> i64 + Send + Sync>);

impl fmt::Debug for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Estimator")
    }
}

/// An upper estimate of the input tokens of a request body, made locally.
///
/// A token is at least one byte, so the bytes would be a strict upper bound, but one about four
/// times too high for prose, which would leave most of a quota unused while requests are under way.
/// A flat half of the bytes is too low for tables of numbers, since every digit is a token of its
/// own. So the bytes are counted by what they are: a digit, a mark or a line break as one token;
/// a letter, a space or a byte beyond ASCII as half of one. That is high for every language's prose
/// (by about two) and for code, and holds for numbers. Media counts by its size, with a flat
/// allowance at least; a file given by reference counts that allowance only, as its size is not
/// known here.
///
/// It need not be exact: the broker corrects the charge by the usage that is reported. Requests
/// with large files by reference deserve an estimator of their own, see
/// [`GeminiBuilder::estimator`](super::GeminiBuilder::estimator).
pub fn estimate_input_tokens(body: &Value) -> i64 {
    let mut halves = 0;
    walk(body, &mut halves);
    i64::try_from(halves.div_ceil(2)).unwrap_or(i64::MAX)
}

fn walk(value: &Value, halves: &mut u64) {
    match value {
        Value::String(text) => *halves += text_halves(text),
        Value::Array(items) => items.iter().for_each(|item| walk(item, halves)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match (name.as_str(), field) {
                    ("inlineData" | "inline_data", Value::Object(blob)) => {
                        let size = blob.get("data").and_then(Value::as_str).map_or(0, str::len) as u64;
                        *halves += 2 * MEDIA.max(size / MEDIA_BYTES);
                    }
                    ("fileData" | "file_data", Value::Object(_)) => *halves += 2 * MEDIA,
                    // Names of fields count too: schemas consist of them, and in a conversation they
                    // stand for what separates its turns.
                    _ => {
                        *halves += text_halves(name);
                        walk(field, halves);
                    }
                }
            }
        }
        Value::Number(number) => *halves += text_halves(&number.to_string()),
        Value::Bool(_) | Value::Null => *halves += 2,
    }
}

fn text_halves(text: &str) -> u64 {
    text.bytes().map(|b| if b.is_ascii_alphabetic() || b == b' ' || !b.is_ascii() { 1 } else { 2 }).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_text(text: &str) -> i64 {
        estimate_input_tokens(&Value::from(text))
    }

    #[test]
    fn prose_counts_half_of_its_bytes_and_numbers_all_of_them() {
        assert_eq!(of_text("four word text here"), 10);
        assert_eq!(of_text("1234567890"), 10);
        assert_eq!(of_text("日本語"), 5);
        assert_eq!(of_text("a\nb\n"), 3);
        assert_eq!(of_text(""), 0);
    }

    #[test]
    fn media_counts_by_size_with_an_allowance_at_least() {
        let small = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
        assert_eq!(estimate_input_tokens(&small), 2_240);
        let large = json!({"inlineData": {"mimeType": "image/png", "data": "A".repeat(400_000)}});
        assert_eq!(estimate_input_tokens(&large), 10_000);
        let file = json!({"fileData": {"fileUri": "https://files.example/1"}});
        assert_eq!(estimate_input_tokens(&file), 2_240);
    }

    #[test]
    fn everything_in_the_body_counts() {
        let without = json!({"contents": [{"parts": [{"text": "hello"}]}]});
        let mut with = without.clone();
        with["systemInstruction"] = json!({"parts": [{"text": "be brief"}]});
        assert!(estimate_input_tokens(&with) > estimate_input_tokens(&without));
    }
}
