//! Pools, and the projects and keys in them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::limit::{Limit, LimitRule};
use super::strategy::Strategy;
use crate::secret::Secret;

/// The pool meant when none is named.
pub const DEFAULT_POOL: &str = "default";

/// How long after a grant a request may still be sent, unless a pool says otherwise.
pub const DEFAULT_SEND_WITHIN: Duration = Duration::from_secs(1);

/// How long a lease lives unless it is settled or renewed, unless a pool says otherwise.
pub const DEFAULT_LEASE_TTL: Duration = Duration::from_secs(60);

/// A named set of projects that a workload leases from.
///
/// What is limited here and in its projects and keys is what was configured. What holds, after
/// margin and smoothing, is told by the pool's methods, such as [`Pool::limits_for`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name, an id.
    pub name: String,
    /// In which order its keys are leased.
    pub strategy: Strategy,
    /// How long after a grant a request may still be sent: 100 ms to 30 s.
    pub send_within: Duration,
    /// How long a lease lives unless it is settled or renewed: 1 s to 1 h.
    pub lease_ttl: Duration,
    /// By how many percent every limit is lowered: 0 to 90.
    pub margin_percent: u8,
    /// Whether a minute's requests are spread over its seconds.
    pub smooth_bursts: bool,
    /// What becomes of a limit that Google names in a refusal.
    pub learn_limits: LearnLimits,
    /// The limits of every project of the pool that does not name its own.
    pub limits: Vec<LimitRule>,
    /// Limits for the projects of one tier that do not name their own. Those of the configuration's
    /// projects hold them already; projects that come at run time are given them.
    pub tier_limits: Vec<(Tier, LimitRule)>,
    /// Limits of all its keys and models together.
    pub totals: Vec<Limit>,
    /// Limits of each model by itself over all projects of the pool.
    pub model_totals: Vec<LimitRule>,
    /// The accounts that pay for its projects, as far as they have limits.
    pub billing_accounts: Vec<BillingAccount>,
    /// The projects whose keys are leased.
    pub projects: Vec<Project>,
}

/// What becomes of a limit that Google names in a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LearnLimits {
    /// It lowers ours if it is smaller, and never raises it.
    #[default]
    Lower,
    /// It stands in place of ours, smaller or larger.
    Raise,
    /// Nothing.
    Off,
}

/// The account that pays for projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillingAccount {
    /// Its id, unique in the whole catalogue.
    pub id: String,
    /// Limits of all its projects, keys and models together.
    pub totals: Vec<Limit>,
}

/// A Google Cloud project: the place where Google counts quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its id, unique in the whole catalogue.
    pub id: String,
    /// Whether its requests are paid for.
    pub tier: Tier,
    /// The account that pays, if it is known. All its projects are in one pool.
    pub billing_account: Option<String>,
    /// Its own margin, if it does not take its pool's.
    pub margin_percent: Option<u8>,
    /// Its own choice, if it does not take its pool's.
    pub smooth_bursts: Option<bool>,
    /// Its own limits, which stand before the pool's.
    pub limits: Vec<LimitRule>,
    /// Limits of all its keys and models together.
    pub totals: Vec<Limit>,
    /// Its keys, which share those limits.
    pub keys: Vec<Key>,
}

/// Whether a project's requests are paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Free of charge: Google may train on what is sent.
    Free,
    /// Billed.
    Paid,
    /// Not said; never taken for paid.
    #[default]
    Unknown,
}

/// An API credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its id, unique in the whole catalogue.
    pub id: String,
    /// The text that is sent to Google.
    pub secret: Secret,
    /// 16 hex characters that stand for the text; see [`crate::secret::fingerprint`].
    pub fingerprint: String,
    /// Its share among the keys of equal class, 1 to 1000, where the strategy reads it: see
    /// [`Pool::standing_of`].
    pub weight: u32,
    /// Its class, 0 to 15, where the strategy reads it and if it has one of its own.
    pub priority: Option<u8>,
    /// What the operator notes about it.
    pub labels: BTreeMap<String, String>,
    /// Limits of this key alone, beside those of its project.
    pub limits: Vec<LimitRule>,
    /// Limits of this key alone, over all models together.
    pub totals: Vec<Limit>,
}

impl Pool {
    /// A pool without projects or limits and with the default spans and strategy.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            strategy: Strategy::default(),
            send_within: DEFAULT_SEND_WITHIN,
            lease_ttl: DEFAULT_LEASE_TTL,
            margin_percent: 0,
            smooth_bursts: false,
            learn_limits: LearnLimits::default(),
            limits: Vec::new(),
            tier_limits: Vec::new(),
            totals: Vec::new(),
            model_totals: Vec::new(),
            billing_accounts: Vec::new(),
            projects: Vec::new(),
        }
    }
}

impl Project {
    /// A project without keys, limits or a known tier.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            tier: Tier::Unknown,
            billing_account: None,
            margin_percent: None,
            smooth_bursts: None,
            limits: Vec::new(),
            totals: Vec::new(),
            keys: Vec::new(),
        }
    }
}

impl Key {
    /// A key of weight 1, without a priority, labels or limits of its own.
    pub fn new(id: impl Into<String>, secret: Secret) -> Self {
        Self {
            id: id.into(),
            fingerprint: secret.fingerprint(),
            secret,
            weight: 1,
            priority: None,
            labels: BTreeMap::new(),
            limits: Vec::new(),
            totals: Vec::new(),
        }
    }
}

impl LearnLimits {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Lower, Self::Raise, Self::Off];

    /// Its name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Raise => "raise",
            Self::Off => "off",
        }
    }

    /// The choice of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == name)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free => "free",
            Self::Paid => "paid",
            Self::Unknown => "unknown",
        })
    }
}
