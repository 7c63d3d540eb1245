//! How many input tokens a request has: a rule simple enough for a client to compute the same number.

use serde_json::Value;

/// The tokens of so many bytes of text: a quarter, rounded up, at least one.
///
/// ```
/// use keybroker_fake_gemini::tokens_of_bytes;
/// assert_eq!([tokens_of_bytes(0), tokens_of_bytes(4), tokens_of_bytes(5)], [1, 1, 2]);
/// ```
pub const fn tokens_of_bytes(bytes: u64) -> u64 {
    let tokens = bytes.div_ceil(4);
    if tokens == 0 { 1 } else { tokens }
}

/// The input tokens of a request body: the bytes of all its text parts (contents and system instruction;
/// for embeddings, the content of every text of the batch), as [`tokens_of_bytes`] counts them.
pub fn estimate_input_tokens(body: &Value) -> u64 {
    tokens_of_bytes(text_bytes(body))
}

fn text_bytes(body: &Value) -> u64 {
    let contents = ["contents", "content", "systemInstruction", "system_instruction"];
    let own: u64 = contents.iter().filter_map(|name| body.get(name)).map(bytes_of_contents).sum();
    let nested = body.get("generateContentRequest").map_or(0, text_bytes);
    let said = body.get("input").and_then(Value::as_str).map_or(0, |text| text.len() as u64);
    let batch = body.get("requests").and_then(Value::as_array);
    own + nested + said + batch.map_or(0, |requests| requests.iter().map(text_bytes).sum())
}

/// Google takes one content or a list of them in the same place.
fn bytes_of_contents(contents: &Value) -> u64 {
    match contents {
        Value::Array(list) => list.iter().map(bytes_of_contents).sum(),
        content => texts_of(content).map(|text| text.len() as u64).sum(),
    }
}

/// The text parts of one content, which may be a list of parts or a single one.
pub(crate) fn texts_of(content: &Value) -> impl Iterator<Item = &str> {
    let parts = content.get("parts");
    let list = match parts {
        Some(Value::Array(list)) => list.as_slice(),
        Some(single) => std::slice::from_ref(single),
        None => &[],
    };
    list.iter().filter_map(|part| part.get("text").and_then(Value::as_str))
}
