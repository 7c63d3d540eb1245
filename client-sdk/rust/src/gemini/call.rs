//! One call of a method of a model.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::Url;
use serde_json::Value;

use super::{
    builder::Settings,
    cache::Key,
    count,
    error::GeminiError,
    exchange::{self, Unanswered},
    stream::GenerateContentStream,
    tries::Tries,
};
use crate::{acquire::AcquireOptions, wire};

/// Whether the answer is one body or a stream of events.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Unary,
    Stream,
}

/// A successful answer.
pub(crate) enum Answer {
    Body(Bytes),
    Stream(GenerateContentStream),
}

/// One call of the caller's, which may take several requests.
pub(crate) struct Call {
    pub(crate) settings: Arc<Settings>,
    pub(crate) url: Url,
    pub(crate) body: Bytes,
    pub(crate) mode: Mode,
    pub(crate) deadline: Instant,
    options: AcquireOptions,
    /// What is to be counted first.
    counted: Option<Value>,
    /// Under which its answer is kept.
    key: Option<Key>,
}

impl Call {
    pub(crate) fn new(
        settings: &Arc<Settings>,
        model: &str,
        method: &str,
        body: &Value,
        permits: i32,
        mode: Mode,
    ) -> Result<Self, GeminiError> {
        let invalid = |message: String| GeminiError::InvalidRequest { message };
        if !fits_in_path(model) || !fits_in_path(method) {
            return Err(invalid(format!("{model:?} and {method:?} must be a model and a method")));
        }
        let query = if mode == Mode::Stream { "?alt=sse" } else { "" };
        let url =
            format!("{}/{}/{}:{method}{query}", settings.base_url, settings.api_version, resource(model));
        let url = Url::parse(&url).map_err(|error| invalid(format!("{url:?}: {error}")))?;
        let bytes = serde_json::to_vec(body).map_err(|error| invalid(error.to_string()))?;
        let options = AcquireOptions {
            permits: Some(permits),
            input_tokens: (settings.estimator.0)(body).max(0),
            ..settings.options(model)
        };
        let counted = (settings.count_tokens && count::COUNTED.contains(&method)).then(|| body.clone());
        let cache = settings.cache.as_ref();
        let key = cache.and_then(|cache| cache.key(method, url.as_str(), &settings.project, &bytes));
        let deadline = wire::instant_after(Instant::now(), settings.deadline);
        let (settings, body) = (Arc::clone(settings), bytes.into());
        Ok(Self { settings, url, body, mode, deadline, options, counted, key })
    }

    pub(crate) async fn run(&self) -> Result<Answer, GeminiError> {
        let cached = self.settings.cache.as_ref().zip(self.key);
        if let Some(kept) = cached.and_then(|(cache, key)| cache.get(&key)) {
            return Ok(Answer::Body(kept));
        }
        let mut http = self.settings.client()?;
        let mut options = self.options.clone();
        if let Some(body) = &self.counted {
            let counting =
                count::tokens(&self.settings, &mut http, &self.url, &options.model, body, self.deadline);
            options.input_tokens = counting.await.unwrap_or(options.input_tokens);
        }
        let mut tries = Tries::new(&self.settings, options, self.deadline);
        loop {
            let (lease, key) = tries.ready().await?;
            match exchange::send(self, &mut http, lease, key).await {
                Ok(answer) => {
                    if let (Answer::Body(body), Some((cache, key))) = (&answer, cached) {
                        cache.keep(key, body);
                    }
                    return Ok(answer);
                }
                Err(Unanswered::Failed(failure)) => tries.obey(*failure).await?,
                Err(Unanswered::Missed(lease, passed)) => tries.missed(lease, passed)?,
            }
        }
    }

    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The path of a model: a bare id is one of Google's own.
pub(crate) fn resource(model: &str) -> String {
    if model.contains('/') { model.to_owned() } else { format!("models/{model}") }
}

/// A name from the outside must not reach beyond its place in the URL.
fn fits_in_path(name: &str) -> bool {
    !name.is_empty()
        && !name.split('/').any(|part| part.is_empty() || part == "." || part == "..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._@/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_bare_or_in_full() {
        assert_eq!(resource("gemini-2.5-flash"), "models/gemini-2.5-flash");
        assert_eq!(resource("models/gemini-2.5-flash"), "models/gemini-2.5-flash");
        assert_eq!(resource("tunedModels/mine"), "tunedModels/mine");
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_url() {
        for name in ["", "a?key=b", "../files", "models/../x", "a#b", "a b", "a:b", "/a", "a%2e"] {
            assert!(!fits_in_path(name), "{name}");
        }
        assert!(fits_in_path("gemini-2.5-flash-preview_05@001"));
    }
}
