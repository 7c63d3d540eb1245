//! What can go wrong between this process and the broker.

use std::time::{Duration, Instant};

use keybroker_proto::v1::ErrorReason;

use crate::lease::SendWindowPassed;

/// Why a call to the broker gave no answer to use.
///
/// Every text says what to do. [`is_retryable`](Self::is_retryable) and
/// [`retry_after`](Self::retry_after) say the same to a program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No lease can be given now.
    #[error("{0}")]
    Refused(Refusal),

    /// The request is larger than a limit.
    #[error(
        "no key can ever serve this request as the limits are configured: make it smaller, or raise the limit ({message})"
    )]
    NeverPossible {
        /// The broker's words.
        message: String,
    },

    /// Every key that could serve is disabled, or the constraints leave none.
    #[error("no usable key: enable or add one, or loosen the request's constraints ({message})")]
    NoUsableKey {
        /// The broker's words.
        message: String,
    },

    /// A field of the request is missing or out of range.
    #[error("invalid request, correct it: {}", join(.violations, .message))]
    InvalidArgument {
        /// The fields at fault, each with the fix.
        violations: Vec<FieldViolation>,
        /// The broker's words.
        message: String,
    },

    /// The pool is not configured.
    #[error("unknown pool: use one that the broker's configuration names ({message})")]
    UnknownPool {
        /// The broker's words.
        message: String,
    },

    /// The lease was never granted by this broker, or was forgotten after its time.
    #[error("unknown lease: acquire a new one ({message})")]
    UnknownLease {
        /// The broker's words.
        message: String,
    },

    /// The lease was reported or has expired, and cannot be renewed.
    #[error("the lease has ended: acquire a new one ({message})")]
    LeaseEnded {
        /// The broker's words.
        message: String,
    },

    /// The broker cannot be reached, or cannot serve at the moment.
    #[error(
        "the broker is unavailable: try again, or check its address, its health, and whether it wants TLS (tls) ({message})"
    )]
    Unavailable {
        /// The broker's reason; `None` when the network failed before it could give one.
        reason: Option<ErrorReason>,
        /// The broker's words, or the network's.
        message: String,
        /// The wait the broker asked for.
        retry_after: Option<Duration>,
        /// The answer may have been lost: an Acquire may have granted a lease, which stays
        /// charged until it expires.
        answer_lost: bool,
    },

    /// No answer within the deadline of the call. An Acquire may have granted a lease, which stays
    /// charged until it expires.
    #[error("the broker did not answer within {within:?}: try again, or allow more time")]
    DeadlineExceeded {
        /// The deadline.
        within: Duration,
    },

    /// The broker does not take the token or the certificate, or wants one.
    #[error(
        "the broker does not take this client's token: give one with BrokerBuilder::token, or a certificate with tls ({message})"
    )]
    Unauthenticated {
        /// The broker's words.
        message: String,
    },

    /// The broker knows who asks, and does not let them do this.
    #[error(
        "the broker does not permit this: ask for what the identity may use, or have it allowed more ({message})"
    )]
    NotPermitted {
        /// The broker's words: they name the identity and what it may do.
        message: String,
    },

    /// The lease was not used in time.
    #[error(transparent)]
    SendWindowPassed(#[from] SendWindowPassed),

    /// The address of the broker cannot be used.
    #[error(
        "cannot use {address:?} as the broker's address, give host:port, or https://host:port: {message}"
    )]
    InvalidAddress {
        /// The address given.
        address: String,
        /// What is wrong with it.
        message: String,
    },

    /// The token cannot be sent.
    #[error("cannot send this token in a header: give printable ASCII")]
    InvalidToken,

    /// A part of [`Tls`](crate::Tls) cannot be used.
    #[error("cannot use {field} for TLS: {message}")]
    InvalidTls {
        /// Which part, with its file.
        field: String,
        /// What is wrong with it, and what to do.
        message: String,
    },

    /// The token would be sent in plain text to another host.
    #[error("the token would go to {address} in plain text: give https://, tls or allow_insecure_token")]
    InsecureToken {
        /// The address given.
        address: String,
    },

    /// A blocking call from within an async runtime, which it would stall; only the module `blocking` gives it.
    #[error(
        "a blocking call must not be made within an async runtime: use the async client there, or a thread of its own"
    )]
    WithinRuntime,

    /// The system gives no threads for the blocking client.
    #[error("cannot start the threads of the blocking client, free some resources: {message}")]
    NoThreads {
        /// The system's words.
        message: String,
    },

    /// The client was closed.
    #[error("this broker client is closed: connect a new one")]
    Closed,

    /// Reports were not delivered in time; they are still being tried.
    #[error(
        "{reports} reports were not delivered within {within:?}: check that the broker is reachable; leases without a report stay charged until they expire"
    )]
    Undelivered {
        /// How many.
        reports: usize,
        /// How long was waited.
        within: Duration,
    },

    /// A report could not be delivered and was given up.
    #[error("the report was given up: the lease stays charged until it expires ({message})")]
    ReportLost {
        /// Why.
        message: String,
    },

    /// The broker's answer breaks the contract.
    #[error("the broker's answer breaks the contract, use matching versions: {message}")]
    Contract {
        /// What is wrong.
        message: String,
    },

    /// A gRPC error outside of the contract.
    #[error("gRPC {code:?}: {message}")]
    Other {
        /// The status code.
        code: tonic::Code,
        /// The server's words.
        message: String,
    },
}

impl Error {
    /// Whether the same call can succeed later, with nothing changed.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::Unavailable { .. }
                | Self::DeadlineExceeded { .. }
                | Self::SendWindowPassed(_)
                | Self::Undelivered { .. }
        )
    }

    /// Whether another broker may serve where this one cannot.
    pub(crate) fn is_broker_gone(&self) -> bool {
        let leaving = Some(ErrorReason::ShuttingDown);
        match self {
            Self::Unavailable { reason, .. } => reason.is_none() || *reason == leaving,
            Self::DeadlineExceeded { .. } => true,
            _ => false,
        }
    }

    /// The same, where an Acquire cannot have granted anything.
    pub(crate) fn is_nothing_handed_out(&self) -> bool {
        self.is_broker_gone() && matches!(self, Self::Unavailable { answer_lost: false, .. })
    }

    /// Says which broker could not be reached.
    pub(crate) fn at(mut self, address: &str) -> Self {
        if let Self::Unavailable { reason: None, message, .. } = &mut self {
            *message = format!("{address}: {message}");
        }
        self
    }

    /// The wait the broker named: exact for a refusal.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => Some(refusal.retry_after),
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Why a lease cannot be given now, and when it can.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Refusal {
    /// What stands in the way.
    pub reason: ErrorReason,
    /// The exact time after which a lease can be given, from the arrival of this answer.
    pub retry_after: Duration,
    /// The same as an instant.
    pub retry_at: Instant,
    /// What is spent.
    pub quota: Vec<QuotaViolation>,
    /// The broker's words.
    pub message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no key is free, try again in {:?}: {}", self.retry_after, self.message)?;
        for violation in &self.quota {
            write!(f, "; {}: {}", violation.subject, violation.description)?;
        }
        Ok(())
    }
}

/// A limit that is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaViolation {
    /// Whose limit.
    pub subject: String,
    /// Which limit and how much of it is used.
    pub description: String,
}

/// A field of a request that must be corrected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldViolation {
    /// The field, by its name in the contract.
    pub field: String,
    /// What is wrong and how to correct it.
    pub description: String,
}

fn join(violations: &[FieldViolation], message: &str) -> String {
    if violations.is_empty() {
        return message.to_owned();
    }
    let parts: Vec<_> = violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    parts.join("; ")
}
