//! The demo as a newcomer runs it, only shorter.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::process::{Command, Output};

use keybroker_tests::harness::broker::binary;
use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
    Command::new(binary("demo")).args(arguments).output().unwrap()
}

/// Runs it for a few seconds and returns the ticks and the summary.
fn run(arguments: &[&str]) -> (Vec<Value>, Value) {
    let output = demo(&[&["--json", "--seconds", "6"], arguments].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}{errors}");
    assert_eq!(errors, "");
    let mut lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    assert!(lines.len() >= 3 && lines.iter().all(|line| line["type"] == "tick"), "{stdout}");
    (lines, summary)
}

/// 50 requests are allowed at once and more are wanted: all 50 are sent, and no other.
fn is_exact(ticks: &[Value], summary: &Value, brokers: u64) {
    assert_eq!(summary["type"], "summary");
    assert_eq!(summary["ok"], true);
    assert_eq!(summary["faults"].as_array().unwrap().len(), 0);
    let count = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name} in {summary}"));
    assert_eq!((count("brokers"), count("workers")), (brokers, 8));
    assert_eq!((count("sent"), count("admitted"), count("admissible"), count("answers")), (50, 50, 50, 50));
    assert_eq!((count("refused_by_gemini"), count("leases_left_open"), count("failed")), (0, 0, 0));
    assert_eq!(summary["utilisation"], 1.0);
    assert_eq!(summary["worst_window"]["worst"], 10);
    assert_eq!(summary["worst_window"]["limit"], 10);
    assert!(count("granted") >= 50 && count("refused_by_broker") > 0, "{summary}");
    let projects = summary["projects"].as_array().unwrap();
    assert_eq!(projects.len(), 5);
    for project in projects {
        assert_eq!((&project["worst_requests"], &project["refused"]), (&10.into(), &0.into()), "{project}");
        assert!(project["worst_tokens"].as_u64() > Some(0), "{project}");
    }
    let last = ticks.last().unwrap();
    assert_eq!((&last["used"], &last["limit"]), (&50.into(), &50.into()));
    assert!(last["waiting"].as_u64() > Some(0), "{last}");
}

#[test]
fn on_the_embedded_ledger_exactly_what_is_allowed_is_sent() {
    let (ticks, summary) = run(&[]);
    is_exact(&ticks, &summary, 1);
}

#[test]
fn on_redis_two_brokers_send_exactly_what_is_allowed() {
    let (ticks, summary) = run(&["--redis"]);
    is_exact(&ticks, &summary, 2);
}

#[test]
fn through_a_pipe_it_prints_plain_lines_and_the_summary() {
    let output = demo(&["--seconds", "6", "--projects", "1", "--rpm", "3", "--workers", "2"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(!stdout.contains('\x1b'), "{stdout}");
    let wanted =
        ["keybroker demo", "requests sent", "refused by Gemini", "worst window", "3/3", "utilisation", "OK"];
    assert!(wanted.iter().all(|wanted| stdout.contains(wanted)), "{stdout}");
    assert!(stdout.lines().any(|line| line.starts_with("   5 s  granted 3")), "{stdout}");
}

#[test]
fn what_is_missing_is_named_with_the_remedy() {
    let output =
        Command::new(binary("demo")).args(["--redis", "--json"]).env("PATH", "/nowhere").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.starts_with("demo: ") && errors.contains("make setup"), "{errors}");

    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("demo");
    std::fs::copy(binary("demo"), &alone).unwrap();
    let output = Command::new(alone).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("keybroker is not built: run `make build`"), "{errors}");
}
