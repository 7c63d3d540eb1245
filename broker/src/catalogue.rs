//! The catalogue: what may be leased and how often, as configured and already validated.
//!
//! It is plain data. Configuration builds it, the ledger is told of it, and nothing in it changes
//! afterwards: a reload makes a new one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::secret::Secret;

mod digest;
mod pattern;

use pattern::bare_model;
pub use pattern::{ModelPattern, NotAPattern, is_model_name};

/// The pool meant when none is named.
pub const DEFAULT_POOL: &str = "default";

/// How long after a grant a request may still be sent, unless a pool says otherwise.
pub const DEFAULT_SEND_WITHIN: Duration = Duration::from_secs(1);

/// How long a lease lives unless it is settled or renewed, unless a pool says otherwise.
pub const DEFAULT_LEASE_TTL: Duration = Duration::from_secs(60);

/// The largest amount a limit may have. It keeps sums of amounts exact in a double, which is the
/// only number Lua knows.
pub const LARGEST_AMOUNT: u64 = 1_000_000_000_000;

/// All pools, and which quota model each model id counts under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Pools by name.
    pub pools: BTreeMap<String, Pool>,
    /// Model id to the quota model it counts under, both without `models/`. A model that is not
    /// named here counts under its own id.
    pub model_aliases: BTreeMap<String, String>,
}

/// A named set of projects that a workload leases from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name, an id.
    pub name: String,
    /// How long after a grant a request may still be sent: 100 ms to 30 s.
    pub send_within: Duration,
    /// How long a lease lives unless it is settled or renewed: 1 s to 1 h.
    pub lease_ttl: Duration,
    /// The limits of every project of the pool that does not name its own.
    pub limits: Vec<LimitRule>,
    /// The projects whose keys are leased.
    pub projects: Vec<Project>,
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
    /// Its own limits, which stand before the pool's.
    pub limits: Vec<LimitRule>,
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
    /// Its share among the keys of equal priority: 1 to 1000.
    pub weight: u32,
    /// Its class: 0 to 15. A lower one is leased first, a higher one when no lower one is free.
    pub priority: u8,
    /// What the operator notes about it.
    pub labels: BTreeMap<String, String>,
    /// Limits of this key alone, beside those of its project.
    pub limits: Vec<LimitRule>,
}

/// Limits for the quota models that a pattern names. Each model is counted by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// Which quota models.
    pub model: ModelPattern,
    /// What they are limited to.
    pub limits: Vec<Limit>,
}

/// At most so much of something within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit {
    /// What is counted.
    pub dimension: Dimension,
    /// Over which span.
    pub window: Window,
    /// How much at most, in requests or tokens: 1 to [`LARGEST_AMOUNT`].
    pub amount: u64,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Requests sent.
    Requests,
    /// Tokens of prompts.
    InputTokens,
    /// Tokens of prompts and answers.
    TotalTokens,
    /// Requests under way at once.
    InFlight,
}

/// The span a limit counts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// Every span of so many seconds, however aligned: 1, 60 or 600.
    Trailing(u32),
    /// A day that begins at midnight in Los Angeles.
    PacificDay,
    /// A calendar month, which begins at midnight in Los Angeles too.
    Month,
    /// No span: what is under way now ([`Dimension::InFlight`]).
    None,
}

impl Catalogue {
    /// The quota model that a model id counts under; a leading `models/` is not part of an id.
    pub fn quota_model<'a>(&'a self, model: &'a str) -> &'a str {
        let model = bare_model(model);
        self.model_aliases.get(model).map_or(model, String::as_str)
    }

    /// Every project with the pool it is in, by pool name.
    pub fn projects(&self) -> impl Iterator<Item = (&Pool, &Project)> {
        self.pools.values().flat_map(|pool| pool.projects.iter().map(move |project| (pool, project)))
    }

    /// Every key with its project, by pool name.
    pub fn keys(&self) -> impl Iterator<Item = (&Project, &Key)> {
        self.projects().flat_map(|(_, project)| project.keys.iter().map(move |key| (project, key)))
    }
}

impl Pool {
    /// A pool without projects or limits and with the default spans.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            send_within: DEFAULT_SEND_WITHIN,
            lease_ttl: DEFAULT_LEASE_TTL,
            limits: Vec::new(),
            projects: Vec::new(),
        }
    }

    /// What holds for a project's use of a quota model, one limit for each dimension and window.
    ///
    /// For each, a rule of the project stands before one of the pool, and among those the most
    /// specific pattern stands; of two equal ones the smaller amount does.
    pub fn limits_for(&self, project: &Project, quota_model: &str) -> Vec<Limit> {
        let mut chosen = most_specific(&self.limits, quota_model);
        chosen.extend(most_specific(&project.limits, quota_model));
        chosen.into_iter().map(|((dimension, window), amount)| Limit { dimension, window, amount }).collect()
    }
}

impl Project {
    /// A project without keys, limits or a known tier.
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self { id, tier: Tier::Unknown, billing_account: None, limits: Vec::new(), keys: Vec::new() }
    }
}

impl Key {
    /// A key of weight 1 and priority 0, without labels or limits of its own.
    pub fn new(id: impl Into<String>, secret: Secret) -> Self {
        Self {
            id: id.into(),
            fingerprint: secret.fingerprint(),
            secret,
            weight: 1,
            priority: 0,
            labels: BTreeMap::new(),
            limits: Vec::new(),
        }
    }

    /// What holds for this key's use of a quota model beside its project's limits, chosen like
    /// [`Pool::limits_for`].
    pub fn limits_for(&self, quota_model: &str) -> Vec<Limit> {
        let chosen = most_specific(&self.limits, quota_model);
        chosen.into_iter().map(|((dimension, window), amount)| Limit { dimension, window, amount }).collect()
    }
}

impl LimitRule {
    /// A rule for the quota models that a pattern names.
    pub fn new(model: ModelPattern, limits: Vec<Limit>) -> Self {
        Self { model, limits }
    }
}

impl Limit {
    /// At most `amount` within a window.
    pub fn new(dimension: Dimension, window: Window, amount: u64) -> Self {
        Self { dimension, window, amount }
    }

    /// At most so many requests in any trailing minute.
    pub fn requests_per_minute(amount: u64) -> Self {
        Self::new(Dimension::Requests, Window::Trailing(60), amount)
    }
}

/// For each (dimension, window) that a matching rule names, the amount of the most specific one.
fn most_specific(rules: &[LimitRule], quota_model: &str) -> BTreeMap<(Dimension, Window), u64> {
    let mut chosen: BTreeMap<(Dimension, Window), (usize, u64)> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| rule.model.matches(quota_model)) {
        let specificity = rule.model.specificity();
        for limit in &rule.limits {
            let standing =
                chosen.entry((limit.dimension, limit.window)).or_insert((specificity, limit.amount));
            if specificity > standing.0 || (specificity == standing.0 && limit.amount < standing.1) {
                *standing = (specificity, limit.amount);
            }
        }
    }
    chosen.into_iter().map(|(measure, (_, amount))| (measure, amount)).collect()
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

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "requests",
            Self::InputTokens => "input_tokens",
            Self::TotalTokens => "total_tokens",
            Self::InFlight => "in_flight",
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trailing(1) => f.write_str("second"),
            Self::Trailing(60) => f.write_str("minute"),
            Self::Trailing(600) => f.write_str("10_minutes"),
            Self::Trailing(seconds) => write!(f, "{seconds}_seconds"),
            Self::PacificDay => f.write_str("day"),
            Self::Month => f.write_str("month"),
            Self::None => f.write_str("none"),
        }
    }
}

/// The name of the limit in configuration, such as `requests_per_minute = 10`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.window {
            Window::None => write!(f, "{} = {}", self.dimension, self.amount),
            window => write!(f, "{}_per_{window} = {}", self.dimension, self.amount),
        }
    }
}
