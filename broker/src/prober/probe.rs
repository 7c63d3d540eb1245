//! One probe of one key.

use std::time::Duration;

use reqwest::{Client, header::HeaderName, redirect::Policy};
use serde_json::{Value, json};

use crate::{
    gemini::{self, MAX_BODY, Outcome, Scope, Signal},
    secret::Secret,
};

/// How long a probe may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The key goes into a header and never into the URL, which proxies and logs keep.
const KEY_HEADER: HeaderName = HeaderName::from_static("x-goog-api-key");

/// What a probe says of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It works.
    Well,
    /// Google still refuses the key itself.
    Unwell(Signal),
    /// Nothing: no answer came, or one about something else.
    Unclear(Signal),
}

/// The client of all probes. It follows no redirect: the key would go with it.
///
/// # Errors
/// If TLS cannot be set up.
pub(crate) fn client() -> reqwest::Result<Client> {
    Client::builder()
        .redirect(Policy::none())
        .timeout(TIMEOUT)
        .user_agent(concat!("keybroker/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Counts the tokens of one word with the key.
pub(crate) async fn probe(client: &Client, base_url: &str, model: &str, key: &Secret) -> Finding {
    let url = format!("{base_url}/v1beta/models/{model}:countTokens");
    let body = json!({"contents": [{"parts": [{"text": "ping"}]}]});
    let request = client.post(url).header(KEY_HEADER, key.expose()).json(&body);
    let Ok(mut response) = request.send().await else { return Finding::Unclear(Signal::NetworkFault) };
    let status = response.status();
    let mut body = Vec::new();
    while body.len() < MAX_BODY {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(_) => return Finding::Unclear(Signal::NetworkFault),
        }
    }
    body.truncate(MAX_BODY);
    read(status.as_u16(), &body)
}

/// Reads an answer. A success must be the count that was asked for: a page that some proxy put in its
/// place says nothing of the key.
fn read(status: u16, body: &[u8]) -> Finding {
    let counted = || {
        let value: Option<Value> = serde_json::from_slice(body).ok();
        value.is_some_and(|value| value["totalTokens"].is_u64())
    };
    if (200..300).contains(&status) && counted() {
        return Finding::Well;
    }
    let decision = gemini::read(&Outcome::HttpError { status, body, retry_after: None });
    if decision.blocks.iter().any(|block| block.scope == Scope::Key) {
        Finding::Unwell(decision.signal)
    } else {
        Finding::Unclear(decision.signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_count_is_a_good_answer() {
        assert_eq!(read(200, br#"{"totalTokens": 1}"#), Finding::Well);
        for other in ["", "<html>Welcome to this network</html>", "{}", r#"{"totalTokens":"1"}"#, "[]"] {
            assert_eq!(read(200, other.as_bytes()), Finding::Unclear(Signal::Unreadable), "{other}");
        }
    }

    #[test]
    fn a_fault_of_the_key_is_told_from_any_other_answer() {
        let invalid =
            br#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[
            {"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#;
        assert_eq!(read(400, invalid), Finding::Unwell(Signal::KeyInvalid));
        assert_eq!(read(503, b"overloaded"), Finding::Unclear(Signal::ModelOverloaded));
        assert!(matches!(read(429, b"{}"), Finding::Unclear(_)));
        assert!(matches!(read(404, b"{}"), Finding::Unclear(Signal::RequestFault)));
    }
}
