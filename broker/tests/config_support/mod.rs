//! What the configuration tests share: an environment that is a map, and a file in a folder of its own.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::collections::HashMap;
use std::path::PathBuf;

use keybroker::catalogue::{Catalogue, Key, Pool, Project};
use keybroker::config::{ConfigError, Loaded, Sources, load};

/// A key text that is plainly none of Google's.
pub(crate) fn key(number: u32) -> String {
    format!("test-key-aaaaaaaa-{number:04}")
}

/// A folder to put files in and an environment to put variables in.
pub(crate) struct Given {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) env: HashMap<String, String>,
    pub(crate) file: Option<PathBuf>,
}

impl Given {
    pub(crate) fn nothing() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), env: HashMap::new(), file: None }
    }

    pub(crate) fn env<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let mut given = Self::nothing();
        for (name, value) in variables {
            given.set(name, value);
        }
        given
    }

    pub(crate) fn file(text: &str) -> Self {
        Self::bytes(text.as_bytes())
    }

    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        let mut given = Self::nothing();
        given.file = Some(given.write("keys.toml", bytes));
        given
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn load(&self) -> Result<Loaded, ConfigError> {
        load(&Sources::new(self.file.clone(), &|name| self.env.get(name).cloned()))
    }

    #[track_caller]
    pub(crate) fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The faults, without the folder's name.
    #[track_caller]
    pub(crate) fn faults(&self) -> Vec<String> {
        let error = self.load().expect_err("should be refused");
        let folder = format!("{}/", self.folder.path().display());
        error.faults.iter().map(|fault| fault.to_string().replace(&folder, "")).collect()
    }

    /// The one fault.
    #[track_caller]
    pub(crate) fn fault(&self) -> String {
        let faults = self.faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults[0].clone()
    }

    /// The warnings, without the folder's name and without those that test keys always earn.
    #[track_caller]
    pub(crate) fn warnings(&self) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        let all = self.loaded().warnings.into_iter().map(|warning| warning.to_string().replace(&folder, ""));
        all.filter(|text| !text.starts_with("keys: ") && !text.starts_with("limits: ")).collect()
    }
}

pub(crate) fn pool<'a>(catalogue: &'a Catalogue, name: &str) -> &'a Pool {
    &catalogue.pools[name]
}

#[track_caller]
pub(crate) fn project<'a>(catalogue: &'a Catalogue, id: &str) -> &'a Project {
    catalogue.projects().find(|(_, project)| project.id == id).expect("a project of that id").1
}

/// The key with a text.
#[track_caller]
pub(crate) fn key_of<'a>(catalogue: &'a Catalogue, text: &str) -> (&'a Project, &'a Key) {
    catalogue.keys().find(|(_, key)| key.secret.expose() == text).expect("a key of that text")
}

/// All key texts, in the order of the catalogue.
pub(crate) fn texts(catalogue: &Catalogue) -> Vec<String> {
    catalogue.keys().map(|(_, key)| key.secret.expose().to_owned()).collect()
}

/// A file that has one usable key, of the project `team`, and what is given besides.
pub(crate) fn with_key(text: &str) -> Given {
    Given::file(&format!("{text}\n[[projects]]\nid = \"team\"\nkeys = [ {{ secret = \"{}\" }} ]\n", key(1)))
}

/// Each file must have one fault, at a place, that ends as told: `place: problem; fix`.
#[track_caller]
pub(crate) fn assert_faults(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let faults = with_key(text).faults();
        assert_eq!(faults.len(), 1, "of {text}: {faults:#?}");
        assert!(faults[0].contains(expected), "of {text}: {} should have {expected}", faults[0]);
    }
}
