//! What the fake is told: keys, projects, limits, aliases and models.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The name that stands for every project or every model without an entry of its own.
pub const ANY: &str = "*";

/// The limits of one project on one quota model; a missing one is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests in any trailing minute.
    pub rpm: Option<u64>,
    /// Input tokens in any trailing minute.
    pub input_tpm: Option<u64>,
    /// Requests in a Pacific day.
    pub rpd: Option<u64>,
}

/// Limits by project, then by quota model; [`ANY`] may stand for either.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LimitTable(pub BTreeMap<String, BTreeMap<String, Limits>>);

impl LimitTable {
    /// The limits that hold for a project and quota model: the most exact entry, as a whole. The project is
    /// the more telling half, so `(project, *)` goes before `(*, model)`.
    pub fn of(&self, project: &str, quota_model: &str) -> Limits {
        let entry = |project: &str, model: &str| self.0.get(project).and_then(|models| models.get(model));
        entry(project, quota_model)
            .or_else(|| entry(project, ANY))
            .or_else(|| entry(ANY, quota_model))
            .or_else(|| entry(ANY, ANY))
            .copied()
            .unwrap_or_default()
    }

    /// Sets the limits of a project and quota model.
    pub fn set(&mut self, project: &str, quota_model: &str, limits: Limits) {
        self.0.entry(project.to_owned()).or_default().insert(quota_model.to_owned(), limits);
    }
}

/// The tier of a project, which shows in the names of its quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// No billing account.
    #[default]
    Free,
    /// The first paid tier.
    Tier1,
    /// The second paid tier.
    Tier2,
    /// The third paid tier.
    Tier3,
}

/// The configuration of a fake, as it stands in a file:
///
/// ```
/// # use keybroker_fake_gemini::FakeGeminiConfig;
/// let config: FakeGeminiConfig = toml::from_str(r#"
///     models = ["gemini-3-flash-preview"]
///     [keys]
///     "fake-key-0000" = "team-a"
///     [aliases]
///     "gemini-3-flash-preview" = "gemini-3-flash"
///     [tiers]
///     team-a = "tier1"
///     [limits."*"."*"]
///     rpm = 15
///     [limits.team-a.gemini-3-flash]
///     rpm = 1000
///     input_tpm = 2_000_000
///     rpd = 10_000
/// "#).unwrap();
/// assert_eq!(config.limits.of("team-a", "gemini-3-flash").rpm, Some(1000));
/// assert_eq!(config.limits.of("team-b", "gemini-3-flash").rpm, Some(15));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FakeGeminiConfig {
    /// The models that exist, by id. Empty: any name does.
    pub models: Vec<String>,
    /// How many calls the request log remembers.
    pub log_capacity: usize,
    /// The seed of everything random (faults with a probability, random latencies).
    pub seed: u64,
    /// The project of each key.
    pub keys: BTreeMap<String, String>,
    /// Quota model by model id; a model without an alias is its own quota model.
    pub aliases: BTreeMap<String, String>,
    /// The tier of each project; free without an entry.
    pub tiers: BTreeMap<String, Tier>,
    /// Limits by project and quota model.
    pub limits: LimitTable,
}

impl Default for FakeGeminiConfig {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            log_capacity: 65_536,
            seed: 0,
            keys: BTreeMap::new(),
            aliases: BTreeMap::new(),
            tiers: BTreeMap::new(),
            limits: LimitTable::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML or JSON of the right shape.
    #[error("{path} is not a configuration: {reason}")]
    Malformed {
        /// The file.
        path: String,
        /// What the parser said.
        reason: String,
    },
    /// Values that make no sense, all of them.
    #[error("the configuration has faults: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

impl FakeGeminiConfig {
    /// Reads a file: JSON if it is named so, else TOML.
    ///
    /// # Errors
    /// If the file cannot be read or parsed, or holds values that make no sense.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: name.clone(), source })?;
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let parsed = if is_json {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        } else {
            toml::from_str(&text).map_err(|error| error.to_string())
        };
        let config: Self = parsed.map_err(|reason| ConfigError::Malformed { path: name, reason })?;
        config.validate()?;
        Ok(config)
    }

    /// Checks the whole, and names every fault found.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all faults.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        for (number, (key, project)) in self.keys.iter().enumerate() {
            // The key itself is not shown: if it is a real one, it must not reach a terminal either.
            if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                faults.push(format!("key {} cannot be sent in a header", number + 1));
            }
            if looks_real(key) {
                faults.push(format!("key {} looks like a real one; use a plainly fake key", number + 1));
            }
            if project.is_empty() || project == ANY {
                faults.push(format!("key {} needs a project of its own name", number + 1));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(faults)) }
    }

    /// Adds `count` projects `project-0000`, ... with one key each, `{key_prefix}0000`, ...
    #[must_use]
    pub fn with_projects(mut self, count: usize, key_prefix: &str) -> Self {
        for number in 0..count {
            self.keys.insert(format!("{key_prefix}{number:04}"), format!("project-{number:04}"));
        }
        self
    }

    /// Adds one key.
    #[must_use]
    pub fn with_key(mut self, key: &str, project: &str) -> Self {
        self.keys.insert(key.to_owned(), project.to_owned());
        self
    }

    /// Sets limits; [`ANY`] may stand for the project or the quota model.
    #[must_use]
    pub fn with_limits(mut self, project: &str, quota_model: &str, limits: Limits) -> Self {
        self.limits.set(project, quota_model, limits);
        self
    }

    /// Counts a model id under a quota model.
    #[must_use]
    pub fn with_alias(mut self, model: &str, quota_model: &str) -> Self {
        self.aliases.insert(model.to_owned(), quota_model.to_owned());
        self
    }

    /// Says which models exist; every other name is then unknown.
    #[must_use]
    pub fn with_models(mut self, models: &[&str]) -> Self {
        self.models = models.iter().map(|&model| model.to_owned()).collect();
        self
    }

    /// The family name that a model id is counted under.
    pub fn quota_model<'a>(&'a self, model: &'a str) -> &'a str {
        self.aliases.get(model).map_or(model, String::as_str)
    }

    /// Whether a model exists.
    pub fn has_model(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|known| known == model)
    }

    /// The tier of a project.
    pub fn tier(&self, project: &str) -> Tier {
        self.tiers.get(project).copied().unwrap_or_default()
    }
}

/// Whether a key has the shape of one that Google issues. Nothing here may ever be given such a key.
fn looks_real(key: &str) -> bool {
    let retiring = key.strip_prefix("AIza").is_some_and(|rest| rest.len() == 35);
    let current = key.strip_prefix("AQ.").is_some_and(|rest| rest.len() >= 40);
    retiring || current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_entry_rules_as_a_whole() {
        let rpm = |rpm| Limits { rpm: Some(rpm), ..Limits::default() };
        let mut table = LimitTable::default();
        assert_eq!(table.of("p", "m"), Limits::default());
        table.set(ANY, ANY, Limits { rpd: Some(9), ..rpm(1) });
        assert_eq!(table.of("p", "m"), Limits { rpd: Some(9), ..rpm(1) });
        table.set(ANY, "m", rpm(2));
        assert_eq!(table.of("p", "m"), rpm(2));
        table.set("p", ANY, rpm(3));
        assert_eq!(table.of("p", "m"), rpm(3));
        table.set("p", "m", rpm(4));
        assert_eq!(table.of("p", "m"), rpm(4));
        assert_eq!(table.of("q", "m"), rpm(2));
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let from_toml: FakeGeminiConfig = toml::from_str(
            "models = ['a']\nlog_capacity = 5\n[keys]\n'fake-key-1' = 'p'\n[aliases]\na-preview = 'a'\n\
             [tiers]\np = 'tier1'\n[limits.'*'.a]\nrpm = 60\n",
        )
        .unwrap();
        let from_json: FakeGeminiConfig = serde_json::from_str(
            r#"{"models": ["a"], "log_capacity": 5, "keys": {"fake-key-1": "p"}, "aliases": {"a-preview": "a"},
                "tiers": {"p": "tier1"}, "limits": {"*": {"a": {"rpm": 60}}}}"#,
        )
        .unwrap();
        assert_eq!(from_toml, from_json);
        assert_eq!(from_toml.quota_model("a-preview"), "a");
    }

    #[test]
    fn a_key_of_a_real_shape_is_refused_without_being_shown() {
        let real_shape = format!("AIza{}", "0".repeat(35));
        let config = FakeGeminiConfig::default().with_key(&real_shape, "p");
        let shown = config.validate().unwrap_err().to_string();
        assert!(shown.contains("looks like a real one") && !shown.contains(&real_shape), "{shown}");
    }

    #[test]
    fn generated_keys_are_plainly_fake() {
        let config = FakeGeminiConfig::default().with_projects(3, "fake-key-");
        assert_eq!(config.keys.get("fake-key-0002").map(String::as_str), Some("project-0002"));
        config.validate().unwrap();
    }
}
