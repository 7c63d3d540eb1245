//! A configuration that cannot be used ends the broker with code 2, and every fault is named.

use std::{process::Command, time::Duration};

use keybroker_tests::harness::{
    api::{Api, MODEL, ask},
    broker::{BrokerOptions, BrokerProcess, binary},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(10);

fn with_data(folder: &TempDir) -> BrokerOptions {
    BrokerOptions::default().arg("--data-dir", folder.path().join("data").display().to_string())
}

fn with_file(folder: &TempDir, text: &str) -> BrokerOptions {
    let file = folder.path().join("keys.toml");
    std::fs::write(&file, text).expect("the folder can be written");
    with_data(folder).arg("--config", file.display().to_string())
}

fn folder() -> TempDir {
    TempDir::with_prefix("keybroker-bad-input").expect("a folder can be made")
}

#[test]
fn a_broker_without_keys_ends_with_code_2_and_names_every_variable_it_looked_at() {
    let folder = folder();
    let (code, text) = BrokerProcess::run_to_end(&with_data(&folder), PATIENCE).expect("it ends by itself");
    assert_eq!(code, Some(2), "{text}");
    for variable in [
        "KEYBROKER_CONFIG",
        "GEMINI_KEYS",
        "GEMINI_API_KEYS",
        "GEMINI_API_KEY",
        "GEMINI_API_KEY_1 to GEMINI_API_KEY_100",
        "GOOGLE_API_KEY",
        "GEMINI_FREE_KEYS",
        "GEMINI_PAID_KEY",
        "KEYBROKER_KEY_FILE",
    ] {
        assert!(text.contains(variable), "{variable} is not named:\n{text}");
    }
    assert!(text.contains("no usable key was found"), "{text}");
}

#[tokio::test]
async fn malformed_and_duplicate_keys_are_named_masked_and_skipped_and_the_others_serve() {
    let folder = folder();
    let options = with_data(&folder)
        .env(
            "GEMINI_API_KEYS",
            "test-key-good-1111,test key broken-2222,test-key-good-1111,test-key-quoted\"-3333",
        )
        .env("GEMINI_KEYS", "test-key-good-4444,tiny");
    let broker = BrokerProcess::start(&options).expect("two good keys are enough");
    let api = Api::connect(broker.url()).await;
    let mut leased = Vec::new();
    for _ in 0..4 {
        leased.push(api.acquire(ask(MODEL)).await.expect("the good keys serve").api_key);
    }
    leased.sort();
    leased.dedup();
    assert_eq!(leased, ["test-key-good-1111", "test-key-good-4444"]);

    let log = broker.log();
    let warned = |parts: &[&str]| {
        let found =
            log.lines().any(|line| line.contains("WARN") && parts.iter().all(|part| line.contains(part)));
        assert!(found, "no warning with {parts:?} in:\n{log}");
    };
    warned(&["GEMINI_API_KEYS entry 2", "…2222", "whitespace", "skipped"]);
    warned(&["GEMINI_API_KEYS entry 3", "…1111", "given before", "skipped"]);
    warned(&["GEMINI_API_KEYS entry 4", "…3333", "quote", "skipped"]);
    warned(&["GEMINI_KEYS entry 2", "shorter than 8", "skipped"]);
    for text in ["good-1111", "broken-2222", "quoted", "good-4444"] {
        assert!(!log.contains(text), "the log shows a key:\n{log}");
    }
}

#[test]
fn keys_that_are_all_malformed_are_an_error_that_still_names_them_masked() {
    let folder = folder();
    let options = with_data(&folder).env("GEMINI_API_KEYS", "test key broken-2222,$NOT_EXPANDED_7777");
    let (code, text) = BrokerProcess::run_to_end(&options, PATIENCE).expect("it ends by itself");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("GEMINI_API_KEYS (0 usable of 2)"), "{text}");
    assert!(text.contains("…2222") && text.contains("…7777"), "{text}");
    assert!(!text.contains("broken-2222") && !text.contains("NOT_EXPANDED"), "{text}");
}

#[test]
fn a_configuration_file_with_three_faults_has_all_three_named() {
    let folder = folder();
    let options = with_file(
        &folder,
        r#"
[[pools]]
name = "default"
send_within = "an hour"

[[projects]]
id = "alpha"
tier = "golden"
keys = [ { secret = "test-key-three-faults-1", weight = 5000 } ]
"#,
    );
    let (code, text) = BrokerProcess::run_to_end(&options, PATIENCE).expect("it ends by itself");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("the configuration has 3 faults"), "{text}");
    for (line, place) in [(4, "send_within"), (8, "tier"), (9, "weight")] {
        let named =
            text.lines().any(|fault| fault.contains(&format!("keys.toml:{line}")) && fault.contains(place));
        assert!(named, "{place} of line {line} is not named:\n{text}");
    }
    assert!(!text.contains("three-faults-1"), "{text}");
}

#[test]
fn a_configuration_file_that_cannot_be_read_is_named_with_its_setting() {
    let folder = folder();
    let missing = folder.path().join("nowhere.toml").display().to_string();
    let options = with_data(&folder).arg("--config", missing.clone());
    let (code, text) = BrokerProcess::run_to_end(&options, PATIENCE).expect("it ends by itself");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains(&missing) && text.contains("KEYBROKER_CONFIG"), "{text}");
}

#[test]
fn an_address_that_is_in_use_is_named_with_its_setting() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("a listener has an address").to_string();
    // Not by the harness, which chooses free ports.
    let output = Command::new(binary("keybroker"))
        .args(["serve", "--grpc-addr", &address, "--http-addr", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .env("GEMINI_API_KEYS", "test-key-good-1111")
        .output()
        .expect("the broker can be run");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&address) && text.contains("--grpc-addr"), "{text}");
    assert!(text.contains("KEYBROKER_GRPC_ADDR"), "{text}");
}
