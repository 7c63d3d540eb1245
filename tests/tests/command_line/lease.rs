//! `keybroker lease`: by hand, from taking to reporting.

use std::{fs, os::unix::fs::PermissionsExt};

use keybroker_tests::harness::rig::{Backing, Rig};

use super::{at, json, run};

const CONFIG: &str = r#"
[[projects]]
id = "team-a"
tier = "free"
limits = [{ model = "*", requests_per_minute = 4 }]
keys = [{ id = "a1", secret = "fake-key-of-lease-0001", labels = { site = "hq" } }]
"#;
const QUOTA: &str = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"quota",
"details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{
"quotaMetric":"generativelanguage.googleapis.com/generate_content_free_tier_requests",
"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaValue":"4",
"quotaDimensions":{"model":"gemini-2.5-flash","location":"global"}}]}]}}"#;
const TAKE: [&str; 4] = ["lease", "acquire", "--model", "gemini-2.5-flash"];

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_taken_renewed_and_reported_by_hand() {
    let rig = Rig::start(Backing::Embedded, CONFIG).await;
    let broker = rig.broker.grpc.as_str();
    let key_file = rig.config_file().with_file_name("one.key");
    let key_file = key_file.to_str().unwrap();
    let all = [
        "--tier",
        "free",
        "--key-label",
        "site=hq",
        "--consumer",
        "ann",
        "--label",
        "job=7",
        "--input-tokens",
        "5",
    ];
    let taken = json(&mut at(
        broker,
        &[&TAKE, &all[..], &["--ttl", "30", "--key-file", key_file, "--json"]].concat(),
    ));
    assert_eq!(
        (&taken["key_id"], &taken["project"], &taken["permits"]),
        (&"a1".into(), &"team-a".into(), &1.into())
    );
    assert!(taken["expires_in_seconds"].as_f64().unwrap() <= 31.0, "{taken}");
    assert!(!taken.to_string().contains("fake-key"), "{taken}");
    assert_eq!(fs::read_to_string(key_file).unwrap(), "fake-key-of-lease-0001\n");
    assert_eq!(fs::metadata(key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = run(&mut at(broker, &[&TAKE, &["--key-file", key_file][..]].concat()), 2);
    assert!(text.contains("name a new file"), "{text}");

    let lease = taken["lease_id"].as_str().unwrap();
    let renewed = json(&mut at(broker, &["lease", "renew", lease, "--ttl", "300", "--json"]));
    assert!(renewed["expires_in_seconds"].as_f64().unwrap() > 290.0, "{renewed}");
    let reported =
        json(&mut at(broker, &["lease", "report", lease, "--ok", "--input-tokens", "3", "--json"]));
    assert_eq!((&reported["state"], &reported["advice"]["action"]), (&"settled".into(), &"done".into()));
    let text = run(&mut at(broker, &["lease", "report", lease, "--not-sent"]), 0);
    assert!(text.contains("already settled\nadvice: done"), "{text}");

    let text = run(&mut at(broker, &[&TAKE, &["--show-key"][..]].concat()), 0);
    assert!(
        text.contains("key          a1 of project team-a") && text.contains("fake-key-of-lease-0001"),
        "{text}"
    );
    let lease = text.lines().next().unwrap().split_whitespace().nth(1).unwrap();
    let body = rig.config_file().with_file_name("answer.json");
    fs::write(&body, QUOTA).unwrap();
    let body = body.to_str().unwrap();
    let report = ["lease", "report", lease, "--http-status", "429", "--body-file", body];
    let text = run(&mut at(broker, &report), 0);
    assert!(text.contains("settled\nadvice: retry other key") && text.contains("minute_quota"), "{text}");
    let text = run(&mut at(broker, &TAKE), 1);
    assert!(text.contains("a lease can be given in") && !text.contains("fake-key"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_with_the_right_exit_code() {
    let rig = Rig::start(Backing::Embedded, CONFIG).await;
    let broker = rig.broker.grpc.as_str();
    let lease =
        json(&mut at(broker, &[&TAKE, &["--json"][..]].concat()))["lease_id"].as_str().unwrap().to_owned();
    for (arguments, code, part) in [
        (&["lease", "acquire"][..], 2, "--model"),
        (&["lease", "report", &lease], 2, "--not-sent"),
        (&["lease", "report", &lease, "--ok", "--not-sent"], 2, "cannot be used with"),
        (&["lease", "report", &lease, "--ok", "--body-file", "x"], 2, "--http-status"),
        (&["lease", "report", &lease, "--not-sent", "--input-tokens", "1"], 2, "--ok or --transport"),
        (&["lease", "report", &lease, "--http-status", "429", "--body-file", "/nowhere"], 2, "--body-file"),
        (&["lease", "report", "no-lease", "--ok"], 1, "lease_id"),
        (&["lease", "renew", "no-lease"], 1, "lease_id"),
        (&["lease", "acquire", "--model", "no model"], 1, "model"),
        (&["lease", "acquire", "--model", "m", "--pool", "nowhere"], 1, "nowhere"),
    ] {
        let text = run(&mut at(broker, arguments), code);
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}
