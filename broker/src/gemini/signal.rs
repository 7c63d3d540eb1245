//! The meaning of an answer, by name.

use std::fmt;

/// What Google's answer means.
///
/// The names of the contract's `Signal` keep their meaning here; the finer ones (a spend limit, a
/// restriction of a key, a model that is not offered, ...) exist because each asks for another decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// The request succeeded.
    Ok,
    /// The request was never sent.
    NotSent,
    /// A quota that refills within a minute is spent for the project and quota model.
    MinuteQuota,
    /// A quota of the Pacific day is spent for the project and quota model.
    DailyQuota,
    /// The limit is zero: the model is not offered to this project's tier.
    ModelNotOffered,
    /// Refused for lack of capacity, with no quota named.
    Capacity,
    /// The billing account spends faster than its tier allows.
    SpendRate,
    /// The project has reached its monthly spending cap.
    SpendCap,
    /// The billing account has no credit left.
    CreditDepleted,
    /// The key is not valid or has expired.
    KeyInvalid,
    /// The key is not bound to an identity that this API accepts.
    KeyBinding,
    /// Google holds the key for leaked.
    KeyLeaked,
    /// The key's consumer is suspended.
    KeySuspended,
    /// The project may not use the API: not enabled, no billing, or access denied.
    ProjectDisabled,
    /// A restriction set on the key (API, address, referrer, app) refused the request.
    KeyRestricted,
    /// The request names a file or cache that another project owns, or that does not exist.
    WrongProject,
    /// Permission was denied without a reason that can be read.
    PermissionUnclear,
    /// The caller's region is not served.
    RegionUnsupported,
    /// The request itself is at fault.
    RequestFault,
    /// The model is closed to this project because the project is new to it.
    ModelClosed,
    /// The model is overloaded for everybody.
    ModelOverloaded,
    /// A server failed or gave up.
    ServerFault,
    /// The network failed, or no answer came in time.
    NetworkFault,
    /// The caller gave up.
    Cancelled,
    /// The answer could not be read.
    Unreadable,
}

impl Signal {
    /// Every signal, for tables and metrics.
    pub const ALL: [Self; 25] = [
        Self::Ok,
        Self::NotSent,
        Self::MinuteQuota,
        Self::DailyQuota,
        Self::ModelNotOffered,
        Self::Capacity,
        Self::SpendRate,
        Self::SpendCap,
        Self::CreditDepleted,
        Self::KeyInvalid,
        Self::KeyBinding,
        Self::KeyLeaked,
        Self::KeySuspended,
        Self::ProjectDisabled,
        Self::KeyRestricted,
        Self::WrongProject,
        Self::PermissionUnclear,
        Self::RegionUnsupported,
        Self::RequestFault,
        Self::ModelClosed,
        Self::ModelOverloaded,
        Self::ServerFault,
        Self::NetworkFault,
        Self::Cancelled,
        Self::Unreadable,
    ];

    /// The name in snake_case, as metrics and logs carry it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotSent => "not_sent",
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
            Self::WrongProject => "wrong_project",
            Self::PermissionUnclear => "permission_unclear",
            Self::RegionUnsupported => "region_unsupported",
            Self::RequestFault => "request_fault",
            Self::ModelClosed => "model_closed",
            Self::ModelOverloaded => "model_overloaded",
            Self::ServerFault => "server_fault",
            Self::NetworkFault => "network_fault",
            Self::Cancelled => "cancelled",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
