//! What the proxy answers where Google did not, in the shape of Google's errors.

use axum::{
    Json,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use keybroker_client::{Error, GeminiError};
use serde_json::json;

use super::in_words;

/// An answer of the proxy's own.
pub(super) struct Refusal {
    status: StatusCode,
    text: String,
    retry_after: Option<std::time::Duration>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl ToString) -> Self {
        Self { status, text: text.to_string(), retry_after: None }
    }
}

impl From<GeminiError> for Refusal {
    fn from(error: GeminiError) -> Self {
        let status = match &error {
            GeminiError::Broker(error) => of_broker(error),
            GeminiError::InvalidRequest { .. } => StatusCode::BAD_REQUEST,
            GeminiError::DeadlineExceeded { .. } => StatusCode::GATEWAY_TIMEOUT,
            GeminiError::Setup { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_GATEWAY,
        };
        let retry_after = match &error {
            GeminiError::Broker(error) => error.retry_after(),
            _ => None,
        };
        let text = match &error {
            GeminiError::Broker(error) => in_words(error),
            error => error.to_string(),
        };
        Self { status, text, retry_after }
    }
}

fn of_broker(error: &Error) -> StatusCode {
    match error {
        Error::Refused(_) => StatusCode::TOO_MANY_REQUESTS,
        Error::NeverPossible { .. } | Error::InvalidArgument { .. } => StatusCode::BAD_REQUEST,
        Error::UnknownPool { .. } => StatusCode::NOT_FOUND,
        // Not for Google's SDKs to try again, as a 503 would be.
        Error::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
        Error::NotPermitted { .. } => StatusCode::FORBIDDEN,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.status {
            StatusCode::BAD_REQUEST => "INVALID_ARGUMENT",
            StatusCode::UNAUTHORIZED => "UNAUTHENTICATED",
            StatusCode::FORBIDDEN => "PERMISSION_DENIED",
            StatusCode::NOT_FOUND => "NOT_FOUND",
            StatusCode::TOO_MANY_REQUESTS => "RESOURCE_EXHAUSTED",
            StatusCode::GATEWAY_TIMEOUT => "DEADLINE_EXCEEDED",
            StatusCode::INTERNAL_SERVER_ERROR => "INTERNAL",
            _ => "UNAVAILABLE",
        };
        let details: Vec<_> = self
            .retry_after
            .iter()
            .map(|wait| {
                json!({
                    "@type": "type.googleapis.com/google.rpc.RetryInfo",
                    "retryDelay": format!("{:.3}s", wait.as_secs_f64()),
                })
            })
            .collect();
        let code = self.status.as_u16();
        let message = format!("keybroker: {}", self.text);
        let body = Json(
            json!({ "error": { "code": code, "message": message, "status": status, "details": details } }),
        );
        // Whole seconds, and never too early.
        let after = self.retry_after.map(|wait| [(RETRY_AFTER, wait.as_millis().div_ceil(1000).to_string())]);
        match after {
            Some(after) => (self.status, after, body).into_response(),
            None => (self.status, body).into_response(),
        }
    }
}
