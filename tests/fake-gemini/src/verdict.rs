//! What the judge has to say, as types that a test or a demo can read back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a limit limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Requests in any trailing minute.
    Rpm,
    /// Input tokens in any trailing minute.
    InputTpm,
    /// Requests in a Pacific day.
    Rpd,
}

/// The verdict on one (project, quota model, dimension). Amounts are in the unit of the dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DimensionVerdict {
    /// The project whose quota this is.
    pub project: String,
    /// The family name that Google counts under.
    pub quota_model: String,
    /// What is limited.
    pub dimension: Dimension,
    /// The limit; `None` is unlimited.
    pub limit: Option<u64>,
    /// The highest sum of admitted arrivals in any window. Never above the limit.
    pub worst_admitted: u64,
    /// The highest sum in any window had nothing been refused. Above the limit if and only if the clients
    /// sent what the quota did not allow.
    pub worst_offered: u64,
    /// How much was admitted in all.
    pub admitted: u64,
    /// How much was refused in all, for this dimension or for another one of the same request.
    pub refused: u64,
    /// How many calls were refused because this dimension was spent.
    pub refused_calls: u64,
    /// Time from the first arrival here to the verdict.
    pub observed_seconds: f64,
    /// `admitted / (limit x minutes of observation)`, or x days that saw arrivals for a daily limit. Less
    /// than a minute of observation counts as one minute. `None` without a limit, or with the limit 0.
    pub utilisation: Option<f64>,
}

impl DimensionVerdict {
    /// Whether the clients kept within this limit over every window.
    pub fn is_kept(&self) -> bool {
        self.limit.is_none_or(|limit| self.worst_offered <= limit)
    }
}

/// The whole verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// True if every limit was kept over every window, counting the refused arrivals too. It is true of
    /// a fake that nobody called, so a test should look at `calls` as well.
    pub exact: bool,
    /// Time since the start or the last reset.
    pub observed_seconds: f64,
    /// API calls answered or left hanging, of every kind and outcome.
    pub calls: u64,
    /// Calls refused by the judge, each counted once however many dimensions were spent.
    pub quota_refusals: u64,
    /// Calls that carried a key in the URL, where proxies and logs would keep it.
    pub keys_in_url: u64,
    /// Calls by HTTP status; 0 stands for no answer (hang, reset).
    pub statuses: BTreeMap<u16, u64>,
    /// Calls by the key's fingerprint (empty for a call without a key) and by method, such as `countTokens`.
    #[serde(default)]
    pub keys: BTreeMap<String, BTreeMap<String, u64>>,
    /// One line for each (project, quota model, dimension) that saw an arrival, in that order.
    pub lines: Vec<DimensionVerdict>,
}

impl Verdict {
    /// How often a method was called with a key.
    pub fn calls_with(&self, fingerprint: &str, method: &str) -> u64 {
        self.keys.get(fingerprint).and_then(|methods| methods.get(method)).copied().unwrap_or_default()
    }

    /// The limits that were not kept.
    pub fn overspent(&self) -> impl Iterator<Item = &DimensionVerdict> {
        self.lines.iter().filter(|line| !line.is_kept())
    }

    /// The line of one (project, quota model, dimension).
    pub fn line(&self, project: &str, quota_model: &str, dimension: Dimension) -> Option<&DimensionVerdict> {
        self.lines.iter().find(|line| {
            line.project == project && line.quota_model == quota_model && line.dimension == dimension
        })
    }
}
