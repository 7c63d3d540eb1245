//! The entries of the registry, as they are stored: JSON with names, so that a version of the broker
//! that knows more fields and one that knows fewer can share a registry.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::catalogue::Tier;

/// A key that was given at run time. Its text is stored sealed, see [`super::seal`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTimeKey {
    /// Its id, unique in the whole catalogue.
    pub id: String,
    /// The pool its project is in.
    pub pool: String,
    /// The project that owns it.
    pub project: String,
    /// Whether the project's requests are paid for.
    #[serde(default, with = "tier_text")]
    pub tier: Tier,
    /// The account that pays for the project, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_account: Option<String>,
    /// Its share among the keys of equal priority.
    pub weight: u32,
    /// Its class, if it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// What the operator notes about it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Limits of this key alone.
    #[serde(default)]
    pub limits: Vec<WrittenRule>,
    /// What stands for its text; see [`crate::secret::fingerprint`].
    pub fingerprint: String,
    /// Its text, masked.
    pub preview: String,
    /// Its text, sealed.
    pub sealed: String,
}

/// A pool that was made at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTimePool {
    /// Its name.
    pub name: String,
    /// In which order its keys are leased, by the strategy's name in the configuration.
    #[serde(default)]
    pub strategy: String,
    /// How long after a grant a request may still be sent, in milliseconds.
    pub send_within_ms: u64,
    /// How long a lease lives, in milliseconds.
    pub lease_ttl_ms: u64,
    /// The limits of every project of the pool that does not name its own.
    #[serde(default)]
    pub limits: Vec<WrittenRule>,
}

/// Limits as they are written: names such as `requests_per_minute`, with amounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenRule {
    /// A model pattern.
    pub model: String,
    /// Amounts by the limit's name in the configuration.
    pub limits: BTreeMap<String, u64>,
}

/// Says that a key, configured or not, is not to be leased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The key.
    pub key_id: String,
    /// How it stands.
    pub state: MarkState,
    /// Why, in the operator's words.
    #[serde(default)]
    pub reason: String,
    /// Whether the key is deleted once it is drained.
    #[serde(default)]
    pub remove_when_drained: bool,
}

/// How a key stands that is not leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkState {
    /// Until an operator enables it.
    Disabled,
    /// As disabled; leases of it may still be held.
    Draining,
    /// As disabled, and no lease of it is held.
    Drained,
}

/// What an entry is called: the kind and the id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryName {
    /// A key by its id.
    Key(String),
    /// A pool by its name.
    Pool(String),
    /// A mark by the key's id.
    Mark(String),
    /// An alias by the model.
    Alias(String),
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A key.
    Key(RunTimeKey),
    /// A pool.
    Pool(RunTimePool),
    /// A mark.
    Mark(Mark),
    /// A model, and the quota model that Google counts it under.
    Alias(String, String),
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Pool(name) => write!(f, "pool:{name}"),
            Self::Mark(id) => write!(f, "mark:{id}"),
            Self::Alias(model) => write!(f, "alias:{model}"),
        }
    }
}

impl Entry {
    /// Its name.
    pub fn name(&self) -> EntryName {
        match self {
            Self::Key(key) => EntryName::Key(key.id.clone()),
            Self::Pool(pool) => EntryName::Pool(pool.name.clone()),
            Self::Mark(mark) => EntryName::Mark(mark.key_id.clone()),
            Self::Alias(model, _) => EntryName::Alias(model.clone()),
        }
    }

    /// Its body, as it is stored.
    pub(super) fn body(&self) -> String {
        let body = match self {
            Self::Key(key) => serde_json::to_string(key),
            Self::Pool(pool) => serde_json::to_string(pool),
            Self::Mark(mark) => serde_json::to_string(mark),
            Self::Alias(_, quota_model) => serde_json::to_string(quota_model),
        };
        body.expect("entries are plain data with text for names")
    }

    /// Reads an entry; none if it is of no kind that this version knows.
    pub(super) fn read(name: &str, body: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(match name.split_once(':') {
            Some(("key", _)) => Some(Self::Key(serde_json::from_str(body)?)),
            Some(("pool", _)) => Some(Self::Pool(serde_json::from_str(body)?)),
            Some(("mark", _)) => Some(Self::Mark(serde_json::from_str(body)?)),
            Some(("alias", model)) => Some(Self::Alias(model.to_owned(), serde_json::from_str(body)?)),
            _ => None,
        })
    }
}

impl RunTimeKey {
    /// What a record of a change may show of it: all but its text, sealed as it is.
    pub fn recorded(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).expect("entries are plain data with text for names");
        if let Some(fields) = value.as_object_mut() {
            fields.remove("sealed");
        }
        value
    }
}

mod tier_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::catalogue::Tier;

    pub(super) fn serialize<S: Serializer>(tier: &Tier, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(tier)
    }

    /// A tier that is not known is not taken for paid.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tier, D::Error> {
        Ok(match String::deserialize(deserializer)?.as_str() {
            "free" => Tier::Free,
            "paid" => Tier::Paid,
            _ => Tier::Unknown,
        })
    }
}
