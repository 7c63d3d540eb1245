//! Why there is no lease.

use std::time::Duration;

use super::{
    accounts::{account_name, limit_name},
    committer::CommitError,
    duration,
};
use crate::{
    catalogue,
    ledger::{Acquired, Dimension, FOREVER, LedgerError, Millis, Span},
};

/// When to ask again while a probe is out, in milliseconds. It ends when it is reported, which nobody can
/// foretell, and mostly long before its lease expires.
const PROBE_PATIENCE: i64 = 1_000;

/// A lease cannot be given now, or never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// What is spent or blocked, such as `project team-a, model gemini-2.5-flash`.
    pub subject: String,
    /// One sentence.
    pub message: String,
    /// When it can be given, by the ledger's clock; [`FOREVER`] if never.
    pub retry_at: Millis,
    /// The same as a time from now.
    pub retry_after: Duration,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// A limit is reached.
    QuotaExhausted,
    /// A cooldown lasts, or the probe after one is out.
    CoolingDown,
    /// The request is larger than a limit.
    RequestExceedsLimit,
    /// Every key is disabled, or excluded by the request.
    NoUsableKey,
}

/// Why there is no lease.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AcquireError {
    /// Not now.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// Not as things are configured, or not until an operator acts.
    #[error("{}", .0.message)]
    Never(Refusal),
    /// The constraints leave no key.
    #[error("{0}")]
    NoKey(String),
    /// The pool leases for too many different models.
    #[error(
        "this pool already leases for {0} different models; map model ids to quota models under [model_aliases]"
    )]
    TooManyModels(usize),
    /// The ledger gave no answer.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// Too many calls are queued.
    #[error("too many calls are queued in this broker")]
    Overloaded,
    /// The broker is shutting down.
    #[error("this broker is shutting down; use another one")]
    ShuttingDown,
    /// The ledger lost the order of keys right after it was written.
    #[error("the ledger lost the order of keys right after it was written")]
    ShardLost,
    /// The ledger named a key that this broker does not have.
    #[error("the ledger named a key that this broker does not have")]
    ForeignKey,
}

/// Why a lease was not extended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RenewError {
    /// It was settled or has expired.
    #[error("the lease was reported or has expired; acquire a new one")]
    Ended,
    /// It is not known.
    #[error("no such lease is known: it was never granted here, or it was forgotten after its time")]
    Unknown,
    /// The ledger gave no answer.
    #[error(transparent)]
    Commit(#[from] AcquireError),
}

impl From<CommitError> for AcquireError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Ledger(error) => Self::Ledger(error),
            CommitError::Overloaded => Self::Overloaded,
            CommitError::Ended => Self::ShuttingDown,
        }
    }
}

impl From<CommitError> for RenewError {
    fn from(error: CommitError) -> Self {
        Self::Commit(error.into())
    }
}

impl AcquireError {
    /// Reads a refusal of the ledger; see [`Acquired`] for its words.
    pub(super) fn of_refusal(pool: &catalogue::Pool, answer: &Acquired, now: Millis) -> Self {
        let Acquired(_, instant, account, what) = answer;
        let at = if what == "probe" { (*instant).min(now + PROBE_PATIENCE) } else { *instant };
        let subject = account_name(pool, account);
        let (reason, cause) = if let Some(limit) = what.strip_prefix("exceeds:") {
            (
                RefusalReason::RequestExceedsLimit,
                format!("the request is larger than the limit of {}", limit_in_words(limit)),
            )
        } else if let Some(block) = what.strip_prefix("block:") {
            let reason = if at >= FOREVER { RefusalReason::NoUsableKey } else { RefusalReason::CoolingDown };
            (reason, format!("cooling down ({block})"))
        } else if what == "probe" {
            (
                RefusalReason::CoolingDown,
                "one lease is out alone to find out whether a cooldown is over".to_owned(),
            )
        } else if what == "none" {
            (RefusalReason::NoUsableKey, "the constraints of the request leave no key".to_owned())
        } else {
            (RefusalReason::QuotaExhausted, format!("the limit of {} is reached", limit_in_words(what)))
        };
        let of_subject = if subject.is_empty() { String::new() } else { format!("{subject}: ") };
        let retry_after = duration(at - now);
        let ending = match reason {
            _ if what == "probe" => format!("; ask again in {retry_after:?}"),
            _ if at < FOREVER => format!("; a lease can be given in {retry_after:?}"),
            RefusalReason::RequestExceedsLimit => {
                "; it can never be granted: make the request smaller, or raise the limit".to_owned()
            }
            _ => "; it stays so until an operator acts".to_owned(),
        };
        let message = format!("no key can serve this request: {of_subject}{cause}{ending}");
        let refusal = Refusal { reason, subject, message, retry_at: at, retry_after };
        if at < FOREVER { Self::Refused(refusal) } else { Self::Never(refusal) }
    }
}

fn limit_in_words(code: &str) -> String {
    let (letter, span) = code.split_at(code.len().min(1));
    let dimension = match letter {
        "r" => Dimension::Requests,
        "i" => Dimension::InputTokens,
        "t" => Dimension::TotalTokens,
        "s" => Dimension::Spend,
        _ => Dimension::InFlight,
    };
    limit_name(dimension, Span::from(span.parse::<i64>().unwrap_or(0)))
}
