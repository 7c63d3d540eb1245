//! The demo as a newcomer runs it, only shorter.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use keybroker_tests::harness::{
    broker::binary,
    process::{Process, free_port, wait_until},
};
use serde_json::Value;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("keybroker"));
    let address = || format!("127.0.0.1:{}", free_port().unwrap());
    command.args(["demo", "--grpc-addr", &address(), "--http-addr", &address()]).args(arguments);
    command
}

/// The lines of a run.
fn lines(output: &Output) -> Vec<Value> {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), stderr.as_ref()), (Some(0), ""), "{stdout}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_exact(summary: &Value, brokers: u64) {
    assert_eq!((&summary["type"], &summary["ok"]), (&"summary".into(), &true.into()), "{summary}");
    let count = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name} in {summary}"));
    assert_eq!((count("brokers"), count("workers")), (brokers, 6));
    assert_eq!((count("over_quota"), count("leases_left_open"), count("failed")), (0, 0, 0));
    assert!(count("answered") > 0 && count("refused_by_broker") > 0, "{summary}");
    assert!((1..=60).contains(&count("worst_window")), "{summary}");
}

#[test]
fn a_newcomer_sees_a_refusal_a_cooldown_and_recoveries() {
    let lines = lines(&demo(&["--json", "--seconds", "22"]).output().unwrap());
    is_exact(lines.last().unwrap(), 1);
    assert!(lines.last().unwrap()["refused_by_gemini"].as_u64() >= Some(2), "a quota and a key: {lines:?}");
    for kind in ["cooldown_begun", "cooldown_ended", "key_disabled"] {
        assert!(lines.iter().any(|line| line["kind"] == kind), "no {kind} in {lines:?}");
    }
    assert!(lines[0]["brokers"][0]["grpc"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", lines[0]);
    assert!(lines.iter().filter(|line| line["type"] == "tick").count() >= 10, "{lines:?}");
}

#[test]
fn brokers_share_a_private_redis() {
    let lines = lines(&demo(&["--json", "--seconds", "7", "--redis"]).output().unwrap());
    is_exact(lines.last().unwrap(), 2);
    assert_eq!(lines[0]["brokers"].as_array().unwrap().len(), 2);
}

#[test]
fn through_a_pipe_it_prints_lines_and_a_summary_when_it_is_interrupted() {
    let mut command = demo(&[]);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    command.stdout(std::fs::File::create(&log).unwrap()).stderr(Stdio::null());
    let mut running = Process::start("keybroker demo", &mut command).unwrap();
    let text = || std::fs::read_to_string(&log).unwrap();
    assert!(
        wait_until(Duration::from_secs(20), || text().matches(" s  granted ").count() >= 5),
        "{}",
        text()
    );
    running.signal("INT").unwrap();
    let status = running.wait(Duration::from_secs(20)).unwrap();
    let text = text();
    assert!(status.success(), "{text}");
    for part in ["keybroker demo", "broker: gRPC 127.0.0.1:", "requests sent", "OK: not one"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let over = text.lines().find(|line| line.trim_start().starts_with("over the quota")).unwrap();
    assert_eq!(over.split_whitespace().nth(3), Some("0"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn what_is_missing_is_named_with_the_remedy() {
    let output = demo(&["--redis", "--json"]).env("PATH", "/nowhere").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("redis-server is not installed; without --redis"), "{errors}");
}
