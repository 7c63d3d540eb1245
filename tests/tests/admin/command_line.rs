//! The commands of operators, by the real binary.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use keybroker_tests::harness::{
    broker::binary,
    process::free_port,
    rig::{Backing, Rig},
};
use serde_json::Value;

use super::operator::{CONFIG, leases, rig};

/// Runs `keybroker` against a broker, with this on standard input.
fn run_with(rig: &Rig, input: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("keybroker"));
    command.args(arguments).env("KEYBROKER_BROKER", &rig.broker.grpc).env("KEYBROKER_ACTOR", "ann");
    command.env("A_KEY", "test-key-command-0003");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that is not read is no fault of the caller's.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub(super) fn run(rig: &Rig, arguments: &[&str]) -> Output {
    run_with(rig, "", arguments)
}

pub(super) fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(super) fn err(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_adds_lists_disables_drains_and_removes_keys() {
    let rig = rig(Backing::Embedded).await;
    let file = rig.config_file().with_file_name("one.key");
    std::fs::write(&file, "test-key-command-0002\n").unwrap();
    let file = file.display().to_string();

    let said = out(&run_with(&rig, "test-key-command-0001\n", &["keys", "add", "c1", "--project", "extra"]));
    assert_eq!(said, "pools/default/keys/c1 …0001, project extra: active\n");
    let limited = [
        "keys",
        "add",
        "c2",
        "--secret-file",
        &file,
        "--tier",
        "free",
        "--weight",
        "3",
        "--priority",
        "1",
        "--label",
        "owner=ann",
        "--limit",
        "requests_per_minute=5",
        "--limit",
        "gemini-2.5-*:requests_per_day=7",
        "--json",
    ];
    let key: Value = serde_json::from_str(&out(&run(&rig, &limited))).unwrap();
    assert_eq!(
        (&key["tier"], &key["weight"], &key["labels"]["owner"]),
        (&"free".into(), &3.into(), &"ann".into())
    );
    assert_eq!(key["limits"][0]["limits"]["requests_per_minute"], 5);
    assert_eq!(key["limits"][1]["model"], "gemini-2.5-*");
    out(&run(&rig, &["keys", "add", "--secret-env", "A_KEY"]));
    assert!(leases(&rig.api, "extra").await);

    let listed = out(&run(&rig, &["keys", "list"]));
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("KEY") && lines[0].contains("STATE"), "{listed}");
    assert_eq!(lines.len(), 5);
    assert!(lines[1].starts_with("pools/default/keys/a1") && lines[1].contains("configured"), "{listed}");
    assert!(listed.contains("…0003") && !listed.contains("test-key"), "{listed}");

    out(&run(&rig, &["keys", "disable", "c1", "--reason", "it is sick"]));
    assert!(!leases(&rig.api, "extra").await);
    let all: Value = serde_json::from_str(&out(&run(&rig, &["keys", "list", "--json"]))).unwrap();
    assert_eq!((&all[1]["state"], &all[1]["state_reason"]), (&"disabled".into(), &"it is sick".into()));
    out(&run(&rig, &["keys", "enable", "pools/default/keys/c1"]));
    let said = out(&run(&rig, &["keys", "drain", "c1", "--remove"]));
    assert!(said.ends_with("drained\n"), "{said}");
    assert_eq!(out(&run(&rig, &["keys", "remove", "c2"])), "pools/default/keys/c2 is deleted\n");
    assert!(err(&run(&rig, &["keys", "remove", "c1"]), 1).contains("there is no key pools/default/keys/c1"));

    let pools = out(&run(&rig, &["pools", "list"]));
    assert!(pools.contains("pools/default  2     round_robin  1s           60s"), "{pools}");
    let pools: Value = serde_json::from_str(&out(&run(&rig, &["pools", "list", "--json"]))).unwrap();
    assert_eq!(pools[0]["key_count"], 2);
    let records = out(&run(&rig, &["audit", "--limit", "3"]));
    let records: Vec<&str> = records.lines().collect();
    assert_eq!(records.len(), 4);
    assert!(records[1].contains("ann") && records[1].contains("DeleteKey"), "{records:?}");
    let records: Value = serde_json::from_str(&out(&run(&rig, &["audit", "--json"]))).unwrap();
    assert_eq!(records.as_array().unwrap().len(), 8);
    assert_eq!(records[7]["after"]["project"], "extra");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_imports_a_file_and_sees_what_came_of_each_line() {
    let rig = rig(Backing::Embedded).await;
    let file = rig.config_file().with_file_name("keys.txt");
    std::fs::write(&file, "test-key-import-0001\ntest-key-import-0001\n").unwrap();
    let file = file.display().to_string();
    let said = out(&run(&rig, &["keys", "import", &file, "--project", "extra", "--dry-run"]));
    assert!(said.ends_with("1 of 2 keys would be created\n"), "{said}");
    let said = out(&run(&rig, &["keys", "import", &file, "--project", "extra"]));
    assert!(
        said.contains("line 2: …0001 duplicate: the same key stands on line 1\n1 of 2 keys created"),
        "{said}"
    );
    assert!(!said.contains("test-key"), "{said}");
    assert!(leases(&rig.api, "extra").await);
    let output = run_with(&rig, "short\n", &["keys", "import", "-", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["lines"][0]["outcome"], &said["created_count"]), (&"invalid".into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_with_the_fix_and_the_right_exit_code() {
    let rig = Rig::start(Backing::Embedded, CONFIG).await;
    let said = err(&run_with(&rig, "test-key-command-0001\n", &["keys", "add", "c1"]), 1);
    assert!(said.contains("KEYBROKER_MASTER_KEY") && !said.contains("test-key"), "{said}");
    let said = err(&run_with(&rig, "short\n", &["keys", "add", "no id", "--weight", "0"]), 1);
    for field in ["key_id", "key.api_key", "key.weight"] {
        assert!(said.contains(field), "{said}");
    }
    for (arguments, part) in [
        (&["keys", "add", "c1"][..], "holds no text"),
        (&["keys", "add", "c1", "--secret-env", "NOT_SET"], "is not set"),
        (&["keys", "add", "c1", "--secret-file", "/nowhere"], "cannot be read"),
        (&["keys", "import", "/nowhere"], "cannot be read"),
        (&["keys", "list", "--broker", "not an address"], "KEYBROKER_BROKER"),
        (&["keys", "add", "c1", "--limit", "many"], "requests_per_minute=10"),
        (&["keys", "add", "c1", "--label", "many"], "NAME=VALUE"),
        (&["keys"], "import"),
        (&["audit", "--limit", "0"], "--limit"),
    ] {
        let said = err(&run(&rig, arguments), 2);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    let nobody = format!("127.0.0.1:{}", free_port().unwrap());
    let said = err(&run(&rig, &["audit", "--broker", &nobody]), 1);
    assert!(said.contains("no broker answers") && said.contains("KEYBROKER_BROKER"), "{said}");
}
