//! `keybroker config` and what makes secrets.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{json, keybroker, run};

const CONFIG: &str = r#"
[[pools]]
name = "default"
margin_percent = 10
limits = [{ model = "*", requests_per_minute = 100, spend_per_day = 2.5 }, { model = "gemini-2.5-pro*", requests_per_minute = 5 }]
[[prices]]
model = "*"
input_per_million = 1
output_per_million = 2
[[projects]]
id = "team-a"
keys = [{ id = "a1", secret = "env:A1_KEY", labels = { owner = "ann" } }]
[[hooks]]
name = "alerts"
events = ["pool_exhausted"]
url = "https://hooks.example/hidden-token"
[log]
level = "debug"
refusals_per_second = 5
[secrets]
refresh_every = "30s"
[vault]
address = "https://vault.example:8200"
token = "hidden-token"
[[identities]]
name = "ops"
roles = ["viewer"]
token_sha256 = ["3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0"]
"#;

fn file(text: &str) -> (TempDir, String) {
    let folder = TempDir::with_prefix("keybroker-config").unwrap();
    let path = folder.path().join("keybroker.toml");
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn all_that_holds_is_shown_and_no_secret() {
    let (_folder, path) = file(CONFIG);
    let show = |more: &[&str]| {
        let mut command = keybroker(&[&["config", "show", "--config", &path], more].concat());
        command.env("A1_KEY", "fake-key-of-config-0001").env("GEMINI_API_KEYS", "fake-key-of-config-0002");
        command
    };
    let shown = json(&mut show(&["--json"]));
    let pool = &shown["pools"][0];
    assert_eq!((&pool["strategy"], &pool["lease_ttl_seconds"]), (&"round_robin".into(), &60.0.into()));
    let project = &pool["projects"][0];
    assert_eq!(project["limits"][0]["requests_per_minute"], 90, "less the margin: {project}");
    assert_eq!(project["limits"][0]["spend_per_day"], 2.25);
    assert_eq!(project["limits"][1]["model"], "gemini-2.5-pro*");
    assert_eq!(project["limits"][1]["requests_per_minute"], 4);
    assert_eq!(project["keys"][0]["key"], "…0001");
    assert!(
        project["keys"][0]["source"].as_str().unwrap().ends_with("keybroker.toml:12: projects[0].keys[0]")
    );
    assert_eq!(pool["projects"][1]["keys"][0]["source"], "GEMINI_API_KEYS");
    assert_eq!(shown["sources"]["variables"], serde_json::json!(["A1_KEY", "GEMINI_API_KEYS"]));
    assert_eq!(shown["plans"][0]["limits"]["requests_per_minute"], 20);
    assert_eq!(shown["identities"][0]["roles"][0], "viewer");
    assert_eq!(shown["hooks"][0]["action"], "post json to a URL");
    assert_eq!(shown["log"], serde_json::json!({ "level": "debug", "refusals_per_second": 5 }));
    assert_eq!(shown["secrets"]["refresh_every_seconds"], 30.0);
    assert_eq!(shown["vault"]["address"], "https://vault.example:8200/");
    assert_eq!((&shown["vault"]["login"], &shown["tls"]), (&"token".into(), &Value::Null));

    let text = run(&mut show(&[]), 0);
    assert!(text.contains("[[pools.projects.keys]]") && text.contains("requests_per_minute = 90"), "{text}");
    for hidden in ["fake-key-of-config", "hidden-token", "3c469e9d"] {
        assert!(!text.contains(hidden) && !shown.to_string().contains(hidden), "{text}");
    }
}

#[test]
fn every_fault_is_listed_with_its_fix() {
    let (_folder, path) =
        file("[[projects]]\nid = \"a\"\nkeyz = []\n[[plans]]\nname = \"p\"\nmode = \"odd\"\n");
    let text = run(&mut keybroker(&["config", "check", "--config", &path]), 2);
    assert!(text.contains("keyz") && text.contains("mode"), "{text}");
    let output = keybroker(&["config", "check", "--json", "--config", &path]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["ok"], false);
    assert!(
        told["faults"]
            .as_array()
            .unwrap()
            .iter()
            .any(|fault| fault["place"].as_str().unwrap().contains(":3:"))
    );
    assert!(run(&mut keybroker(&["config", "show", "--config", &path]), 2).contains("keyz"));

    let (_folder, path) = file(CONFIG);
    let told = json(
        keybroker(&["config", "check", "--json", "--config", &path]).env("A1_KEY", "fake-key-of-config-0001"),
    );
    assert_eq!(told["ok"], true);
    assert!(told["summary"][0].as_str().unwrap().starts_with("1 pool, 1 project, 1 key"), "{told}");
}

#[test]
fn secrets_are_made_for_programs_too() {
    let made = json(&mut keybroker(&["generate-token", "--json"]));
    let (token, digest) = (made["token"].as_str().unwrap(), made["token_sha256"].as_str().unwrap());
    assert_eq!(keybroker::access::TokenDigest::of(token).to_string(), digest);
    let made = json(&mut keybroker(&["generate-master-key", "--json"]));
    assert_eq!(made["master_key"].as_str().unwrap().len(), 44);
}
