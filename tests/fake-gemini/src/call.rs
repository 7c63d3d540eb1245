//! Reading a call: what it asks for, whether it is well-formed, and what it costs.

use http::HeaderMap;
use serde_json::Value;

use super::bodies::{self, ErrorBody};
use super::judge::Cost;
use super::tokens::{estimate_input_tokens, texts_of};

/// Lets a test say how many input tokens its request has.
pub(crate) const TOKENS_HEADER: &str = "x-fake-input-tokens";
const KEY_HEADER: &str = "x-goog-api-key";
/// Google takes no more texts in one batch.
const LARGEST_BATCH: usize = 100;
/// How much of the prompt comes back in the reply.
const ECHO_CHARS: usize = 40;

/// The methods of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Generate,
    Stream,
    CountTokens,
    Embed,
    BatchEmbed,
    Interact,
    GetModel,
    ListModels,
}

impl Verb {
    /// The method named after the colon of a POST.
    pub(crate) fn posted(name: &str) -> Option<Self> {
        [Self::Generate, Self::Stream, Self::CountTokens, Self::Embed, Self::BatchEmbed]
            .into_iter()
            .find(|verb| verb.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Generate => "generateContent",
            Self::Stream => "streamGenerateContent",
            Self::CountTokens => "countTokens",
            Self::Embed => "embedContent",
            Self::BatchEmbed => "batchEmbedContents",
            Self::Interact => "interactions",
            Self::GetModel => "getModel",
            Self::ListModels => "listModels",
        }
    }

    /// Whether the quota pays for it. Counting tokens and looking at models is free.
    pub(crate) fn is_charged(self) -> bool {
        matches!(self, Self::Generate | Self::Stream | Self::Embed | Self::BatchEmbed | Self::Interact)
    }

    pub(crate) fn embeds(self) -> bool {
        matches!(self, Self::Embed | Self::BatchEmbed)
    }
}

/// The parts of a query string that matter here.
#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    pub(crate) key: Option<&'a str>,
    pub(crate) sse: bool,
    pub(crate) page_size: Option<usize>,
}

impl<'a> Query<'a> {
    pub(crate) fn read(query: &'a str) -> Self {
        let mut read = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "key" => read.key = Some(value),
                "alt" => read.sse = value == "sse",
                "pageSize" => read.page_size = value.parse().ok(),
                _ => {}
            }
        }
        read
    }
}

/// The one key of a call, wherever it was put.
pub(crate) fn key_of<'a>(headers: &'a HeaderMap, query: &Query<'a>) -> Result<&'a str, ErrorBody> {
    let in_headers = headers.get_all(KEY_HEADER).iter().map(|value| value.to_str().unwrap_or_default());
    let mut keys = in_headers.chain(query.key).filter(|key| !key.is_empty());
    let key = keys.next().ok_or_else(bodies::missing_key)?;
    if keys.next().is_some() {
        return Err(bodies::multiple_credentials());
    }
    Ok(key)
}

/// A call that is well-formed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Understood {
    pub(crate) cost: Cost,
    /// The beginning of the last text, to be sent back.
    pub(crate) echo: String,
}

/// Checks the body of a call and works out its cost.
pub(crate) fn understand(verb: Verb, headers: &HeaderMap, body: &[u8]) -> Result<Understood, ErrorBody> {
    if matches!(verb, Verb::GetModel | Verb::ListModels) {
        return Ok(Understood { cost: Cost { requests: 0, input_tokens: 0 }, echo: String::new() });
    }
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        bodies::bad_request(&format!("Invalid JSON payload received. Unexpected token.\n{error}"))
    })?;
    let requests = check_shape(verb, &body)?;
    let input_tokens = match headers.get(TOKENS_HEADER) {
        None => estimate_input_tokens(&body),
        Some(told) => told.to_str().ok().and_then(|told| told.parse().ok()).ok_or_else(|| {
            bodies::bad_request(&format!("{TOKENS_HEADER} must be a whole number of tokens."))
        })?,
    };
    Ok(Understood { cost: Cost { requests, input_tokens }, echo: echo_of(&body) })
}

/// The requests that the body costs, if it has what its method needs.
fn check_shape(verb: Verb, body: &Value) -> Result<u64, ErrorBody> {
    let missing = |what: &str| Err(bodies::bad_request(&format!("* {what} is not specified\n")));
    match verb {
        Verb::Generate | Verb::Stream if !is_filled(body.get("contents")) => {
            missing("GenerateContentRequest.contents: contents")
        }
        Verb::CountTokens
            if !is_filled(body.get("contents")) && !is_filled(body.get("generateContentRequest")) =>
        {
            missing("CountTokensRequest.contents: contents")
        }
        Verb::Interact if !is_said(body.get("input")) => missing("input: input"),
        Verb::Embed if !is_filled(body.get("content")) => missing("EmbedContentRequest.content: content"),
        Verb::BatchEmbed => {
            let texts = body.get("requests").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            if texts.is_empty() || !texts.iter().all(|text| is_filled(text.get("content"))) {
                return missing("BatchEmbedContentsRequest.requests: content");
            }
            if texts.len() > LARGEST_BATCH {
                let message =
                    format!("* BatchEmbedContentsRequest.requests: at most {LARGEST_BATCH} in one batch\n");
                return Err(bodies::bad_request(&message));
            }
            Ok(texts.len() as u64)
        }
        _ => Ok(1),
    }
}

/// A text, or contents.
fn is_said(input: Option<&Value>) -> bool {
    input.and_then(Value::as_str).is_some_and(|text| !text.is_empty()) || is_filled(input)
}

fn is_filled(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        _ => false,
    }
}

fn echo_of(body: &Value) -> String {
    if let Some(text) = body.get("input").and_then(Value::as_str) {
        return text.chars().take(ECHO_CHARS).collect();
    }
    let last = match body.get("contents") {
        Some(Value::Array(list)) => list.last(),
        single => single,
    };
    let text = last.and_then(|content| texts_of(content).last()).unwrap_or_default();
    text.chars().take(ECHO_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cost(verb: Verb, body: &Value) -> Cost {
        understand(verb, &HeaderMap::new(), body.to_string().as_bytes()).unwrap().cost
    }

    #[test]
    fn tokens_are_a_quarter_of_the_text_bytes_rounded_up() {
        let body = json!({
            "systemInstruction": {"parts": [{"text": "1234"}]},
            "contents": [{"parts": [{"text": "12345"}, {"inlineData": {}}]}, {"parts": [{"text": "é"}]}],
        });
        assert_eq!(cost(Verb::Generate, &body), Cost { requests: 1, input_tokens: 3 });
        let no_text = json!({"contents": [{"parts": [{"inlineData": {"data": "abcd"}}]}]});
        assert_eq!(cost(Verb::Generate, &no_text).input_tokens, 1);
    }

    #[test]
    fn a_batch_of_embeddings_costs_one_request_a_text() {
        let text = json!({"content": {"parts": [{"text": "12345678"}]}});
        let body = json!({"requests": [text, text, text]});
        assert_eq!(cost(Verb::BatchEmbed, &body), Cost { requests: 3, input_tokens: 6 });
        let too_many = json!({"requests": vec![text; LARGEST_BATCH + 1]});
        let refused = understand(Verb::BatchEmbed, &HeaderMap::new(), too_many.to_string().as_bytes());
        assert_eq!(refused.unwrap_err().status, 400);
    }

    #[test]
    fn the_token_header_overrides_the_estimate() {
        let mut headers = HeaderMap::new();
        headers.insert(TOKENS_HEADER, "1234".parse().unwrap());
        let body = json!({"contents": [{"parts": [{"text": "x"}]}]}).to_string();
        assert_eq!(understand(Verb::Generate, &headers, body.as_bytes()).unwrap().cost.input_tokens, 1234);
        headers.insert(TOKENS_HEADER, "many".parse().unwrap());
        assert_eq!(understand(Verb::Generate, &headers, body.as_bytes()).unwrap_err().status, 400);
    }

    #[test]
    fn a_body_without_what_its_method_needs_is_refused() {
        let all = [Verb::Generate, Verb::Stream, Verb::CountTokens, Verb::Embed, Verb::BatchEmbed];
        for (verb, body) in all.into_iter().flat_map(|verb| ["", "{", "{}", "[]"].map(|body| (verb, body))) {
            let refusal = understand(verb, &HeaderMap::new(), body.as_bytes()).unwrap_err();
            assert!(refusal.status == 400 && refusal.text.contains("INVALID_ARGUMENT"), "{verb:?} {body}");
        }
    }
}
