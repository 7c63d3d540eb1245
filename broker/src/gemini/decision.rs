//! What the broker does about an answer: the charge, the blocks, the advice.

use std::fmt;
use std::time::Duration;

use super::quota::LearnedQuota;
use super::signal::Signal;

/// Everything the ledger and the caller need to know about one outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What the answer means.
    pub signal: Signal,
    /// What becomes of the lease's charge.
    pub charge: Charge,
    /// What is not leased for a while; empty when nobody is at fault.
    pub blocks: Vec<Block>,
    /// By how much the standing of the leased key rises or falls: only a fault of the key itself lowers it.
    pub health: i64,
    /// What the caller should do next.
    pub advice: Advice,
    /// The quotas that the body named, each once.
    pub learned: Vec<LearnedQuota>,
    /// Whether a person should be told, because only a person can mend it.
    pub alert: bool,
}

impl Decision {
    /// The quota model under which Google counted the request, if the body said so and it is not that one.
    #[must_use]
    pub fn counted_as(&self, quota_model: &str) -> Option<&str> {
        let named = self.learned.iter().find_map(|quota| quota.quota_model.as_deref());
        named.filter(|named| *named != quota_model)
    }
}

/// What becomes of a lease's charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Charge {
    /// It stays: Google counted the request, or may have.
    Keep,
    /// It is given back whole: nothing reached Google.
    Refund,
    /// It stays, and its tokens are corrected by the reported usage.
    TrueUp,
}

/// Something is not leased for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What is blocked.
    pub scope: Scope,
    /// For how long.
    pub length: Length,
    /// Whether the first lease after the block goes out alone, to find out whether it is over.
    pub probe: bool,
    /// Why.
    pub reason: Reason,
}

/// What a block covers; the lease of the report says which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The leased key.
    Key,
    /// The key's project for the lease's quota model.
    ProjectModel,
    /// The key's project, for every model.
    Project,
    /// The billing account of the project, with all its projects.
    BillingAccount,
    /// The quota model, for every project.
    Model,
}

/// A block of this length ends only when an operator ends it.
///
/// It is a hundred years and not [`Duration::MAX`], so that an instant plus it still fits the
/// microseconds of an `i64` and the whole numbers of a double.
pub const FOREVER: Duration = Duration::from_secs(100 * 366 * 86_400);

/// How long a block lasts.
///
/// The ledger takes the larger of the step and, where asked for, the time to midnight. The midnight
/// meant is the first one after the lease was GRANTED: an answer that arrives just past midnight speaks
/// of the day before, and must not cost the new day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Length {
    /// The nth consecutive block takes the nth step; the last one repeats. Never empty. A step of no time
    /// only counts: it neither blocks nor asks for a probe.
    pub steps: Vec<Duration>,
    /// Whether the block lasts at least to the next midnight in `America/Los_Angeles`.
    pub until_pacific_midnight: bool,
}

impl Length {
    /// The step of the nth consecutive block, counted from 0.
    #[must_use]
    pub fn step(&self, nth: usize) -> Duration {
        self.steps.get(nth).or(self.steps.last()).copied().unwrap_or(Duration::ZERO)
    }
}

/// Why something is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A quota that refills within a minute is spent.
    MinuteQuota,
    /// A quota of the Pacific day is spent.
    DailyQuota,
    /// The model is not offered to the project's tier.
    ModelNotOffered,
    /// Google refused for lack of capacity.
    Capacity,
    /// The billing account spends too fast.
    SpendRate,
    /// The project's monthly spending cap is reached.
    SpendCap,
    /// The billing account has no credit.
    CreditDepleted,
    /// The key is invalid or has expired.
    KeyInvalid,
    /// The key's binding is not accepted.
    KeyBinding,
    /// The key was reported as leaked.
    KeyLeaked,
    /// The key is suspended; of a project, that several of its keys are.
    KeySuspended,
    /// The project may not use the API.
    ProjectDisabled,
    /// A restriction of the key refuses requests.
    KeyRestricted,
    /// Permission was denied again and again without a readable reason.
    PermissionUnclear,
    /// The model is closed to the project.
    ModelClosed,
    /// The model is overloaded for everybody.
    ModelOverloaded,
}

impl Reason {
    /// The name in snake_case, as metrics, logs and operators see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MinuteQuota => "minute_quota",
            Self::DailyQuota => "daily_quota",
            Self::ModelNotOffered => "model_not_offered",
            Self::Capacity => "capacity",
            Self::SpendRate => "spend_rate",
            Self::SpendCap => "spend_cap",
            Self::CreditDepleted => "credit_depleted",
            Self::KeyInvalid => "key_invalid",
            Self::KeyBinding => "key_binding",
            Self::KeyLeaked => "key_leaked",
            Self::KeySuspended => "key_suspended",
            Self::ProjectDisabled => "project_disabled",
            Self::KeyRestricted => "key_restricted",
            Self::PermissionUnclear => "permission_unclear",
            Self::ModelClosed => "model_closed",
            Self::ModelOverloaded => "model_overloaded",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the caller should do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What to do.
    pub action: Action,
    /// How long to wait first; set with [`Action::RetryAfter`] and with nothing else. The caller adds jitter.
    pub retry_after: Option<Duration>,
    /// Whether the next try is the last, because the request may be at fault and not the key; set with
    /// [`Action::RetryOtherKey`] and with nothing else.
    pub once: bool,
    /// One sentence for people. Never holds text of the upstream body, so it can echo no key.
    pub message: String,
}

/// The kinds of advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing is left to do.
    Done,
    /// Acquire again now: another key can serve the request.
    RetryOtherKey,
    /// Acquire again after a while: the key is not at fault, so another one would fare no better.
    RetryAfter,
    /// The request is at fault: do not send it again as it is.
    DoNotRetry,
}
