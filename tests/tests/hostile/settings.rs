//! Configuration files, environment variables and key files.

use std::{fs, path::PathBuf};

use keybroker::config::{self, FILE_VARIABLE, Sources};
use tempfile::TempDir;

use super::driver::Target;

/// Part of every key in the examples, and of nothing else.
const KEY: &str = "secretsecretsecret";

pub(crate) const CONFIGURATION: Target = Target { name: "configuration", share: 100, examples: Vec::new };
pub(crate) const ENVIRONMENT: Target = Target { name: "environment", share: 70, examples: Vec::new };
pub(crate) const KEY_FILES: Target = Target { name: "key_files", share: 70, examples: Vec::new };

/// Reads a configuration; every fault has a place and a fix, and nothing shows one of the keys.
fn load(file: Option<PathBuf>, env: &dyn Fn(&str) -> Option<String>, keys: &[&str]) -> Result<(), String> {
    let loaded = config::load(&Sources::new(file, env));
    let told = match &loaded {
        Ok(loaded) => {
            let warnings = loaded.warnings.iter().map(ToString::to_string);
            warnings.chain(config::summary(loaded)).collect::<Vec<_>>().join("\n")
                + &format!("{:?}", loaded.catalogue)
        }
        Err(error) => {
            if error.faults.is_empty() {
                return Err("an error without a fault".to_owned());
            }
            if let Some(fault) =
                error.faults.iter().find(|fault| fault.place.is_empty() || fault.fix.is_empty())
            {
                return Err(format!("a fault without a place or a fix: {fault:?}"));
            }
            format!("{error}{error:?}")
        }
    };
    match keys.iter().find(|key| told.contains(**key)) {
        Some(key) => Err(format!("it shows the key {key}: {told}")),
        None => Ok(()),
    }
}

fn file() -> (TempDir, PathBuf) {
    // In memory where there is such a folder: a file is written for each case.
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    let folder = folder.unwrap();
    let path = folder.path().join("input");
    (folder, path)
}

#[test]
fn configuration_files_are_read_or_every_fault_is_named_with_its_place_and_fix() {
    let (_folder, path) = file();
    CONFIGURATION.run(|input| {
        fs::write(&path, input).unwrap();
        let text = String::from_utf8_lossy(input);
        // What stands as a key now; a text that was torn off and stands elsewhere is none.
        let secrets =
            text.split("secret = \"").skip(1).filter_map(|rest| rest.split(['"', '\\', '\n']).next());
        let keys: Vec<&str> = secrets.filter(|key| key.contains(KEY)).collect();
        load(
            Some(path.clone()),
            &|name| (name == "TEAM_A_KEY").then(|| format!("{KEY}-of-team-a")),
            &[&keys[..], &["secretsecretsecret-of-team-a"]].concat(),
        )
    });
}

#[test]
fn environment_variables_are_read_or_named() {
    const NAMES: [&str; 14] = [
        "GEMINI_API_KEYS",
        "GEMINI_KEYS",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "GEMINI_API_KEY_1",
        "GEMINI_API_KEY_100",
        "GEMINI_FREE_KEYS",
        "GEMINI_PAID_KEY",
        "GEMINI_FREE_RATE_LIMIT",
        "GEMINI_PAID_RATE_LIMIT",
        "KEYBROKER_KEY_FILE",
        "KEYBROKER_CONSUMER_RATE_LIMIT",
        "KEYBROKER_MASTER_KEY",
        FILE_VARIABLE,
    ];
    ENVIRONMENT.run(|input| {
        // One variable a line, in the order of their names.
        let text = String::from_utf8_lossy(input);
        let values: Vec<&str> = text.split('\n').collect();
        // A path may be shown.
        let path =
            values.get(NAMES.len() - 1).is_some_and(|path| path.contains('/') || path.ends_with(".toml"));
        let keys: &[&str] = if path { &[] } else { &[KEY] };
        let env = |name: &str| {
            let place = NAMES.iter().position(|known| *known == name)?;
            values.get(place).filter(|value| !value.is_empty()).map(|value| (*value).to_owned())
        };
        load(None, &env, keys)
    });
}

#[test]
fn key_files_are_read_or_their_lines_are_named() {
    let (_folder, path) = file();
    KEY_FILES.run(|input| {
        fs::write(&path, input).unwrap();
        let named = path.display().to_string();
        load(None, &|name| (name == "KEYBROKER_KEY_FILE").then(|| named.clone()), &[KEY])
    });
}
