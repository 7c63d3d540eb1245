//! Brokers from outside, as real processes: one program, so that it is linked once and no test waits for the last of
//! another file. `cargo test --test black_box rest::` runs one file.

#[path = "access/main.rs"]
mod access;
#[path = "admin/main.rs"]
mod admin;
#[path = "bad_input/main.rs"]
mod bad_input;
#[path = "broker_process.rs"]
mod broker_process;
#[path = "capacity_view.rs"]
mod capacity_view;
#[path = "command_line/main.rs"]
mod command_line;
#[path = "constraints.rs"]
mod constraints;
#[path = "cooldowns.rs"]
mod cooldowns;
#[path = "doctor.rs"]
mod doctor;
#[path = "earlier_versions.rs"]
mod earlier_versions;
#[path = "embedded_ledger.rs"]
mod embedded_ledger;
#[path = "held.rs"]
mod held;
#[path = "hooks.rs"]
mod hooks;
#[path = "lease_log.rs"]
mod lease_log;
#[path = "limits/main.rs"]
mod limits;
#[path = "logs.rs"]
mod logs;
#[path = "metrics.rs"]
mod metrics;
#[path = "probing.rs"]
mod probing;
#[path = "recovery.rs"]
mod recovery;
#[path = "redis_access.rs"]
mod redis_access;
#[path = "registry/main.rs"]
mod registry;
#[path = "rest.rs"]
mod rest;
#[path = "secret_sources.rs"]
mod secret_sources;
#[path = "secrets.rs"]
mod secrets;
#[path = "strategies.rs"]
mod strategies;
#[path = "traces.rs"]
mod traces;
#[path = "upgrade.rs"]
mod upgrade;
#[path = "usage.rs"]
mod usage;
#[path = "waiting.rs"]
mod waiting;
#[path = "worker.rs"]
mod worker;

/// Tests are named in `Cargo.toml` or here: a file that is in neither would never run.
#[test]
fn every_file_with_tests_is_one_of_a_program() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let named = concat!(include_str!("../Cargo.toml"), include_str!("black_box.rs"));
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = if path.is_dir() { path.join("main.rs") } else { path };
        let name = file.strip_prefix(folder).unwrap().display().to_string();
        if file.extension().is_some_and(|extension| extension == "rs") && file.exists() {
            assert!(named.contains(&format!("{name}\"")), "{name} is in no program of tests");
        }
    }
}
