//! The TOML file, read whole: what it says of pools, projects and keys, before they are put together.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeTable;

use super::fault::Findings;
use super::key_text::Lookup;
use super::limits::{Owner, PoolRule, read as read_limits, read_tier};
use super::section::{Document, ID_RULE, Section, is_id};
use crate::catalogue::{
    DEFAULT_LEASE_TTL, DEFAULT_POOL, DEFAULT_SEND_WITHIN, LimitRule, Tier, is_model_name,
};
use crate::secret::Secret;

/// Everything that a file says.
#[derive(Default)]
pub(super) struct Written {
    pub(super) pools: Vec<WrittenPool>,
    pub(super) projects: Vec<WrittenProject>,
    pub(super) model_aliases: BTreeMap<String, String>,
}

/// One of `[[pools]]`. Every `place` here is where it stands in the file.
pub(super) struct WrittenPool {
    pub(super) place: String,
    pub(super) name: String,
    pub(super) send_within: Duration,
    pub(super) lease_ttl: Duration,
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
    pub(super) limits: Vec<LimitRule>,
    pub(super) keys: Vec<WrittenKey>,
}

/// One of a project's `keys`.
pub(super) struct WrittenKey {
    pub(super) place: String,
    pub(super) id: Option<String>,
    /// Nothing if it could not be had, which is a fault already.
    pub(super) secret: Option<Secret>,
    pub(super) weight: u32,
    pub(super) priority: u8,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) limits: Vec<LimitRule>,
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
    root.only(&["pools", "projects", "model_aliases"], found);
    let model_aliases = read_aliases(&root, found);
    let quota_model = |model: &str| model_aliases.get(model).cloned();
    let pools = root.sections("pools", found);
    let projects = root.sections("projects", found);
    let pools = pools.iter().map(|section| read_pool(section, &quota_model, found)).collect();
    let projects =
        projects.iter().map(|section| read_project(section, &quota_model, lookup, found)).collect();
    Written { pools, projects, model_aliases }
}

fn read_aliases(root: &Section<'_>, found: &mut Findings) -> BTreeMap<String, String> {
    let mut aliases = BTreeMap::new();
    let pairs = root.pairs("model_aliases", found);
    for (model, quota_model, place) in &pairs {
        let bare = |name: &str| name.strip_prefix("models/").unwrap_or(name).to_owned();
        let (model, quota_model) = (bare(model), bare(quota_model));
        if !is_model_name(&model) || !is_model_name(&quota_model) {
            let fix = "use letters, digits and . _ - / : @ in model names";
            found.fault(place, "is not a pair of model names", fix);
            continue;
        }
        found.keep_name(place, &model);
        found.keep_name(place, &quota_model);
        let counted_elsewhere = |other: &&(&str, &str, String)| {
            bare(other.0) == quota_model && bare(other.1) != quota_model && model != quota_model
        };
        if let Some((_, last, _)) = pairs.iter().find(counted_elsewhere) {
            let problem = format!("{quota_model} is itself an alias, and aliases are followed once");
            found.fault(place, problem, format!("write \"{}\", or drop the other alias", bare(last)));
        }
        if aliases.insert(model, quota_model).is_some() {
            found.fault(place, "the model is named twice", "write it once, without models/");
        }
    }
    aliases
}

fn read_pool(
    section: &Section<'_>,
    quota_model: &dyn Fn(&str) -> Option<String>,
    found: &mut Findings,
) -> WrittenPool {
    section.only(&["name", "send_within", "lease_ttl", "limits"], found);
    let name = section.id("name", found).unwrap_or(DEFAULT_POOL).to_owned();
    let send_within = Duration::from_millis(100)..=Duration::from_secs(30);
    let lease_ttl = Duration::from_secs(1)..=Duration::from_secs(3600);
    WrittenPool {
        place: section.place_of("name"),
        name,
        send_within: section.duration("send_within", send_within, found).unwrap_or(DEFAULT_SEND_WITHIN),
        lease_ttl: section.duration("lease_ttl", lease_ttl, found).unwrap_or(DEFAULT_LEASE_TTL),
        limits: read_limits(section, Owner::Pool, quota_model, found),
    }
}

fn read_project(
    section: &Section<'_>,
    quota_model: &dyn Fn(&str) -> Option<String>,
    lookup: &mut Lookup<'_>,
    found: &mut Findings,
) -> WrittenProject {
    section.only(&["id", "pool", "tier", "billing_account", "limits", "keys"], found);
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
        limits: own_limits(section, quota_model, found),
        keys: keys.iter().map(|key| read_key(key, quota_model, lookup, found)).collect(),
    }
}

fn read_key(
    section: &Section<'_>,
    quota_model: &dyn Fn(&str) -> Option<String>,
    lookup: &mut Lookup<'_>,
    found: &mut Findings,
) -> WrittenKey {
    section.only(&["id", "secret", "weight", "priority", "labels", "limits"], found);
    let secret = lookup.secret(section, found);
    let weight = section.number("weight", 1..=1000, found).and_then(|weight| u32::try_from(weight).ok());
    let priority = section.number("priority", 0..=15, found).and_then(|priority| u8::try_from(priority).ok());
    WrittenKey {
        place: section.place(),
        id: section.id("id", found).map(str::to_owned),
        secret,
        weight: weight.unwrap_or(1),
        priority: priority.unwrap_or(0),
        labels: read_labels(section, found),
        limits: own_limits(section, quota_model, found),
    }
}

/// The most characters a label's value may have.
const LONGEST_LABEL: usize = 128;

fn read_labels(section: &Section<'_>, found: &mut Findings) -> BTreeMap<String, String> {
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

fn own_limits(
    section: &Section<'_>,
    quota_model: &dyn Fn(&str) -> Option<String>,
    found: &mut Findings,
) -> Vec<LimitRule> {
    let rules = read_limits(section, Owner::ProjectOrKey, quota_model, found);
    rules.into_iter().map(|written| written.rule).collect()
}
