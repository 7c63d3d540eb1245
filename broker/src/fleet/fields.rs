//! What an operator writes of a key or a pool, checked field by field.

use std::{collections::BTreeMap, time::Duration};

use super::rules;
use crate::{
    catalogue::{DEFAULT_LEASE_TTL, DEFAULT_SEND_WITHIN, Strategy, Tier},
    config::{ID_RULE, is_id, malformed},
    registry::{RunTimeKey, RunTimePool, WrittenRule},
    secret::{HOLDS_A_KEY, Secret, holds_a_key},
};

const WEIGHT: std::ops::RangeInclusive<i64> = 1..=1000;
const PRIORITY: std::ops::RangeInclusive<i64> = 0..=15;
/// Says that a key has no class of its own.
pub const NO_CLASS: i64 = i64::MIN;
const MOST_LABELS: usize = 64;
const LONGEST_LABEL: usize = 128;
const MOST_RULES: usize = 100;
const SEND_WITHIN: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);
const LEASE_TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Faults: a field, and what is wrong with it.
pub(super) type Faults = Vec<(String, String)>;

/// Fields of a key that are to be written; what is none stays as it is.
#[derive(Debug, Clone, Default)]
pub struct KeyFields {
    /// Its text.
    pub secret: Option<Secret>,
    /// The project that owns it; its own if empty.
    pub project: Option<String>,
    /// Whether the project's requests are paid for.
    pub tier: Option<Tier>,
    /// The account that pays; not known if empty.
    pub billing_account: Option<String>,
    /// Its share.
    pub weight: Option<i64>,
    /// Its class; [`NO_CLASS`] for none of its own.
    pub priority: Option<i64>,
    /// What the operator notes about it.
    pub labels: Option<BTreeMap<String, String>>,
    /// Its own limits.
    pub limits: Option<Vec<WrittenRule>>,
}

/// Fields of a pool that are to be written; what is none stays as it is.
#[derive(Debug, Clone, Default)]
pub struct PoolFields {
    /// In which order its keys are leased; the default if empty.
    pub strategy: Option<String>,
    /// How long after a grant a request may still be sent.
    pub send_within: Option<Duration>,
    /// How long a lease lives.
    pub lease_ttl: Option<Duration>,
    /// The limits of every project that does not name its own.
    pub limits: Option<Vec<WrittenRule>>,
}

/// Checks an id that is chosen now.
pub(super) fn check_id(field: &str, id: &str, faults: &mut Faults) {
    if !is_id(id) {
        faults.push((field.to_owned(), format!("is not an id; {ID_RULE}")));
    } else if holds_a_key(id) {
        faults.push((field.to_owned(), HOLDS_A_KEY.to_owned()));
    }
}

impl KeyFields {
    /// A key without a text, of its own project.
    pub(super) fn new_key(pool: &str, id: &str) -> RunTimeKey {
        RunTimeKey {
            id: id.to_owned(),
            pool: pool.to_owned(),
            project: id.to_owned(),
            tier: Tier::Unknown,
            billing_account: None,
            weight: 1,
            priority: None,
            labels: BTreeMap::new(),
            limits: Vec::new(),
            fingerprint: String::new(),
            preview: String::new(),
            sealed: String::new(),
        }
    }

    /// What is wrong with the fields by themselves.
    pub(super) fn check(&self, faults: &mut Faults) {
        let mut add = |field: &str, wrong: String| faults.push((format!("key.{field}"), wrong));
        if let Some(problem) = self.secret.as_ref().and_then(|secret| malformed(secret.expose())) {
            add("api_key", format!("{problem}; give the key's text as Google shows it"));
        }
        for (field, id) in [("project", &self.project), ("billing_account", &self.billing_account)] {
            if id.as_ref().is_some_and(|id| !id.is_empty() && !is_id(id)) {
                add(field, format!("is not an id; {ID_RULE}"));
            }
        }
        if self.weight.is_some_and(|weight| !WEIGHT.contains(&weight)) {
            add("weight", "is out of range; write 1 to 1000".to_owned());
        }
        if self.priority.is_some_and(|class| class != NO_CLASS && !PRIORITY.contains(&class)) {
            add("priority", "is out of range; write 0 to 15".to_owned());
        }
        if let Some(labels) = &self.labels {
            check_labels(labels, &mut add);
        }
        if let Some(limits) = &self.limits {
            if limits.len() > MOST_RULES {
                add("limits", format!("are {}; at most {MOST_RULES}", limits.len()));
            } else {
                rules::parse(limits, "key.limits", faults);
            }
        }
        self.check_for_the_text(faults);
    }

    /// Whatever is printed must not hold the key's text, or another's.
    fn check_for_the_text(&self, faults: &mut Faults) {
        let secret = self.secret.as_ref().map(Secret::expose).filter(|text| text.len() >= 8);
        let labels = self.labels.iter().flatten();
        let mut printed: Vec<(&str, &str)> = labels
            .flat_map(|(name, value)| [("labels", name.as_str()), ("labels", value.as_str())])
            .collect();
        printed.extend(self.project.as_deref().map(|project| ("project", project)));
        printed.extend(self.billing_account.as_deref().map(|account| ("billing_account", account)));
        for (field, text) in printed {
            if holds_a_key(text) || secret.is_some_and(|secret| text.contains(secret)) {
                faults.push((format!("key.{field}"), HOLDS_A_KEY.to_owned()));
            }
        }
    }

    /// Writes the fields to a key; the text is left to whoever seals.
    pub(super) fn write_to(&self, key: &mut RunTimeKey) {
        if let Some(project) = &self.project {
            key.project = if project.is_empty() { key.id.clone() } else { project.clone() };
        }
        if let Some(account) = &self.billing_account {
            key.billing_account = (!account.is_empty()).then(|| account.clone());
        }
        if let Some(weight) = self.weight {
            key.weight = u32::try_from(weight).unwrap_or(1);
        }
        if let Some(priority) = self.priority {
            key.priority = u8::try_from(priority).ok();
        }
        key.tier = self.tier.unwrap_or(key.tier);
        if let Some(labels) = &self.labels {
            key.labels.clone_from(labels);
        }
        if let Some(limits) = &self.limits {
            key.limits.clone_from(limits);
        }
    }

    /// These fields, and where they say nothing, those.
    #[must_use]
    pub(super) fn or(self, defaults: &Self) -> Self {
        Self {
            secret: self.secret,
            project: self.project.or_else(|| defaults.project.clone()),
            tier: self.tier.or(defaults.tier),
            billing_account: self.billing_account.or_else(|| defaults.billing_account.clone()),
            weight: self.weight.or(defaults.weight),
            priority: self.priority.or(defaults.priority),
            labels: self.labels.or_else(|| defaults.labels.clone()),
            limits: self.limits.or_else(|| defaults.limits.clone()),
        }
    }
}

fn check_labels(labels: &BTreeMap<String, String>, add: &mut impl FnMut(&str, String)) {
    if labels.len() > MOST_LABELS {
        add("labels", format!("are {}; at most {MOST_LABELS}", labels.len()));
    }
    if labels.keys().any(|name| !is_id(name)) {
        add("labels", format!("have a name that is none; {ID_RULE}"));
    }
    let printable =
        |value: &String| value.chars().count() <= LONGEST_LABEL && !value.chars().any(char::is_control);
    if !labels.values().all(printable) {
        add("labels", "have a value that is none; use at most 128 printable characters".to_owned());
    }
}

impl PoolFields {
    /// A pool with the default spans.
    pub(super) fn new_pool(name: &str) -> RunTimePool {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        RunTimePool {
            name: name.to_owned(),
            strategy: Strategy::default().to_string(),
            send_within_ms: millis(DEFAULT_SEND_WITHIN),
            lease_ttl_ms: millis(DEFAULT_LEASE_TTL),
            limits: Vec::new(),
        }
    }

    /// What is wrong with the fields.
    pub(super) fn check(&self, faults: &mut Faults) {
        let named = self.strategy.as_deref().filter(|name| !name.is_empty());
        if named.is_some_and(|name| Strategy::parse(name).is_none()) {
            let names = Strategy::ALL.map(Strategy::as_str).join(", ");
            faults.push(("pool.strategy".to_owned(), format!("is not a strategy; write one of {names}")));
        }
        let whole = |span: &Duration| span.subsec_nanos().is_multiple_of(1_000_000);
        for (field, span, range, fix) in [
            ("pool.send_within", &self.send_within, SEND_WITHIN, "0.1s to 30s"),
            ("pool.lease_ttl", &self.lease_ttl, LEASE_TTL, "1s to 3600s"),
        ] {
            if span.as_ref().is_some_and(|span| !range.contains(span) || !whole(span)) {
                faults
                    .push((field.to_owned(), format!("is out of range; write {fix}, in whole milliseconds")));
            }
        }
        if let Some(limits) = &self.limits {
            if limits.len() > MOST_RULES {
                faults
                    .push(("pool.limits".to_owned(), format!("are {}; at most {MOST_RULES}", limits.len())));
            } else {
                rules::parse(limits, "pool.limits", faults);
            }
        }
    }

    /// Writes the fields to a pool.
    pub(super) fn write_to(&self, pool: &mut RunTimePool) {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        if let Some(strategy) = &self.strategy {
            pool.strategy = Strategy::parse(strategy).unwrap_or_default().to_string();
        }
        pool.send_within_ms = self.send_within.map_or(pool.send_within_ms, millis);
        pool.lease_ttl_ms = self.lease_ttl.map_or(pool.lease_ttl_ms, millis);
        if let Some(limits) = &self.limits {
            pool.limits.clone_from(limits);
        }
    }
}
