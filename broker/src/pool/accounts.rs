//! How a pool of the catalogue stands in the ledger: its accounts, candidates and shards.

use std::time::Duration;

use keybroker_proto::v1::Tier as WireTier;

use crate::{
    catalogue::{self, Dimension, Key, Limit, Pool, Project, Tier, Window},
    ledger::{
        self, AccountSpec, CandidateSpec, LimitSpec, Mode, Order, ShardSpec, Span, UNLIMITED, shard::SCALE,
    },
};

/// What is counted for every project and quota model, limited or not: a limit that comes later, by
/// configuration or from Google, then finds what was used before it.
const ALWAYS_COUNTED: [LimitSpec; 3] = [
    LimitSpec(ledger::Dimension::Requests, Span::Trailing(60_000), UNLIMITED),
    LimitSpec(ledger::Dimension::InputTokens, Span::Trailing(60_000), UNLIMITED),
    LimitSpec(ledger::Dimension::Requests, Span::Day, UNLIMITED),
];

/// An account by what it stands for. The first letter of an id is its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountOf<'a> {
    /// A key, by its fingerprint: blocks of the key. A new text under the same id starts clean.
    Key(&'a str),
    /// The limits of a key for a quota model.
    KeyModel(&'a str, &'a str),
    /// A project: blocks of the project.
    Project(&'a str),
    /// A project's quota model: where Google counts.
    ProjectModel(&'a str, &'a str),
    /// A billing account: blocks of all its projects.
    Billing(&'a str),
}

impl AccountOf<'_> {
    /// The ledger's id.
    pub fn id(&self) -> String {
        match self {
            Self::Key(fingerprint) => format!("k/{fingerprint}"),
            Self::KeyModel(fingerprint, model) => format!("l/{fingerprint}/{model}"),
            Self::Project(project) => format!("p/{project}"),
            Self::ProjectModel(project, model) => format!("q/{project}/{model}"),
            Self::Billing(account) => format!("b/{account}"),
        }
    }
}

impl<'a> AccountOf<'a> {
    /// Reads a ledger's id.
    pub fn parse(id: &'a str) -> Option<Self> {
        let (role, rest) = id.split_once('/')?;
        Some(match role {
            "k" => Self::Key(rest),
            "p" => Self::Project(rest),
            "b" => Self::Billing(rest),
            "q" => rest.split_once('/').map(|(project, model)| Self::ProjectModel(project, model))?,
            "l" => rest.split_once('/').map(|(key, model)| Self::KeyModel(key, model))?,
            _ => return None,
        })
    }
}

/// A ledger's shard: a quota model, and the tier its candidates are of.
pub fn shard_name(digest: &str, quota_model: &str, tier: WireTier) -> String {
    match tier {
        WireTier::Unspecified => format!("{digest}/{quota_model}"),
        WireTier::Free => format!("{digest}/{quota_model}#free"),
        WireTier::Paid => format!("{digest}/{quota_model}#paid"),
    }
}

/// Whether a project's keys may serve a request of that tier. A project that does not say its tier
/// serves neither.
pub fn serves(project: &Project, tier: WireTier) -> bool {
    match tier {
        WireTier::Unspecified => true,
        WireTier::Free => project.tier == Tier::Free,
        WireTier::Paid => project.tier == Tier::Paid,
    }
}

/// The shard of a quota model and tier; none if no key is of that tier.
pub fn shard_spec(
    pool: &Pool,
    shard: &str,
    quota_model: &str,
    tier: WireTier,
    generation: i64,
) -> Option<ShardSpec> {
    let mut spec = ShardSpec {
        shard: shard.to_owned(),
        generation,
        accounts: Vec::new(),
        candidates: Vec::new(),
        order: Order::Share,
    };
    for project in pool.projects.iter().filter(|project| serves(project, tier) && !project.keys.is_empty()) {
        let limits = limits_with_counts(&pool.limits_for(project, quota_model));
        spec.accounts.push(AccountSpec {
            id: AccountOf::ProjectModel(&project.id, quota_model).id(),
            limits,
            mode: Mode::Hard,
        });
        for key in &project.keys {
            let limits = pool.key_limits_for(project, key, quota_model);
            if !limits.is_empty() {
                let id = AccountOf::KeyModel(&key.fingerprint, quota_model).id();
                spec.accounts.push(AccountSpec {
                    id,
                    limits: limits.iter().map(limit_spec).collect(),
                    mode: Mode::Hard,
                });
            }
            spec.candidates.push(candidate(pool, project, key, quota_model, !limits.is_empty()));
        }
    }
    (!spec.candidates.is_empty()).then_some(spec)
}

fn candidate(pool: &Pool, project: &Project, key: &Key, quota_model: &str, limited: bool) -> CandidateSpec {
    let standing = pool.standing_of(project, key);
    let mut of_limits = vec![AccountOf::ProjectModel(&project.id, quota_model).id()];
    if limited {
        of_limits.push(AccountOf::KeyModel(&key.fingerprint, quota_model).id());
    }
    let mut of_blocks = vec![AccountOf::Key(&key.fingerprint).id(), AccountOf::Project(&project.id).id()];
    of_blocks.extend(project.billing_account.as_deref().map(|account| AccountOf::Billing(account).id()));
    CandidateSpec {
        name: key.id.clone(),
        class: i64::from(standing.class),
        step: SCALE / i64::from(standing.weight),
        limited: of_limits,
        sparse: of_blocks,
        tag: project.id.clone(),
    }
}

fn limits_with_counts(limits: &[Limit]) -> Vec<LimitSpec> {
    let mut specs: Vec<LimitSpec> = limits.iter().map(limit_spec).collect();
    for counted in ALWAYS_COUNTED {
        if !specs.iter().any(|spec| (spec.0, spec.1) == (counted.0, counted.1)) {
            specs.push(counted);
        }
    }
    specs
}

fn limit_spec(limit: &Limit) -> LimitSpec {
    let dimension = match limit.dimension {
        Dimension::Requests => ledger::Dimension::Requests,
        Dimension::InputTokens => ledger::Dimension::InputTokens,
        Dimension::TotalTokens => ledger::Dimension::TotalTokens,
        Dimension::InFlight => ledger::Dimension::InFlight,
        Dimension::Spend => ledger::Dimension::Spend,
    };
    let span = match limit.window {
        Window::Trailing(seconds) => Span::Trailing(i64::from(seconds) * 1000),
        Window::PacificDay => Span::Day,
        Window::Month => Span::Month,
        Window::None => Span::Held,
    };
    LimitSpec(dimension, span, i64::try_from(limit.amount).unwrap_or(UNLIMITED).min(UNLIMITED))
}

/// A limit's name for people, such as `requests per minute`.
pub fn limit_name(dimension: ledger::Dimension, span: Span) -> String {
    let counted = match dimension {
        ledger::Dimension::Requests => "requests",
        ledger::Dimension::InputTokens => "input tokens",
        ledger::Dimension::TotalTokens => "total tokens",
        ledger::Dimension::InFlight => "requests in flight",
        ledger::Dimension::Spend => "US dollars",
    };
    match span {
        Span::Held => counted.to_owned(),
        Span::Trailing(60_000) => format!("{counted} per minute"),
        Span::Trailing(1_000) => format!("{counted} per second"),
        Span::Trailing(ms) => format!("{counted} per {:?}", Duration::from_millis(ms.unsigned_abs())),
        Span::Day => format!("{counted} per Pacific day"),
        Span::Month => format!("{counted} per month"),
    }
}

/// An account's name for people, which never holds a fingerprint.
pub fn account_name(pool: &catalogue::Pool, id: &str) -> String {
    let key_id = |fingerprint: &str| {
        let keys = pool.projects.iter().flat_map(|project| &project.keys);
        keys.filter(|key| key.fingerprint == fingerprint).map(|key| key.id.clone()).next()
    };
    match AccountOf::parse(id) {
        Some(AccountOf::Key(fingerprint)) => format!("key {}", key_id(fingerprint).unwrap_or_default()),
        Some(AccountOf::KeyModel(fingerprint, model)) => {
            format!("key {}, model {model}", key_id(fingerprint).unwrap_or_default())
        }
        Some(AccountOf::Project(project)) => format!("project {project}"),
        Some(AccountOf::ProjectModel(project, model)) => format!("project {project}, model {model}"),
        Some(AccountOf::Billing(account)) => format!("billing account {account}"),
        None => id.to_owned(),
    }
}
