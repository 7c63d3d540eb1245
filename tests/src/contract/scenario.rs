//! A scenario, as it stands in its file.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Error, Expected};
use crate::fake_gemini::{FaultRule, Limits};

/// The part of a scenario's file that the stage needs; steps and the client's options are the runner's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, as the file is called.
    pub name: String,
    /// One sentence on what it shows.
    pub about: String,
    /// How many projects the broker has, with one key each.
    #[serde(default = "one")]
    pub projects: usize,
    /// Fields of the broker's pool `default`.
    #[serde(default)]
    pub pool: Map<String, Value>,
    /// What Gemini's quota allows each project, on each model; without it all is allowed.
    #[serde(default)]
    pub quota: Limits,
    /// How many brokers share a Redis; none: one broker with its embedded ledger.
    #[serde(default)]
    pub brokers: usize,
    /// What goes wrong at Gemini from the start.
    #[serde(default)]
    pub faults: Vec<FaultRule>,
    /// Options of the SDK's client.
    #[serde(default)]
    pub client: Map<String, Value>,
    /// What happens.
    #[serde(default)]
    pub steps: Vec<Map<String, Value>>,
}

fn one() -> usize {
    1
}

impl Scenario {
    /// Reads a scenario's file.
    ///
    /// # Errors
    /// If it cannot be read or is no scenario.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()).into())
    }

    /// The broker's configuration.
    ///
    /// # Errors
    /// If the pool's fields cannot stand in a configuration.
    pub fn catalogue(&self) -> Result<String, Error> {
        let mut pool = self.pool.clone();
        pool.insert("name".to_owned(), "default".into());
        let projects: Vec<Value> = (0..self.projects).map(project).collect();
        let whole = serde_json::json!({ "default_plan": "off", "pools": [pool], "projects": projects });
        Ok(toml::to_string(&whole)?)
    }
}

/// As the fake Gemini names them; see `FakeGeminiConfig::with_projects`.
fn project(number: usize) -> Value {
    let key =
        serde_json::json!({ "id": format!("key-{number:04}"), "secret": format!("fake-key-{number:04}") });
    serde_json::json!({ "id": format!("project-{number:04}"), "keys": [key] })
}

/// What a runner asks of the stage.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case", deny_unknown_fields)]
pub enum StageStep {
    /// Ends a broker at once.
    StopBroker {
        /// Which.
        #[serde(default)]
        number: usize,
    },
    /// Asks a broker to end.
    DrainBroker {
        /// Which.
        #[serde(default)]
        number: usize,
    },
    /// Starts a broker again, at its address.
    StartBroker {
        /// Which.
        #[serde(default)]
        number: usize,
    },
    /// Replaces what goes wrong at Gemini.
    Faults {
        /// By these rules.
        rules: Vec<FaultRule>,
    },
    /// Looks at the books.
    See {
        /// What it waits for.
        #[serde(default)]
        expect: Expected,
    },
}
