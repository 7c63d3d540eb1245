//! A fake with a few keys, and short ways to call it.

use std::time::Duration;

use keybroker_tests::fake_gemini::{FakeGemini, FakeGeminiConfig};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

/// A working key of the project `alpha`.
pub(crate) const KEY: &str = "fake-key-alpha";
/// A working key of the project `beta`.
pub(crate) const OTHER_KEY: &str = "fake-key-beta";
/// A model id that counts under the family `gemini-fake`.
pub(crate) const MODEL: &str = "gemini-fake-preview";

/// Two keys of two projects, one alias, no limits.
pub(crate) fn config() -> FakeGeminiConfig {
    FakeGeminiConfig::default()
        .with_key(KEY, "alpha")
        .with_key(OTHER_KEY, "beta")
        .with_alias(MODEL, "gemini-fake")
}

/// A fake and a client that has connected to nothing yet.
pub(crate) struct Bench {
    pub(crate) fake: FakeGemini,
    pub(crate) http: Client,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: FakeGeminiConfig) -> Self {
        let http = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Self { fake: FakeGemini::start(config).await.unwrap(), http }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.fake.base_url)
    }

    /// A POST of `body` to a method of the model, with the key of `alpha`.
    pub(crate) fn post(&self, method: &str, body: &Value) -> RequestBuilder {
        let url = self.url(&format!("v1beta/models/{MODEL}:{method}"));
        self.http.post(url).header("x-goog-api-key", KEY).json(body)
    }

    /// The plainest call there is.
    pub(crate) fn generate(&self) -> RequestBuilder {
        self.post("generateContent", &prompt("hello"))
    }

    pub(crate) async fn generated(&self) -> Response {
        self.generate().send().await.unwrap()
    }
}

pub(crate) fn prompt(text: &str) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": text}]}]})
}

/// The status and the parsed body of an answer.
pub(crate) async fn read(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}
