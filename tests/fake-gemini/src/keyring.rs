//! Which key belongs to which project, and how a key that no longer works is answered.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::config::FakeGeminiConfig;
use super::named_error::NamedError;

/// The public name of a key: the first 12 hex digits of its SHA-256.
pub fn fingerprint(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    hex::encode(&digest[..6])
}

/// A change of one key, as `POST /control/keys` takes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// The key itself.
    pub key: String,
    /// The project it belongs to from now on; a known key may leave it out and stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// With an error, the key stops working and is answered so; without, it works (again).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_as: Option<NamedError>,
}

/// What is known of a key.
#[derive(Clone, Debug)]
pub(crate) struct KeyRecord {
    pub(crate) project: Arc<str>,
    pub(crate) fingerprint: Arc<str>,
    pub(crate) disabled_as: Option<NamedError>,
}

/// All keys of a server.
#[derive(Debug)]
pub(crate) struct Keyring(RwLock<HashMap<String, KeyRecord>>);

impl Keyring {
    pub(crate) fn new(config: &FakeGeminiConfig) -> Self {
        let record = |(key, project): (&String, &String)| {
            let fingerprint = fingerprint(key).into();
            (key.clone(), KeyRecord { project: project.as_str().into(), fingerprint, disabled_as: None })
        };
        Self(RwLock::new(config.keys.iter().map(record).collect()))
    }

    pub(crate) fn find(&self, key: &str) -> Option<KeyRecord> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Applies a change; false if it names no project and the key is not known.
    pub(crate) fn apply(&self, change: KeyChange) -> bool {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = keys.get(&change.key).map(|record| Arc::clone(&record.project));
        let Some(project) = change.project.map(Arc::from).or(known) else { return false };
        let fingerprint = fingerprint(&change.key).into();
        keys.insert(change.key, KeyRecord { project, fingerprint, disabled_as: change.disabled_as });
        true
    }
}
