//! The manual: docs/cli.md has every command and option, pages for `man` can be written, and programs get JSON.

use std::{fs, path::Path};

use clap::{Command, CommandFactory};
use keybroker::{cli::Cli, tools::reference};

use super::{keybroker, run};

/// What stands above it is written by hand.
const MARK: &str = "<!-- Below: as the program tells it. -->\n\n";

#[test]
fn the_page_tells_every_command_and_option_as_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/cli.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, told) = page.split_once(MARK).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{head}{MARK}{}", reference().trim_end().to_owned() + "\n")).unwrap();
        return;
    }
    assert!(
        told.trim_end() == reference().trim_end(),
        "docs/cli.md is not what the commands are; `make docs-update` writes it anew"
    );
}

fn leaves(command: &Command, above: &str, found: &mut Vec<(String, bool)>) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("{above} {}", sub.get_name());
        if sub.has_subcommands() {
            leaves(sub, &name, found);
        } else {
            found.push((name, sub.get_arguments().any(|arg| arg.get_long() == Some("json"))));
        }
    }
}

#[test]
fn every_command_that_prints_data_prints_json() {
    let mut command = Cli::command();
    command.build();
    let mut found = Vec::new();
    leaves(&command, "keybroker", &mut found);
    let without: Vec<&str> = found.iter().filter(|(_, json)| !json).map(|(name, _)| name.as_str()).collect();
    let none = ["serve", "exec", "proxy", "config reference", "man", "completions"]
        .map(|name| format!("keybroker {name}"));
    assert_eq!(without, none);
}

#[test]
fn pages_are_written_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man");
    run(&mut keybroker(&["man", "--out", out.to_str().unwrap()]), 0);
    for page in ["keybroker.1", "keybroker-doctor.1", "keybroker-lease-report.1"] {
        assert!(fs::read_to_string(out.join(page)).unwrap().contains(".SH NAME"), "{page}");
    }
    assert!(run(&mut keybroker(&["man"]), 0).contains("keybroker\\-doctor"));
    let script = run(&mut keybroker(&["completions", "bash"]), 0);
    assert!(script.contains("accept-loss") && script.contains("--show-key"), "the script knows all of it");
}
