//! The configuration as it holds: defaults filled in, limits less their margins, key texts masked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::Loaded;
use crate::access::{Identity, Tls, TokenIssuer};
use crate::catalogue::{
    Catalogue, Dimension, Hook, HookAction, Key, Limit, LimitRule, NamePattern, Plan, Pool, Price, Project,
    Window,
};
use crate::secret_sources::{Login, Vault};

/// Everything that was configured, for `keybroker config show`.
#[derive(Debug, Serialize)]
pub struct Effective {
    /// By which brokers know that they lease by the same catalogue.
    digest: String,
    sources: SourcesView,
    tls: Option<TlsView>,
    jwt: Option<IssuerView>,
    log: LogView,
    secrets: SecretsView,
    vault: Option<VaultView>,
    model_aliases: BTreeMap<String, String>,
    default_plan: Option<String>,
    consumers: BTreeMap<String, String>,
    pools: Vec<PoolView>,
    plans: Vec<PlanView>,
    prices: Vec<PriceView>,
    hooks: Vec<HookView>,
    probing: ProbingView,
    identities: Vec<IdentityView>,
}

/// Limits by their names, in requests, tokens or US dollars.
type Limits = BTreeMap<String, Amount>;

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Amount {
    Whole(u64),
    Dollars(f64),
}

#[derive(Debug, Serialize)]
struct SourcesView {
    files: Vec<String>,
    variables: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TlsView {
    certificate_valid_until: Option<String>,
    takes_client_certificates: bool,
}

#[derive(Debug, Serialize)]
struct IssuerView {
    issuer: String,
    audience: String,
}

#[derive(Debug, Serialize)]
struct LogView {
    /// None: that of the command line holds.
    level: Option<String>,
    refusals_per_second: u32,
}

#[derive(Debug, Serialize)]
struct SecretsView {
    refresh_every_seconds: f64,
    command_timeout_seconds: f64,
}

#[derive(Debug, Serialize)]
struct VaultView {
    address: String,
    namespace: Option<String>,
    mount: Option<String>,
    login: String,
}

#[derive(Debug, Serialize)]
struct RuleView {
    model: String,
    #[serde(flatten)]
    limits: Limits,
}

#[derive(Debug, Serialize)]
struct PoolView {
    name: String,
    strategy: String,
    send_within_seconds: f64,
    lease_ttl_seconds: f64,
    margin_percent: u8,
    smooth_bursts: bool,
    learn_limits: &'static str,
    /// Of all keys and models together.
    totals: Limits,
    /// Of each model over all projects.
    model_totals: Vec<RuleView>,
    billing_accounts: Vec<AccountView>,
    projects: Vec<ProjectView>,
}

#[derive(Debug, Serialize)]
struct AccountView {
    id: String,
    totals: Limits,
}

#[derive(Debug, Serialize)]
struct ProjectView {
    id: String,
    tier: String,
    billing_account: Option<String>,
    margin_percent: u8,
    smooth_bursts: bool,
    totals: Limits,
    limits: Vec<RuleView>,
    keys: Vec<KeyView>,
}

#[derive(Debug, Serialize)]
struct KeyView {
    id: String,
    /// Masked.
    key: String,
    source: String,
    weight: u32,
    priority: u8,
    labels: BTreeMap<String, String>,
    totals: Limits,
    limits: Vec<RuleView>,
}

#[derive(Debug, Serialize)]
struct PlanView {
    name: String,
    mode: &'static str,
    limits: Limits,
}

#[derive(Debug, Serialize)]
struct PriceView {
    model: String,
    input_per_million: f64,
    cached_input_per_million: f64,
    output_per_million: f64,
}

#[derive(Debug, Serialize)]
struct HookView {
    name: String,
    events: Vec<&'static str>,
    pools: BTreeSet<String>,
    labels: BTreeMap<String, String>,
    /// A program's path; of a URL only that there is one, since it may hold a token.
    action: String,
    cooldown_seconds: f64,
    timeout_seconds: f64,
    attempts: u32,
}

#[derive(Debug, Serialize)]
struct ProbingView {
    enabled: bool,
    leaked: bool,
    base_url: String,
    model: String,
    first_seconds: f64,
    longest_seconds: f64,
}

#[derive(Debug, Serialize)]
struct IdentityView {
    name: String,
    roles: Vec<&'static str>,
    pools: Vec<String>,
    models: Vec<String>,
    consumers: Vec<String>,
    plan: Option<String>,
}

impl Effective {
    /// What was understood.
    pub fn of(loaded: &Loaded) -> Self {
        let Catalogue { pools, model_aliases, prices, plans, consumers, default_plan, hooks, probing } =
            &loaded.catalogue;
        Self {
            digest: loaded.catalogue.digest(),
            sources: SourcesView {
                files: loaded.files.iter().map(|file| file.display().to_string()).collect(),
                variables: loaded.variables.clone(),
            },
            tls: loaded.access.tls.as_deref().map(tls_view),
            jwt: loaded.access.issuer.as_deref().map(issuer_view),
            log: LogView {
                level: loaded.log.level.clone(),
                refusals_per_second: loaded.log.refusals_per_second,
            },
            secrets: SecretsView {
                refresh_every_seconds: seconds(loaded.sources.refresh_every),
                command_timeout_seconds: seconds(loaded.sources.settings.command_timeout),
            },
            vault: loaded.sources.settings.vault.as_ref().map(vault_view),
            model_aliases: model_aliases.clone(),
            default_plan: default_plan.clone(),
            consumers: consumers.clone(),
            pools: pools.values().map(|pool| pool_view(pool, loaded)).collect(),
            plans: plans.values().map(plan_view).collect(),
            prices: prices.iter().map(price_view).collect(),
            hooks: hooks.iter().map(hook_view).collect(),
            probing: ProbingView {
                enabled: probing.enabled,
                leaked: probing.leaked,
                base_url: probing.base_url.clone(),
                model: probing.model.clone(),
                first_seconds: seconds(probing.first),
                longest_seconds: seconds(probing.longest),
            },
            identities: loaded.access.identities().map(identity_view).collect(),
        }
    }
}

fn tls_view(tls: &Tls) -> TlsView {
    TlsView {
        certificate_valid_until: tls.valid_until().map(|until| until.to_string()),
        takes_client_certificates: tls.client_authorities().is_some(),
    }
}

fn issuer_view(issuer: &TokenIssuer) -> IssuerView {
    IssuerView { issuer: issuer.name().to_owned(), audience: issuer.audience().to_owned() }
}

fn vault_view(vault: &Vault) -> VaultView {
    VaultView {
        address: vault.address.to_string(),
        namespace: vault.namespace.clone(),
        mount: vault.mount.clone(),
        login: match &vault.login {
            Login::Token(_) => "token".to_owned(),
            Login::Kubernetes { role, mount, .. } => format!("kubernetes at {mount}, role {role}"),
        },
    }
}

fn pool_view(pool: &Pool, loaded: &Loaded) -> PoolView {
    PoolView {
        name: pool.name.clone(),
        strategy: pool.strategy.to_string(),
        send_within_seconds: seconds(pool.send_within),
        lease_ttl_seconds: seconds(pool.lease_ttl),
        margin_percent: pool.margin_percent,
        smooth_bursts: pool.smooth_bursts,
        learn_limits: pool.learn_limits.as_str(),
        totals: limits(&pool.pool_totals()),
        model_totals: rules(&[&pool.model_totals], |model| pool.model_totals_for(model)),
        billing_accounts: pool
            .billing_accounts
            .iter()
            .map(|account| AccountView {
                id: account.id.clone(),
                totals: limits(&pool.account_totals(&account.id)),
            })
            .collect(),
        projects: pool.projects.iter().map(|project| project_view(pool, project, loaded)).collect(),
    }
}

fn project_view(pool: &Pool, project: &Project, loaded: &Loaded) -> ProjectView {
    ProjectView {
        id: project.id.clone(),
        tier: project.tier.to_string(),
        billing_account: project.billing_account.clone(),
        margin_percent: project.margin_percent.unwrap_or(pool.margin_percent),
        smooth_bursts: project.smooth_bursts.unwrap_or(pool.smooth_bursts),
        totals: limits(&pool.project_totals(project)),
        limits: rules(&[&pool.limits, &project.limits], |model| pool.limits_for(project, model)),
        keys: project.keys.iter().map(|key| key_view(pool, project, key, loaded)).collect(),
    }
}

fn key_view(pool: &Pool, project: &Project, key: &Key, loaded: &Loaded) -> KeyView {
    let standing = pool.standing_of(project, key);
    KeyView {
        id: key.id.clone(),
        key: key.secret.to_string(),
        source: loaded.key_places.get(&key.id).cloned().unwrap_or_default(),
        weight: standing.weight,
        priority: standing.class,
        labels: key.labels.clone(),
        totals: limits(&pool.key_totals(project, key)),
        limits: rules(&[&key.limits], |model| pool.key_limits_for(project, key, model)),
    }
}

fn plan_view(plan: &Plan) -> PlanView {
    PlanView { name: plan.name.clone(), mode: plan.mode.as_str(), limits: limits(&plan.limits) }
}

fn price_view(price: &Price) -> PriceView {
    PriceView {
        model: price.model.to_string(),
        input_per_million: dollars(price.input),
        cached_input_per_million: dollars(price.cached_input),
        output_per_million: dollars(price.output),
    }
}

fn hook_view(hook: &Hook) -> HookView {
    let action = match &hook.action {
        HookAction::Post { format, .. } => format!("post {} to a URL", format.as_str()),
        HookAction::Run { command } => {
            format!("run {}", command.first().map_or("nothing", String::as_str))
        }
    };
    HookView {
        name: hook.name.clone(),
        events: hook.events.iter().map(|event| event.as_str()).collect(),
        pools: hook.pools.clone(),
        labels: hook.labels.clone(),
        action,
        cooldown_seconds: seconds(hook.cooldown),
        timeout_seconds: seconds(hook.timeout),
        attempts: hook.attempts,
    }
}

fn identity_view(identity: &Identity) -> IdentityView {
    let texts = |patterns: &[NamePattern]| patterns.iter().map(ToString::to_string).collect();
    IdentityView {
        name: identity.name.clone(),
        roles: identity.roles.iter().map(|role| role.as_str()).collect(),
        pools: texts(&identity.pools),
        models: texts(&identity.models),
        consumers: texts(&identity.consumers),
        plan: identity.plan.clone(),
    }
}

/// For each pattern that is written, what holds for the models that it names and no narrower one does. A pattern
/// with a star matches its own text as it matches a model's.
fn rules(written: &[&[LimitRule]], holds: impl Fn(&str) -> Vec<Limit>) -> Vec<RuleView> {
    let patterns: BTreeSet<String> =
        written.iter().flat_map(|rules| rules.iter()).map(|rule| rule.model.to_string()).collect();
    let view = |model: String| RuleView { limits: limits(&holds(&model)), model };
    patterns.into_iter().map(view).collect()
}

fn limits(all: &[Limit]) -> Limits {
    let named = |limit: &Limit| {
        let name = match limit.window {
            Window::None => limit.dimension.to_string(),
            window => format!("{}_per_{window}", limit.dimension),
        };
        let amount = match limit.dimension {
            Dimension::Spend => Amount::Dollars(dollars(limit.amount)),
            _ => Amount::Whole(limit.amount),
        };
        (name, amount)
    };
    all.iter().map(named).collect()
}

fn dollars(millionths: u64) -> f64 {
    millionths as f64 / 1e6
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}
