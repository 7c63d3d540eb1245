//! How a pool of the catalogue stands in the ledger: its accounts, candidates and shards.

use std::{collections::HashSet, time::Duration};

use keybroker_proto::v1::Tier as WireTier;

use crate::{
    catalogue::{
        self, Dimension, LearnLimits, Limit, LimitRule, Plan, PlanMode, Pool, Project, Strategy, Tier, Window,
    },
    ledger::{
        self, AccountSpec, CandidateSpec, CommonSpec, Horizon, LimitSpec, Mode, Order, ShardSpec, Span,
        UNLIMITED, shard::SCALE, steady::CLOCK_MARGIN,
    },
};

/// What is counted for every project and quota model, limited or not: a limit that comes later, by
/// configuration or from Google, then finds what was used before it.
const ALWAYS_COUNTED: [LimitSpec; 4] = [
    LimitSpec(ledger::Dimension::Requests, Span::Trailing(60_000), UNLIMITED),
    LimitSpec(ledger::Dimension::InputTokens, Span::Trailing(60_000), UNLIMITED),
    LimitSpec(ledger::Dimension::Requests, Span::Day, UNLIMITED),
    LimitSpec(ledger::Dimension::InFlight, Span::Held, UNLIMITED),
];

/// An account by what it stands for. The first letter of an id is its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountOf<'a> {
    /// A key, by its fingerprint: its blocks, health and totals. A new text under the same id starts clean.
    Key(&'a str),
    /// The limits of a key for a quota model.
    KeyModel(&'a str, &'a str),
    /// A project: its blocks and totals.
    Project(&'a str),
    /// A project's quota model: where Google counts.
    ProjectModel(&'a str, &'a str),
    /// A billing account: blocks and totals of all its projects.
    Billing(&'a str),
    /// The billing account of a project that names none, by the project: it is out alone.
    OwnBilling(&'a str),
    /// A quota model in the whole pool: its breaker and totals.
    Model(&'a str),
    /// The pool as a whole.
    Pool,
    /// Who asks.
    Consumer(&'a str),
    /// An identity: all of its leases, for whichever consumers.
    Identity(&'a str),
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
            // No id of an account holds a slash.
            Self::OwnBilling(project) => format!("b//{project}"),
            Self::Model(model) => format!("m/{model}"),
            Self::Pool => "w/pool".to_owned(),
            Self::Consumer(consumer) => format!("c/{consumer}"),
            Self::Identity(identity) => format!("i/{identity}"),
        }
    }
}

impl<'a> AccountOf<'a> {
    /// The billing account of a project.
    pub fn billing_of(project: &'a Project) -> Self {
        project.billing_account.as_deref().map_or(Self::OwnBilling(&project.id), Self::Billing)
    }

    /// Reads a ledger's id.
    pub fn parse(id: &'a str) -> Option<Self> {
        let (role, rest) = id.split_once('/')?;
        Some(match role {
            "k" => Self::Key(rest),
            "p" => Self::Project(rest),
            "b" => rest.strip_prefix('/').map_or(Self::Billing(rest), Self::OwnBilling),
            "m" => Self::Model(rest),
            "w" => Self::Pool,
            "c" => Self::Consumer(rest),
            "i" => Self::Identity(rest),
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
        order: match pool.strategy {
            Strategy::RoundRobin | Strategy::Weighted | Strategy::Priority => Order::Share,
            Strategy::LeastRecentlyUsed => Order::LeastRecent,
            Strategy::HealthAware => Order::Health,
            Strategy::LeastUtilized => Order::LeastUtilized,
        },
    };
    let mut accounts_seen = HashSet::new();
    for project in pool.projects.iter().filter(|project| serves(project, tier) && !project.keys.is_empty()) {
        let mode = if pool.learn_limits == LearnLimits::Raise { Mode::Learning } else { Mode::Hard };
        let limits = limits_with_counts(&pool.limits_for(project, quota_model));
        let of_model = AccountOf::ProjectModel(&project.id, quota_model).id();
        spec.accounts.push(AccountSpec { id: of_model, limits, mode });
        for key in &project.keys {
            let mut all = AccountsOf::new(project, quota_model);
            all.limited(
                AccountOf::KeyModel(&key.fingerprint, quota_model),
                &pool.key_limits_for(project, key, quota_model),
            );
            all.limited_or_sparse(AccountOf::Key(&key.fingerprint), &pool.key_totals(project, key));
            all.limited_or_sparse(AccountOf::Project(&project.id), &pool.project_totals(project));
            let account = project.billing_account.as_deref();
            let totals = account.map(|account| pool.account_totals(account)).unwrap_or_default();
            all.limited_or_sparse(AccountOf::billing_of(project), &totals);
            let standing = pool.standing_of(project, key);
            // The step of a whole limit; keys of one project fill the same ones, so each takes its part of the
            // turns. It is fine enough for limits of a hundred million.
            let siblings =
                if spec.order == Order::LeastUtilized { 1000 * project.keys.len() as i64 } else { 1 };
            spec.candidates.push(CandidateSpec {
                name: key.id.clone(),
                class: i64::from(standing.class),
                step: SCALE * siblings / i64::from(standing.weight),
                limited: all.limited,
                sparse: all.sparse,
                tag: project.id.clone(),
            });
            spec.accounts.extend(all.specs.into_iter().filter(|spec| accounts_seen.insert(spec.id.clone())));
        }
    }
    (!spec.candidates.is_empty()).then_some(spec)
}

/// The accounts of a candidate: those with limits, and those that only ever hold a block.
struct AccountsOf {
    limited: Vec<String>,
    sparse: Vec<String>,
    specs: Vec<AccountSpec>,
}

impl AccountsOf {
    fn new(project: &Project, quota_model: &str) -> Self {
        let of_model = AccountOf::ProjectModel(&project.id, quota_model).id();
        Self { limited: vec![of_model], sparse: Vec::new(), specs: Vec::new() }
    }

    fn limited(&mut self, account: AccountOf<'_>, limits: &[Limit]) -> bool {
        if !limits.is_empty() {
            self.limited.push(account.id());
            let limits = limits.iter().map(limit_spec).collect();
            self.specs.push(AccountSpec { id: account.id(), limits, mode: Mode::Hard });
        }
        !limits.is_empty()
    }

    fn limited_or_sparse(&mut self, account: AccountOf<'_>, limits: &[Limit]) {
        if !self.limited(account, limits) {
            self.sparse.push(account.id());
        }
    }
}

/// The accounts beside those of the keys that every request for a quota model is counted on: the pool's, and
/// the model's, which its breaker blocks too.
pub fn commons(pool: &Pool, quota_model: &str, generation: i64) -> Vec<CommonSpec> {
    let mut specs = Vec::with_capacity(3);
    let totals = pool.pool_totals();
    if !totals.is_empty() {
        specs.push(common(AccountOf::Pool, &totals, generation));
    }
    let totals = pool.model_totals_for(quota_model);
    specs.push(common(AccountOf::Model(quota_model), &totals, generation));
    specs
}

/// All that leases of a pool may count in.
pub fn horizon<'a>(pool: &Pool, plans: impl Iterator<Item = &'a Plan>) -> Horizon {
    let rules = |rules: &[LimitRule]| rules.iter().flat_map(|rule| rule.limits.clone()).collect::<Vec<_>>();
    let mut limits = [rules(&pool.limits), rules(&pool.model_totals), pool.totals.clone()].concat();
    limits.extend(pool.tier_limits.iter().flat_map(|(_, rule)| rule.limits.clone()));
    limits.extend(pool.billing_accounts.iter().flat_map(|account| account.totals.clone()));
    for project in &pool.projects {
        limits.extend(rules(&project.limits).into_iter().chain(project.totals.clone()));
        for key in &project.keys {
            limits.extend(rules(&key.limits).into_iter().chain(key.totals.clone()));
        }
    }
    limits.extend(plans.flat_map(|plan| plan.limits.clone()));
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Horizon {
        limits: limits.iter().map(limit_spec).collect(),
        send_within: millis(pool.send_within) + CLOCK_MARGIN,
        ttl: millis(pool.lease_ttl),
    }
}

/// The account of a consumer or an identity; none if its plan limits nothing.
pub fn plan_common(account: AccountOf<'_>, plan: &Plan, generation: i64) -> Option<CommonSpec> {
    let mode = if plan.mode == PlanMode::Soft { Mode::Soft } else { Mode::Hard };
    let spec = common(account, &plan.limits, generation);
    (!plan.limits.is_empty()).then_some(CommonSpec { mode, passing: true, ..spec })
}

fn common(account: AccountOf<'_>, limits: &[Limit], generation: i64) -> CommonSpec {
    let limits = limits.iter().map(limit_spec).collect();
    CommonSpec { id: account.id(), generation, limits, mode: Mode::Hard, passing: false }
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
        Span::Trailing(600_000) => format!("{counted} per 10 minutes"),
        Span::Trailing(ms) => format!("{counted} per {:?}", Duration::from_millis(ms.unsigned_abs())),
        Span::Day => format!("{counted} per Pacific day"),
        Span::Month => format!("{counted} per month"),
    }
}

/// The keys that an account counts for or blocks; none if it does not stand for keys.
pub fn keys_behind(pool: &catalogue::Pool, id: &str) -> Option<Vec<String>> {
    let account = match AccountOf::parse(id)? {
        AccountOf::Model(_) | AccountOf::Pool | AccountOf::Consumer(_) | AccountOf::Identity(_) => {
            return None;
        }
        of_keys => of_keys,
    };
    let stands_behind = |project: &Project, key: &catalogue::Key| match account {
        AccountOf::Key(fingerprint) | AccountOf::KeyModel(fingerprint, _) => key.fingerprint == fingerprint,
        AccountOf::Project(id) | AccountOf::ProjectModel(id, _) => project.id == id,
        AccountOf::Billing(_) | AccountOf::OwnBilling(_) => AccountOf::billing_of(project) == account,
        AccountOf::Model(_) | AccountOf::Pool | AccountOf::Consumer(_) | AccountOf::Identity(_) => false,
    };
    let of_project = |project: &Project| -> Vec<String> {
        let keys = project.keys.iter().filter(|key| stands_behind(project, key));
        keys.map(|key| key.id.clone()).collect()
    };
    Some(pool.projects.iter().flat_map(of_project).collect())
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
        Some(AccountOf::OwnBilling(project)) => format!("billing account of project {project}"),
        Some(AccountOf::Model(model)) => format!("model {model}"),
        Some(AccountOf::Pool) => format!("pool {}", pool.name),
        Some(AccountOf::Consumer(consumer)) => format!("consumer {consumer}"),
        Some(AccountOf::Identity(identity)) => format!("identity {identity}"),
        None => id.to_owned(),
    }
}
