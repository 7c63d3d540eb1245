//! What came of a lease, as it is reported.

use std::time::Duration;

use bytes::Bytes;
use keybroker_proto::v1::{self, lease_report, transport_error};

use crate::wire;

/// The most of an error body that is reported, in bytes; the broker reads no more.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// The tokens of an answer, from its `usageMetadata`; what is not known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// `promptTokenCount`: input tokens, cached ones included.
    pub input_tokens: Option<i64>,
    /// `candidatesTokenCount`.
    pub output_tokens: Option<i64>,
    /// `totalTokenCount`.
    pub total_tokens: Option<i64>,
    /// `thoughtsTokenCount`.
    pub thoughts_tokens: Option<i64>,
    /// `cachedContentTokenCount`.
    pub cached_tokens: Option<i64>,
}

/// Why no complete answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportKind {
    /// The connection was refused or could not be made: nothing was sent.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke before the answer was complete.
    Reset,
    /// The caller gave up while the request was on its way.
    Cancelled,
}

/// What came of a lease: the broker learns from it, refunds by it and advises on it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// Gemini answered 2xx and the answer holds no error.
    Success(Usage),
    /// Gemini answered with an error, or an error object came in a stream that began with 200.
    HttpError {
        /// The HTTP status, 100 to 599.
        status: u16,
        /// The body as it came; 64 KiB of it are sent.
        body: Bytes,
        /// A `Retry-After` header, if there was one.
        retry_after: Option<Duration>,
    },
    /// No complete answer came.
    TransportError {
        /// What happened.
        kind: TransportKind,
        /// A short text for logs; it must hold no key and no prompt.
        message: String,
        /// What is known to have been used.
        usage: Usage,
    },
    /// The request was never sent: all of its charge is refunded.
    NotSent,
}

impl Outcome {
    /// A [`TransportError`](Self::TransportError) without a message.
    pub fn transport(kind: TransportKind) -> Self {
        Self::TransportError { kind, message: String::new(), usage: Usage::default() }
    }

    pub(crate) fn into_proto(self) -> lease_report::Outcome {
        match self {
            Self::Success(usage) => {
                lease_report::Outcome::Success(v1::Success { usage: Some(usage.into_proto()) })
            }
            Self::HttpError { status, mut body, retry_after } => {
                body.truncate(MAX_BODY);
                lease_report::Outcome::HttpError(v1::HttpError {
                    status: i32::from(status),
                    body,
                    retry_after: retry_after.map(wire::to_proto),
                })
            }
            Self::TransportError { kind, message, usage } => {
                lease_report::Outcome::TransportError(v1::TransportError {
                    kind: kind.into_proto() as i32,
                    message,
                    usage: Some(usage.into_proto()),
                })
            }
            Self::NotSent => lease_report::Outcome::NotSent(v1::NotSent {}),
        }
    }
}

impl Usage {
    fn into_proto(self) -> v1::Usage {
        v1::Usage {
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            total_tokens: self.total_tokens,
            thoughts_tokens: self.thoughts_tokens,
            cached_tokens: self.cached_tokens,
        }
    }
}

impl TransportKind {
    fn into_proto(self) -> transport_error::Kind {
        match self {
            Self::Connect => transport_error::Kind::Connect,
            Self::Timeout => transport_error::Kind::Timeout,
            Self::Reset => transport_error::Kind::Reset,
            Self::Cancelled => transport_error::Kind::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_is_cut_before_it_is_sent() {
        let outcome = Outcome::HttpError {
            status: 500,
            body: Bytes::from(vec![b'x'; MAX_BODY + 1]),
            retry_after: None,
        };
        let lease_report::Outcome::HttpError(error) = outcome.into_proto() else {
            panic!("an HTTP error stays one")
        };
        assert_eq!(error.body.len(), MAX_BODY);
    }
}
