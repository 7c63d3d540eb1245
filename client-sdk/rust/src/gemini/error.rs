//! What can go wrong between a question and its answer.

use std::{fmt, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    advice::{Action, Advice},
    error::Error,
    outcome::TransportKind,
};

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GeminiError {
    /// No lease was to be had.
    #[error(transparent)]
    Broker(#[from] Error),

    /// Gemini answered with an error.
    #[error(transparent)]
    Upstream(Box<UpstreamError>),

    /// No complete answer came.
    #[error("no complete answer from Gemini after {attempts} tries ({kind:?}): {message}")]
    Transport {
        /// What happened to the last try.
        kind: TransportKind,
        /// The network's words.
        message: String,
        /// What the broker said to it; `None` if it could not be asked in time.
        advice: Option<Advice>,
        /// How many requests were sent.
        attempts: u32,
    },

    /// The deadline of the call passed before a request could be sent.
    #[error("no answer within the deadline of {within:?}: allow more time, or ask for less")]
    DeadlineExceeded {
        /// The deadline.
        within: Duration,
    },

    /// The request cannot be sent as it is.
    #[error("the request cannot be sent: {message}")]
    InvalidRequest {
        /// What to correct.
        message: String,
    },

    /// The answer is not what this method answers with.
    #[error("the answer cannot be read, use call_raw to see it: {message}")]
    Decode {
        /// What is wrong.
        message: String,
    },

    /// The client cannot be made with these settings.
    #[error("cannot make the client: {message}")]
    Setup {
        /// What to correct.
        message: String,
    },
}

/// An error answer of Gemini, the last one if there were several.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UpstreamError {
    /// The HTTP status; for an error within a stream, the code of the error object.
    pub status: u16,
    /// Google's error object, if the body holds one.
    pub google: Option<GoogleError>,
    /// The body, with the key masked.
    pub body: String,
    /// The id of the key that was used.
    pub key_id: String,
    /// What the broker read in it; `None` if it could not be asked in time.
    pub advice: Option<Advice>,
    /// How many requests were sent.
    pub attempts: u32,
}

/// Google's error object.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GoogleError {
    /// A number, or a word in newer APIs.
    pub code: Value,
    /// Google's words.
    pub message: String,
    /// Such as `RESOURCE_EXHAUSTED`.
    pub status: String,
    /// What else there is.
    pub details: Vec<Value>,
}

impl GoogleError {
    /// Reads a body that is an error object, or an array that begins with one. Whatever stands
    /// under `error` makes it one, however oddly it is formed.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(default)]
            error: Value,
        }
        // Serde reads an array as the fields of a struct in their order, so the two are told apart first.
        let envelope = match body.iter().find(|byte| !byte.is_ascii_whitespace())? {
            b'[' => serde_json::from_slice::<Vec<Envelope>>(body).ok()?.into_iter().next()?,
            _ => serde_json::from_slice::<Envelope>(body).ok()?,
        };
        match envelope.error {
            Value::Null => None,
            Value::Object(mut fields) => {
                let mut text = |name| match fields.remove(name) {
                    Some(Value::String(text)) => text,
                    _ => String::new(),
                };
                let (message, status) = (text("message"), text("status"));
                let details = match fields.remove("details") {
                    Some(Value::Array(details)) => details,
                    _ => Vec::new(),
                };
                Some(Self { code: fields.remove("code").unwrap_or_default(), message, status, details })
            }
            Value::String(message) => Some(Self { message, ..Self::default() }),
            other => Some(Self { message: other.to_string(), ..Self::default() }),
        }
    }

    /// The code where it is an HTTP status.
    pub(crate) fn http_status(&self) -> Option<u16> {
        self.code.as_u64().and_then(|code| u16::try_from(code).ok()).filter(|c| (100..600).contains(c))
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gemini answered {}", self.status)?;
        match &self.google {
            Some(google) => write!(f, " {}: {}", google.status, google.message)?,
            None => write!(f, ": {}", self.body.chars().take(200).collect::<String>())?,
        }
        match &self.advice {
            Some(advice) if !advice.message.is_empty() => write!(f, " (broker: {})", advice.message)?,
            Some(_) => {}
            None => f.write_str(" (the broker gave no advice in time)")?,
        }
        if self.attempts > 1 {
            write!(f, " (after {} tries)", self.attempts)?;
        }
        Ok(())
    }
}

impl std::error::Error for UpstreamError {}

impl GeminiError {
    pub(crate) fn decode(error: &serde_json::Error) -> Self {
        Self::Decode { message: error.to_string() }
    }

    /// The same error with what is known only after its report.
    pub(crate) fn reported(mut self, said: Option<Advice>, tries: u32) -> Self {
        match &mut self {
            Self::Upstream(upstream) => {
                upstream.advice = said;
                upstream.attempts = tries;
            }
            Self::Transport { advice, attempts, .. } => {
                *advice = said;
                *attempts = tries;
            }
            _ => {}
        }
        self
    }

    /// The broker's last advice.
    pub fn advice(&self) -> Option<&Advice> {
        match self {
            Self::Upstream(upstream) => upstream.advice.as_ref(),
            Self::Transport { advice, .. } => advice.as_ref(),
            _ => None,
        }
    }

    /// The HTTP status of Gemini's last answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Upstream(upstream) => Some(upstream.status),
            _ => None,
        }
    }

    /// Whether the same call can succeed later: as the broker advised.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Broker(error) => error.is_retryable(),
            Self::DeadlineExceeded { .. } => true,
            Self::Upstream(_) | Self::Transport { .. } => self.advice().is_some_and(Advice::is_retryable),
            Self::InvalidRequest { .. } | Self::Decode { .. } | Self::Setup { .. } => false,
        }
    }

    /// The wait the broker named.
    pub fn retry_after(&self) -> Option<Duration> {
        match (self, self.advice().map(|advice| advice.action)) {
            (Self::Broker(error), _) => error.retry_after(),
            (_, Some(Action::RetryAfter(wait))) => wait,
            _ => None,
        }
    }

    /// A request at fault is at fault elsewhere too; anything else is worth another provider.
    pub(crate) fn calls_for_fallback(&self) -> bool {
        match self {
            Self::InvalidRequest { .. } | Self::Decode { .. } | Self::Setup { .. } => false,
            Self::Broker(Error::InvalidArgument { .. }) => false,
            _ => self.advice().is_none_or(|advice| advice.action != Action::DoNotRetry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_in_each_of_its_shapes() {
        let plain = br#"{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}"#;
        let google = GoogleError::parse(plain).unwrap();
        assert_eq!((google.http_status(), google.status.as_str()), (Some(429), "RESOURCE_EXHAUSTED"));
        let array = br#"[{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}]"#;
        assert_eq!(GoogleError::parse(array).unwrap().http_status(), Some(503));
        let word = br#"{"error":{"code":"quota_exceeded","message":"no more"}}"#;
        assert_eq!(GoogleError::parse(word).unwrap().http_status(), None);
        assert_eq!(GoogleError::parse(b"<html>bad gateway</html>"), None);
        assert_eq!(GoogleError::parse(br#"{"candidates":[]}"#), None);
        assert_eq!(GoogleError::parse(br#"[]"#), None);
        assert_eq!(GoogleError::parse(br#"{"error":"odd"}"#).unwrap().message, "odd");
        let odd = GoogleError::parse(br#" {"error":{"code":500,"message":null,"details":{}}}"#).unwrap();
        assert_eq!((odd.http_status(), odd.message.as_str()), (Some(500), ""));
    }
}
