//! A configuration that cannot be used ends the broker with code 2, and every fault is named.

use std::{process::Command, time::Duration};

use keybroker_tests::harness::{
    api::{Api, MODEL, ask},
    broker::{BrokerOptions, BrokerProcess, binary},
    process::wait_until,
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

/// A fault in a field of each section, and where each is.
const FAULTY: &str = r#"
default_plan = "gold"

[[pools]]
strategy = "best"
margin_percent = 95
smooth_bursts = "yes"
learn_limits = "never"
totals = { spend_per_day = 2.5, requests_per_day = 0 }
model_totals = [ { model = "a*b", in_flight = 1 } ]

[[projects]]
id = "alpha"
margin_percent = -1
keys = [ { secret = "test-key-many-faults-1", totals = {} } ]

[[billing_accounts]]
id = "account-a"

[[prices]]
model = "some-model"
input_per_million = -1
output_per_million = "free"

[[plans]]
name = "team"
mode = "medium"
spend_per_minute = 0

[[consumers]]
id = "someone else"
plan = "team"

[[hooks]]
name = "alerts"
events = ["everything"]
url = "mailto:someone"
format = "xml"
cooldown = "2d"
attempts = 0

[probing]
base_url = "gemini"
longest = "1s"
"#;

#[test]
fn a_fault_in_every_new_section_has_each_named_at_once_with_line_and_field() {
    let folder = folder();
    let options = with_file(&folder, FAULTY);
    let (code, text) = BrokerProcess::run_to_end(&options, PATIENCE).expect("it ends by itself");
    assert_eq!(code, Some(2), "{text}");
    let expected = [
        (2, "default_plan: there is no plan gold"),
        (5, "pools[0].strategy: is not a strategy"),
        (6, "pools[0].margin_percent: is out of range"),
        (7, "pools[0].smooth_bursts: is a text"),
        (8, "pools[0].learn_limits: is not one of its values"),
        (9, "pools[0].totals.spend_per_day: counts money"),
        (9, "pools[0].totals.requests_per_day: is out of range"),
        (10, "pools[0].model_totals[0].model: is not a model pattern"),
        (14, "projects[0].margin_percent: is out of range"),
        (15, "projects[0].keys[0].totals: names no limit"),
        (17, "billing_accounts[0]: has no `totals`"),
        (22, "prices[0].input_per_million: is not an amount"),
        (23, "prices[0].output_per_million: is a text"),
        (27, "plans[0].mode: is not a mode"),
        (28, "plans[0].spend_per_minute: is out of range"),
        (31, "consumers[0].id: is not a valid name"),
        (36, "hooks[0].events[0]: is not an event"),
        (37, "hooks[0].url: is not an http or https URL"),
        (38, "hooks[0].format: is not a format"),
        (39, "hooks[0].cooldown: is not a duration"),
        (40, "hooks[0].attempts: is out of range"),
        (43, "probing.base_url: is not a plain http or https URL"),
        (44, "probing.longest: is out of range"),
    ];
    for (line, fault) in expected {
        assert!(text.contains(&format!("keys.toml:{line}: {fault}")), "line {line}, {fault}:\n{text}");
    }
    assert!(text.contains(&format!("the configuration has {} faults", expected.len())), "{text}");
    assert!(!text.contains("many-faults-1") && !text.contains("mailto"), "{text}");
}

#[test]
fn a_rate_of_consumers_that_is_no_rate_ends_the_broker_with_its_variable_named() {
    let folder = folder();
    let options = with_data(&folder)
        .env("GEMINI_API_KEYS", "test-key-good-1111")
        .env("KEYBROKER_CONSUMER_RATE_LIMIT", "plenty");
    let (code, text) = BrokerProcess::run_to_end(&options, PATIENCE).expect("it ends by itself");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("KEYBROKER_CONSUMER_RATE_LIMIT: is not a rate"), "{text}");
}

#[test]
fn a_faulty_hook_keeps_the_old_configuration_and_a_right_one_is_taken_up_though_it_changes_no_lease() {
    const KEYS: &str = "[[projects]]\nid = \"alpha\"\nkeys = [ { secret = \"test-key-good-1111\" } ]\n";
    let hook = |url: &str| format!("{KEYS}[[hooks]]\nname = \"alerts\"\nevents = [\"*\"]\nurl = \"{url}\"\n");
    let folder = folder();
    let broker = BrokerProcess::start(&with_file(&folder, KEYS)).expect("the keys are enough");
    let logs = |text: &str| {
        assert!(wait_until(PATIENCE, || broker.log().contains(text)), "no {text} in:\n{}", broker.log());
    };
    let rewrite = |text: &str| {
        std::fs::write(folder.path().join("keys.toml"), text).expect("the folder can be written");
    };
    rewrite(&hook("https//hooks.example.com/hidden-token"));
    logs("hooks[0].url: is not an http or https URL");
    logs("the new configuration is not used, the old one stays");
    rewrite(&hook("https://hooks.example.com/hidden-token"));
    logs("a new configuration is in place");
    logs("hook alerts: every event");
    assert!(!broker.log().contains("hidden-token"), "{}", broker.log());
}

#[test]
fn check_says_strategy_totals_plans_prices_hooks_and_probing_and_starts_nothing() {
    let folder = folder();
    let file = folder.path().join("keys.toml");
    let text = r#"
[[pools]]
strategy = "weighted"
totals = { spend_per_month = 10.5 }
[[prices]]
input_per_million = 0.3
output_per_million = 2.5
[[plans]]
name = "team"
mode = "soft"
requests_per_minute = 5
[[consumers]]
id = "ann@example.com"
plan = "team"
[[hooks]]
name = "alerts"
events = ["pool_exhausted"]
command = ["/bin/notify", "hidden-token"]
[[projects]]
id = "alpha"
keys = [ { secret = "test-key-good-1111", priority = 3 } ]
"#;
    std::fs::write(&file, text).expect("the folder can be written");
    let output = Command::new(binary("keybroker"))
        .args(["config", "check"])
        .arg("--config")
        .arg(&file)
        .env_clear()
        .output()
        .expect("the broker can be run");
    let (said, warned) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}{warned}");
    for line in [
        "pool default: weighted, 1 project, 1 key",
        "all keys together: spend_per_month = 10.5",
        "plan default (hard, for every one that is not named): requests_per_minute = 20",
        "plan team (soft, for 1 consumer): requests_per_minute = 5",
        "prices of *",
        "hook alerts: pool_exhausted",
        "disabled keys are probed after 10m",
    ] {
        assert!(said.contains(line), "no {line} in:\n{said}");
    }
    assert!(warned.contains("priority: is not read by the strategy weighted"), "{warned}");
    assert!(!said.contains("hidden-token") && !said.contains("good-1111"), "{said}");
}
