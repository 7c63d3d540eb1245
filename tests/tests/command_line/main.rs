//! The commands that people type, by the real binary.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

mod configuration;
mod events;
mod health;
mod lease;
mod manual;
mod status;

use std::process::{Command, Output};

use keybroker_tests::harness::broker::binary;
use serde_json::Value;

/// `keybroker` with nothing of this environment but the path.
fn keybroker(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("keybroker"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).args(arguments);
    command
}

/// The same that speaks to a broker.
fn at(broker: &str, arguments: &[&str]) -> Command {
    let mut command = keybroker(arguments);
    command.env("KEYBROKER_BROKER", broker);
    command
}

fn text(output: &Output, code: i32) -> String {
    let text = String::from_utf8([output.stdout.as_slice(), &output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn run(command: &mut Command, code: i32) -> String {
    text(&command.output().unwrap(), code)
}

fn json(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}
