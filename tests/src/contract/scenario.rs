//! A scenario, as it stands in its file.

use std::{collections::BTreeMap, path::Path};

use keybroker::access::TokenDigest;
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
    /// Who may call, as in the broker's configuration, but `token` in place of its digest. None: anyone.
    #[serde(default)]
    pub identities: Vec<Map<String, Value>>,
    /// Encrypted connections; none: plain text.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Options of the SDK's client.
    #[serde(default)]
    pub client: Map<String, Value>,
    /// What happens.
    #[serde(default)]
    pub steps: Vec<Map<String, Value>>,
}

/// What the brokers' certificates are made for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificates of clients, by the name of their file: a subject alternative name of each.
    #[serde(default)]
    pub certificates: BTreeMap<String, String>,
}

/// The token by which the stage looks into brokers that want one.
pub(super) const OWN_TOKEN: &str = "token-of-the-stage";

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

    /// The broker's configuration, with certificates from a folder.
    ///
    /// # Errors
    /// If the pool's fields cannot stand in a configuration, or an identity's token is no text.
    pub fn catalogue(&self, folder: &Path) -> Result<String, Error> {
        let mut pool = self.pool.clone();
        pool.insert("name".to_owned(), "default".into());
        let projects: Vec<Value> = (0..self.projects).map(project).collect();
        let mut whole = serde_json::json!({ "default_plan": "off", "pools": [pool], "projects": projects });
        if !self.identities.is_empty() {
            let own = serde_json::json!({ "name": "stage", "roles": ["viewer"], "token": OWN_TOKEN });
            let all = self.identities.iter().cloned().chain(own.as_object().cloned());
            whole["identities"] = all.map(identity).collect::<Result<_, _>>()?;
        }
        if self.tls.is_some() {
            let file = |name: &str| folder.join("own").join(name).display().to_string();
            whole["tls"] = serde_json::json!({
                "cert_file": file("server.pem"),
                "key_file": file("server.key"),
                "client_ca_file": file("ca.pem"),
            });
        }
        Ok(toml::to_string(&whole)?)
    }
}

/// The configuration holds the digest of a token alone.
fn identity(mut fields: Map<String, Value>) -> Result<Value, Error> {
    if let Some(token) = fields.remove("token") {
        let token = token.as_str().ok_or("the token of an identity is a text")?;
        fields.insert("token_sha256".to_owned(), serde_json::json!([TokenDigest::of(token).to_string()]));
    }
    Ok(fields.into())
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
        /// After so many milliseconds, which are not waited for; 0: at once.
        #[serde(default)]
        after: u64,
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
