//! The environment: variables that were likely meant otherwise, the master key, how many files may be open.

use clap::CommandFactory;

use super::finding::Check;
use crate::{
    cli::Cli,
    config::{ConfigError, Loaded, Sources, nearest},
    registry::seal::{FORMER_MASTER_KEYS, MASTER_KEY, MasterKeys},
};

const PREFIX: &str = "KEYBROKER_";
/// What is read though no option has it.
const BESIDE_OPTIONS: [&str; 6] = [
    MASTER_KEY,
    FORMER_MASTER_KEYS,
    "KEYBROKER_TOKEN",
    "KEYBROKER_KEY_FILE",
    "KEYBROKER_CONSUMER_RATE_LIMIT",
    "KEYBROKER_CACHE",
];
/// What Kubernetes sets for a Service of that name, and what hooks are told.
const OF_OTHERS: [&str; 3] = ["KEYBROKER_SERVICE", "KEYBROKER_PORT", "KEYBROKER_EVENT_"];

pub(super) fn check(loaded: &Result<Loaded, ConfigError>) -> Check {
    let mut check = Check::of("environment");
    let used = loaded.as_ref().map(|loaded| loaded.variables.as_slice()).unwrap_or_default();
    let known = known();
    let set: Vec<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    for name in set.iter().filter(|name| name.starts_with(PREFIX) && !used.contains(name)) {
        if known.contains(&name.to_lowercase()) || OF_OTHERS.iter().any(|other| name.starts_with(other)) {
            continue;
        }
        let Some(meant) = nearest(name, known.iter().map(String::as_str)) else { continue };
        let fix = format!("did you mean {}?", meant.to_uppercase());
        check.warning("unknown-variable", name, "is set and nobody reads it", &fix);
    }
    match MasterKeys::read(Sources::of_process(None).env) {
        Ok(Some(_)) => "a master key is there".clone_into(&mut check.seen),
        Ok(None) => "no master key: keys cannot be added while brokers run".clone_into(&mut check.seen),
        Err(error) => {
            "the master key cannot be used".clone_into(&mut check.seen);
            let fix = "a broker does not start so; keybroker generate-master-key prints one";
            check.error("master-key", MASTER_KEY, error, fix);
        }
    }
    check
}

/// Every variable that is read, in small letters.
fn known() -> Vec<String> {
    let mut command = Cli::command();
    command.build();
    let mut names: Vec<String> = BESIDE_OPTIONS.iter().map(|name| name.to_lowercase()).collect();
    gather(&command, &mut names);
    names.sort_unstable();
    names.dedup();
    names
}

fn gather(command: &clap::Command, names: &mut Vec<String>) {
    let own = command.get_arguments().filter_map(|arg| arg.get_env());
    names.extend(own.map(|name| name.to_string_lossy().to_lowercase()));
    for sub in command.get_subcommands() {
        gather(sub, names);
    }
}
