//! The TOML file, read whole: what it says of pools, projects and keys, before they are put together.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeTable;

use super::consumers::{self, WrittenConsumers};
use super::fault::Findings;
use super::hooks::{self, WrittenHook};
use super::identities::{self, WrittenAccess};
use super::key_text::Lookup;
use super::limits::{PoolRule, read_model_rules, read_pool_rules, read_tier, read_totals};
use super::log;
use super::models::{Models, read_prices};
use super::section::{Document, ID_RULE, Section, is_id};
use super::sources::{self, SecretSources};
use super::{probing, reference};
use crate::catalogue::{
    BillingAccount, DEFAULT_LEASE_TTL, DEFAULT_POOL, DEFAULT_SEND_WITHIN, LearnLimits, Limit, LimitRule,
    Pool, Price, Probing, Strategy, Tier,
};
use crate::log::LogSettings;
use crate::secret::Secret;

pub(super) const SEND_WITHIN: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);
pub(super) const LEASE_TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Everything that a file says.
#[derive(Default)]
pub(super) struct Written {
    pub(super) pools: Vec<WrittenPool>,
    pub(super) projects: Vec<WrittenProject>,
    pub(super) billing_accounts: Vec<WrittenAccount>,
    pub(super) model_aliases: BTreeMap<String, String>,
    pub(super) prices: Vec<Price>,
    pub(super) consumers: WrittenConsumers,
    pub(super) hooks: Vec<WrittenHook>,
    pub(super) access: WrittenAccess,
    pub(super) probing: Probing,
    pub(super) sources: SecretSources,
    pub(super) log: LogSettings,
}

/// One of `[[pools]]`. Every `place` here is where it stands in the file.
pub(super) struct WrittenPool {
    pub(super) place: String,
    /// The pool without its projects and without `limits`, which may be for one tier.
    pub(super) pool: Pool,
    /// Whether a strategy was chosen.
    pub(super) strategy: bool,
    pub(super) limits: Vec<PoolRule>,
}

/// One of `[[projects]]`.
pub(super) struct WrittenProject {
    pub(super) place: String,
    pub(super) pool_place: String,
    /// Nothing if it is missing or no id, which is a fault already.
    pub(super) id: Option<String>,
    pub(super) pool: String,
    pub(super) tier: Tier,
    pub(super) billing_account: Option<String>,
    pub(super) account_place: String,
    pub(super) margin_percent: Option<u8>,
    pub(super) smooth_bursts: Option<bool>,
    pub(super) limits: Vec<LimitRule>,
    pub(super) totals: Vec<Limit>,
    pub(super) keys: Vec<WrittenKey>,
}

/// One of `[[billing_accounts]]`.
pub(super) struct WrittenAccount {
    pub(super) place: String,
    pub(super) account: BillingAccount,
}

/// One of a project's `keys`.
pub(super) struct WrittenKey {
    pub(super) place: String,
    pub(super) id: Option<String>,
    /// Nothing if it could not be had, which is a fault already.
    pub(super) secret: Option<Secret>,
    pub(super) weight: Option<u32>,
    pub(super) weight_place: String,
    pub(super) priority: Option<u8>,
    pub(super) priority_place: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) limits: Vec<LimitRule>,
    pub(super) totals: Vec<Limit>,
}

/// Reads a file's text. A text that is not TOML is one fault, since nothing after it is certain.
pub(super) fn read(
    document: &Document,
    text: &str,
    lookup: &mut Lookup<'_>,
    found: &mut Findings,
) -> Written {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let offset = error.span().map_or(text.len(), |span| span.start);
            // The error's own display would quote the line, and the line may hold a key.
            found.fault(document.position(text, offset), error.message(), "correct the TOML there");
            return Written::default();
        }
    };
    let root = Section::root(document, &table);
    root.only(&reference::ROOT, found);
    let sources = sources::read(&root, lookup, found);
    let mut models = Models::read(&root, found);
    let prices = read_prices(&root, &models, found);
    let pools = root.sections("pools", found);
    let projects = root.sections("projects", found);
    let accounts = root.sections("billing_accounts", found);
    let written = Written {
        pools: pools.iter().map(|section| read_pool(section, &mut models, found)).collect(),
        projects: projects.iter().map(|section| read_project(section, &mut models, lookup, found)).collect(),
        billing_accounts: accounts
            .iter()
            .filter_map(|section| read_account(section, &mut models, found))
            .collect(),
        consumers: consumers::read(&root, &mut models, found),
        hooks: hooks::read(&root, lookup, found),
        access: identities::read(&root, lookup, found),
        probing: probing::read(&root, found),
        sources,
        log: log::read(&root, found),
        ..Written::default()
    };
    models.check_prices(&prices, found);
    Written { prices, model_aliases: models.aliases, ..written }
}

fn read_pool(section: &Section<'_>, models: &mut Models, found: &mut Findings) -> WrittenPool {
    section.only(&reference::POOL, found);
    let strategy = section.choice("strategy", "a strategy", &Strategy::ALL, Strategy::as_str, found);
    let learn_limits =
        section.choice("learn_limits", "one of its values", &LearnLimits::ALL, LearnLimits::as_str, found);
    let pool = Pool {
        strategy: strategy.unwrap_or_default(),
        send_within: section.duration("send_within", SEND_WITHIN, found).unwrap_or(DEFAULT_SEND_WITHIN),
        lease_ttl: section.duration("lease_ttl", LEASE_TTL, found).unwrap_or(DEFAULT_LEASE_TTL),
        margin_percent: read_margin(section, found).unwrap_or_default(),
        smooth_bursts: section.truth("smooth_bursts", found).unwrap_or_default(),
        learn_limits: learn_limits.unwrap_or_default(),
        totals: read_totals(section, models, found),
        model_totals: read_model_rules(section, "model_totals", models, found),
        ..Pool::new(section.id("name", found).unwrap_or(DEFAULT_POOL))
    };
    let limits = read_pool_rules(section, models, found);
    WrittenPool { place: section.place_of("name"), pool, strategy: section.has("strategy"), limits }
}

fn read_margin(section: &Section<'_>, found: &mut Findings) -> Option<u8> {
    let percent = section.number("margin_percent", reference::MARGIN, found)?;
    u8::try_from(percent).ok()
}

fn read_account(section: &Section<'_>, models: &mut Models, found: &mut Findings) -> Option<WrittenAccount> {
    section.only(&reference::BILLING_ACCOUNT, found);
    let id = section.required_id("id", "account-a", found);
    let totals = read_totals(section, models, found);
    if !section.has("totals") {
        found.fault(section.place(), "has no `totals`", "add totals = { spend_per_month = 250 }");
    }
    Some(WrittenAccount { place: section.place(), account: BillingAccount { id: id?.to_owned(), totals } })
}

fn read_project(
    section: &Section<'_>,
    models: &mut Models,
    lookup: &mut Lookup<'_>,
    found: &mut Findings,
) -> WrittenProject {
    section.only(&reference::PROJECT, found);
    if !section.has("id") {
        found.fault(section.place(), "has no `id`", "add id = \"...\", Google's name of the project");
    }
    let keys = section.sections("keys", found);
    WrittenProject {
        place: section.place(),
        pool_place: section.place_of("pool"),
        id: section.id("id", found).map(str::to_owned),
        pool: section.id("pool", found).unwrap_or(DEFAULT_POOL).to_owned(),
        tier: read_tier(section, found).unwrap_or_default(),
        billing_account: section.id("billing_account", found).map(str::to_owned),
        account_place: section.place_of("billing_account"),
        margin_percent: read_margin(section, found),
        smooth_bursts: section.truth("smooth_bursts", found),
        limits: read_model_rules(section, "limits", models, found),
        totals: read_totals(section, models, found),
        keys: keys.iter().map(|key| read_key(key, models, lookup, found)).collect(),
    }
}

fn read_key(
    section: &Section<'_>,
    models: &mut Models,
    lookup: &mut Lookup<'_>,
    found: &mut Findings,
) -> WrittenKey {
    section.only(&reference::KEY, found);
    let secret = lookup.secret(section, found);
    let weight = section.number("weight", reference::WEIGHT, found);
    let priority = section.number("priority", reference::PRIORITY, found);
    WrittenKey {
        place: section.place(),
        id: section.id("id", found).map(str::to_owned),
        secret,
        weight: weight.and_then(|weight| u32::try_from(weight).ok()),
        weight_place: section.place_of("weight"),
        priority: priority.and_then(|priority| u8::try_from(priority).ok()),
        priority_place: section.place_of("priority"),
        labels: read_labels(section, found),
        limits: read_model_rules(section, "limits", models, found),
        totals: read_totals(section, models, found),
    }
}

/// The most characters a label's value may have.
const LONGEST_LABEL: usize = 128;

/// The field `labels` of a section.
pub(super) fn read_labels(section: &Section<'_>, found: &mut Findings) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, value, place) in section.pairs("labels", found) {
        if !is_id(name) {
            found.fault(place, "is not a valid label name", ID_RULE);
        } else if value.chars().count() > LONGEST_LABEL || value.chars().any(char::is_control) {
            found.fault(place, "is not a valid label value", "use at most 128 printable characters");
        } else {
            found.keep_name(&place, name);
            found.keep_name(&place, value);
            labels.insert(name.to_owned(), value.to_owned());
        }
    }
    labels
}
