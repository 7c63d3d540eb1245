//! Why there is no lease.

use std::time::Duration;

use rand::RngExt;

use super::{
    Denied,
    accounts::{account_name, limit_name},
    committer::CommitError,
    duration, millis,
};
use crate::{
    catalogue,
    ledger::{Acquired, Dimension, FOREVER, LedgerError, Millis, Span},
};

/// When to ask again while a probe is out, in milliseconds. It ends when it is reported, which nobody can
/// foretell, and mostly long before its lease expires.
const PROBE_PATIENCE: i64 = 1_000;
/// When to come again to a broker that has too much to do, in milliseconds: not all at the same time.
const BUSY: std::ops::Range<u64> = 100..300;

/// How long one who is turned away for overload is told to stay away.
pub fn pause() -> Duration {
    Duration::from_millis(rand::rng().random_range(BUSY))
}

/// A lease cannot be given now, or never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// What is spent or blocked, such as `project team-a, model gemini-2.5-flash`.
    pub subject: String,
    /// One sentence.
    pub message: String,
    /// The sentence but for its end, which says when.
    untimed: Box<str>,
    /// When it can be given, by the ledger's clock; [`FOREVER`] if never.
    pub retry_at: Millis,
    /// The same as a time from now.
    pub retry_after: Duration,
    /// How long a request like this one would wait here, as far as can be told; never less than
    /// `retry_after`.
    pub estimated_wait: Duration,
    /// How many wait for the same quota model and tier.
    pub queue_length: usize,
    /// Whether a report is likely to bring the instant forward: that of a lease in flight, of which
    /// only the expiry is known.
    pub(super) may_end_early: bool,
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
    /// The constraints leave more keys than can be looked at one by one.
    #[error(
        "the constraints leave {0} keys, and at most 1000 are looked at one by one; put such keys into a pool of their own"
    )]
    TooManyKeys(usize),
    /// The ledger gave no answer.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// Too many calls are queued.
    #[error("too many calls are queued in this broker")]
    Overloaded {
        /// When to come again, as far as can be told.
        retry_after: Duration,
        /// How many wait for the same quota model and tier.
        queue_length: usize,
    },
    /// The caller's deadline passed.
    #[error("the deadline of the call has passed; nothing was leased")]
    DeadlinePassed,
    /// A reload of the configuration removed the pool.
    #[error("this pool is no longer configured")]
    PoolGone,
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
            CommitError::Overloaded => Self::Overloaded { retry_after: pause(), queue_length: 0 },
            CommitError::DeadlinePassed => Self::DeadlinePassed,
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
    /// Its name in metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Refused(refusal) | Self::Never(refusal) => match refusal.reason {
                RefusalReason::QuotaExhausted => "quota_exhausted",
                RefusalReason::CoolingDown => "cooling_down",
                RefusalReason::RequestExceedsLimit => "request_exceeds_limit",
                RefusalReason::NoUsableKey => "no_usable_key",
            },
            Self::NoKey(_) => "no_usable_key",
            Self::TooManyModels(_) | Self::TooManyKeys(_) => "invalid_field",
            Self::Ledger(LedgerError::Holding { .. }) => "ledger_holding",
            Self::Ledger(LedgerError::Changed { .. }) | Self::ForeignKey => "ledger_changed",
            Self::Ledger(_) | Self::ShardLost => "ledger_unavailable",
            Self::Overloaded { .. } => "overloaded",
            Self::DeadlinePassed => "deadline_passed",
            Self::PoolGone => "unknown_pool",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

impl Denied {
    /// As the caller is told.
    pub(super) fn into_error(self) -> AcquireError {
        match self {
            Self::Refused { refusal, .. } if refusal.retry_at < FOREVER => AcquireError::Refused(refusal),
            Self::Refused { refusal, .. } => AcquireError::Never(refusal),
            Self::Failed(error) => error,
        }
    }
}

impl Refusal {
    /// Reads a refusal of the ledger; see [`Acquired`] for its words.
    pub(super) fn of(pool: &catalogue::Pool, answer: &Acquired, now: Millis) -> Self {
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
        let then = if what == "probe" { "; ask again in" } else { "; a lease can be given in" };
        let cause = format!("no key can serve this request: {of_subject}{cause}");
        let retry_after = duration(at - now);
        let message = match reason {
            _ if at < FOREVER => format!("{cause}{then} {retry_after:?}"),
            RefusalReason::RequestExceedsLimit => {
                format!("{cause}; it can never be granted: make the request smaller, or raise the limit")
            }
            _ => format!("{cause}; it stays so until an operator acts"),
        };
        Self {
            reason,
            subject,
            message,
            untimed: (cause + then).into(),
            retry_at: at,
            retry_after,
            estimated_wait: retry_after,
            queue_length: 0,
            may_end_early: at < FOREVER && (what == "probe" || what.starts_with('f')),
        }
    }

    /// Whether the constraints of the request leave no key, whatever their limits and cooldowns are.
    pub(super) fn leaves_no_key(&self) -> bool {
        self.reason == RefusalReason::NoUsableKey && self.subject.is_empty()
    }

    /// The refusal as it stands later, when that much is left until its instant.
    #[must_use]
    pub(super) fn in_time(mut self, left: Duration) -> Self {
        // Whole milliseconds, as the ledger counts; never earlier than the instant.
        let left = duration(millis(left + Duration::from_nanos(999_999)));
        self.message = format!("{} {left:?}", self.untimed);
        self.retry_after = left;
        self.estimated_wait = self.estimated_wait.max(left);
        self
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
