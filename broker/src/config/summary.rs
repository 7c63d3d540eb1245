//! What a start-up log says of a catalogue.

use crate::access::{Identity, Rules};
use crate::catalogue::{
    Catalogue, EventKind, Hook, LearnLimits, Limit, LimitRule, Plan, Pool, Probing, Project,
};

use super::Loaded;
use super::section::spoken;

/// The most projects, billing accounts, plans, hooks and prices that are named, and the most keys
/// of one project.
const LISTED: usize = 20;
const LISTED_KEYS: usize = 8;

/// Lines that tell an operator what was understood: totals, then each pool, then its projects
/// with their keys (masked), as many as a log can bear, then plans, prices, hooks, probing and who may call.
pub fn summary(Loaded { catalogue, access, .. }: &Loaded) -> Vec<String> {
    let mut lines = vec![format!(
        "{}, {}, {}, {}; digest {}",
        counted(catalogue.pools.len(), "pool"),
        counted(catalogue.projects().count(), "project"),
        counted(catalogue.keys().count(), "key"),
        counted(limits_of(catalogue), "limit"),
        catalogue.digest()
    )];
    for pool in catalogue.pools.values() {
        lines.push(pool_line(pool));
        let accounts = pool
            .billing_accounts
            .iter()
            .map(|account| format!("  billing account {}: {}", account.id, limits_in_words(&account.totals)));
        list(&mut lines, accounts, "  ", "billing account");
        list(&mut lines, pool.projects.iter().map(project_line), "  ", "project");
    }
    list(&mut lines, catalogue.plans.values().map(|plan| plan_line(catalogue, access, plan)), "", "plan");
    if catalogue.default_plan.is_none() {
        lines.push("consumers that are not named have no plan".to_owned());
    }
    lines.extend(prices_line(catalogue));
    list(&mut lines, catalogue.hooks.iter().map(hook_line), "", "hook");
    lines.push(probing_line(&catalogue.probing));
    list(&mut lines, access.identities().map(identity_line), "", "identity");
    lines
}

fn identity_line(identity: &Identity) -> String {
    let roles: Vec<&str> = identity.roles.iter().map(|role| role.as_str()).collect();
    let mut line = format!("identity {}: {}", identity.name, roles.join(", "));
    for (what, patterns) in
        [("pools", &identity.pools), ("models", &identity.models), ("consumers", &identity.consumers)]
    {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        if patterns != ["*"] {
            line.push_str(&format!("; {what} {}", patterns.join(", ")));
        }
    }
    if let Some(plan) = &identity.plan {
        line.push_str(&format!("; plan {plan}"));
    }
    line
}

fn limits_of(catalogue: &Catalogue) -> usize {
    let of_rules = |rules: &[LimitRule]| rules.iter().map(|rule| rule.limits.len()).sum::<usize>();
    let of_pool = |pool: &Pool| {
        let of_accounts: usize = pool.billing_accounts.iter().map(|account| account.totals.len()).sum();
        of_rules(&pool.limits) + of_rules(&pool.model_totals) + pool.totals.len() + of_accounts
    };
    let of_projects =
        catalogue.projects().map(|(_, project)| of_rules(&project.limits) + project.totals.len());
    let of_keys = catalogue.keys().map(|(_, key)| of_rules(&key.limits) + key.totals.len());
    catalogue.pools.values().map(of_pool).sum::<usize>() + of_projects.sum::<usize>() + of_keys.sum::<usize>()
}

fn pool_line(pool: &Pool) -> String {
    let keys = pool.projects.iter().map(|project| project.keys.len()).sum();
    let mut line = format!(
        "pool {}: {}, {}, {}, send within {:?}, leases of {:?}",
        pool.name,
        pool.strategy,
        counted(pool.projects.len(), "project"),
        counted(keys, "key"),
        pool.send_within,
        pool.lease_ttl,
    );
    if pool.margin_percent > 0 {
        line += &margin_in_words(pool.margin_percent);
    }
    if pool.smooth_bursts {
        line += ", bursts smoothed";
    }
    match pool.learn_limits {
        LearnLimits::Lower => {}
        LearnLimits::Raise => line += ", learned limits may raise ours",
        LearnLimits::Off => line += ", no limits learned",
    }
    line += &rules_in_words(&pool.limits);
    line += &totals_in_words(&pool.totals, "all keys");
    if !pool.model_totals.is_empty() {
        let rules = rules_in_words(&pool.model_totals);
        line += &format!("; all projects together: {}", rules.trim_start_matches("; "));
    }
    line
}

fn project_line(project: &Project) -> String {
    let keys = project.keys.iter().take(LISTED_KEYS).map(|key| format!("{} {}", key.id, key.secret));
    let mut keys: Vec<_> = keys.collect();
    if project.keys.len() > LISTED_KEYS {
        keys.push(format!("and {} more", project.keys.len() - LISTED_KEYS));
    }
    let keys = if keys.is_empty() { "no keys".to_owned() } else { keys.join(", ") };
    let account = project.billing_account.as_ref().map(|account| format!(", account {account}"));
    let margin = project.margin_percent.map(margin_in_words);
    let bursts = project
        .smooth_bursts
        .map(|smooth| if smooth { ", bursts smoothed" } else { ", bursts not smoothed" });
    format!(
        "  project {} ({} tier{}{}{}): {keys}{}{}",
        project.id,
        project.tier,
        account.unwrap_or_default(),
        margin.unwrap_or_default(),
        bursts.unwrap_or_default(),
        rules_in_words(&project.limits),
        totals_in_words(&project.totals, "all models"),
    )
}

fn plan_line(catalogue: &Catalogue, access: &Rules, plan: &Plan) -> String {
    let named = catalogue.consumers.values().filter(|name| **name == plan.name).count();
    let identities =
        access.identities().filter(|identity| identity.plan.as_deref() == Some(&plan.name)).count();
    let mut holds = match (catalogue.default_plan.as_ref() == Some(&plan.name), named) {
        (true, 0) if catalogue.consumers.is_empty() => "for every consumer".to_owned(),
        (true, 0) => "for every one that is not named".to_owned(),
        (true, named) => format!("for {} and every one that is not named", counted(named, "consumer")),
        (false, 0) if identities > 0 => String::new(),
        (false, 0) => "for nobody".to_owned(),
        (false, named) => format!("for {}", counted(named, "consumer")),
    };
    if identities > 0 {
        let noun = if identities == 1 { "identity" } else { "identities" };
        holds.push_str(&format!("{}for {identities} {noun}", if holds.is_empty() { "" } else { " and " }));
    }
    let limits = if plan.limits.is_empty() { "no limits".to_owned() } else { limits_in_words(&plan.limits) };
    format!("plan {} ({}, {holds}): {limits}", plan.name, plan.mode.as_str())
}

fn prices_line(catalogue: &Catalogue) -> Option<String> {
    let patterns = catalogue.prices.iter().take(LISTED).map(|price| price.model.to_string());
    let mut patterns: Vec<_> = patterns.collect();
    if catalogue.prices.len() > LISTED {
        patterns.push(format!("and {} more", catalogue.prices.len() - LISTED));
    }
    (!patterns.is_empty()).then(|| format!("prices of {}", patterns.join(", ")))
}

/// A hook's name and events alone: where it leads may be a secret.
fn hook_line(hook: &Hook) -> String {
    let events: Vec<_> = hook.events.iter().map(|event| event.as_str()).collect();
    let every = events.len() == EventKind::ALL.len();
    format!("hook {}: {}", hook.name, if every { "every event".to_owned() } else { events.join(", ") })
}

fn probing_line(probing: &Probing) -> String {
    if !probing.enabled {
        return "disabled keys are not probed".to_owned();
    }
    let leaked = if probing.leaked { ", leaked ones too" } else { "" };
    format!(
        "disabled keys are probed after {}, then at intervals of up to {}{leaked}",
        spoken(probing.first),
        spoken(probing.longest)
    )
}

/// Adds as many lines as a log can bear, and how many there would be beyond.
fn list(lines: &mut Vec<String>, all: impl ExactSizeIterator<Item = String>, indent: &str, noun: &str) {
    let beyond = all.len().saturating_sub(LISTED);
    lines.extend(all.take(LISTED));
    if beyond > 0 {
        lines.push(format!("{indent}and {} more", counted(beyond, noun)));
    }
}

fn margin_in_words(percent: u8) -> String {
    format!(", margin {percent} %")
}

fn totals_in_words(totals: &[Limit], of: &str) -> String {
    if totals.is_empty() { String::new() } else { format!("; {of} together: {}", limits_in_words(totals)) }
}

fn rules_in_words(rules: &[LimitRule]) -> String {
    let rules = rules.iter().map(|rule| format!("; {}: {}", rule.model, limits_in_words(&rule.limits)));
    rules.collect()
}

fn limits_in_words(limits: &[Limit]) -> String {
    let limits: Vec<_> = limits.iter().map(ToString::to_string).collect();
    limits.join(", ")
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
