//! What to do when no key could serve a request.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use secrecy::SecretString;
use serde_json::Value;

use super::error::GeminiError;

/// A request no key could serve, as it is given to the fallback.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FallbackRequest {
    /// The model as the caller named it.
    pub model: String,
    /// The method of the REST API, such as `generateContent`.
    pub method: String,
    /// The body; a typed request can be read from it with `serde_json::from_value`.
    pub body: Value,
}

type Answer = Pin<Box<dyn Future<Output = Result<Value, GeminiError>> + Send>>;

/// The caller's function.
#[derive(Clone)]
pub(crate) struct Fallback(pub(crate) Arc<dyn Fn(FallbackRequest, GeminiError) -> Answer + Send + Sync>);

impl Fallback {
    pub(crate) fn new<F, Fut, R>(function: F) -> Self
    where
        F: Fn(FallbackRequest, GeminiError) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, GeminiError>> + Send + 'static,
        R: Into<Value>,
    {
        Self(Arc::new(move |request, error| {
            let answer = function(request, error);
            Box::pin(async move { answer.await.map(Into::into) })
        }))
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fallback")
    }
}

/// The caller's function that gives a key where no lease can be had.
#[derive(Clone)]
pub(crate) struct FallbackKey(pub(crate) Arc<dyn Fn(&GeminiError) -> Key + Send + Sync>);

type Key = Pin<Box<dyn Future<Output = Option<SecretString>> + Send>>;

impl FallbackKey {
    pub(crate) fn new<F, Fut>(function: F) -> Self
    where
        F: Fn(&GeminiError) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<SecretString>> + Send + 'static,
    {
        Self(Arc::new(move |error| Box::pin(function(error))))
    }
}

impl fmt::Debug for FallbackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FallbackKey")
    }
}
