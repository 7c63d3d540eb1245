//! The lease log: who held which key when, from a real broker.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{fs, path::Path, time::Duration};

use keybroker::access::TokenDigest;
use keybroker_client::{AcquireOptions, Broker, Outcome};
use keybroker_tests::harness::{
    broker::{BrokerOptions, BrokerProcess},
    process::wait_until,
    rig::{Backing, Rig},
};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until a file has so many lines.
fn so_many(file: &Path, count: usize) -> Vec<Value> {
    assert!(wait_until(PATIENCE, || lines(file).len() >= count), "{count} lines, not {:?}", lines(file));
    lines(file)
}

async fn connect(broker: &BrokerProcess) -> Broker {
    Broker::builder().token(&"fake-token-night".into()).unwrap().connect(broker.url()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_held_which_key_when_is_written_down() {
    let folder = TempDir::with_prefix("keybroker-lease-log").unwrap();
    let file = folder.path().join("leases.jsonl");
    let digest = TokenDigest::of("fake-token-night");
    let config = format!(
        "[[projects]]\nid = \"team-a\"\nkeys = [ {{ id = \"a1\", secret = \"test-key-lease-log-0001\" }} ]\n\
         [[identities]]\nname = \"night\"\nroles = [\"worker\"]\ntoken_sha256 = [\"{digest}\"]\n"
    );
    let options = BrokerOptions::default().arg("--lease-log", file.display().to_string());
    let mut rig = Rig::start_with(Backing::Embedded, &config, options).await;
    let broker = connect(&rig.broker).await;
    let asked = AcquireOptions::new("gemini-2.5-flash").consumer("reports");
    let mut lease = broker.acquire(asked).await.unwrap();
    let id = lease.lease_id().to_owned();
    lease.renew(Duration::from_secs(120)).await.unwrap();
    lease.begin_send().unwrap();
    let outcome = Outcome::HttpError { status: 503, body: "{}".into(), retry_after: None };
    lease.report(outcome).await.unwrap();
    let written = so_many(&file, 3);
    for (line, what) in written.iter().zip(["leased", "renewed", "settled"]) {
        assert_eq!(line["what"], what, "{written:?}");
        let told = ["lease_id", "pool", "identity", "peer", "quota_model"].map(|field| line[field].as_str());
        let expected = [id.as_str(), "default", "night", "127.0.0.1", "gemini-2.5-flash"].map(Some);
        assert_eq!(told, expected, "{line}");
        assert!(line["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
    let leased = &written[0];
    assert_eq!(
        [&leased["key_id"], &leased["project"], &leased["consumer"]],
        ["a1", "team-a", "reports"],
        "{leased}"
    );
    let until = |line: &Value| line["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(until(&written[1]) > until(leased));
    assert_eq!((&written[2]["key_id"], &written[2]["outcome"]), (&"a1".into(), &"model_overloaded".into()));
    assert!(!fs::read_to_string(&file).unwrap().contains("test-key"));

    // Whoever renames it gets a new one by SIGHUP; nothing is lost, and the rest is written at the end.
    let former = folder.path().join("leases.1");
    fs::rename(&file, &former).unwrap();
    rig.broker.process().signal("HUP").unwrap();
    assert!(wait_until(PATIENCE, || file.exists()));
    let lease = broker.acquire(AcquireOptions::new("gemini-2.5-flash")).await.unwrap();
    drop(lease);
    broker.close().await.unwrap();
    rig.broker.process().signal("TERM").unwrap();
    rig.broker.process().wait(PATIENCE).unwrap();
    assert_eq!((lines(&former).len(), lines(&file).len()), (3, 2));
    assert_eq!(lines(&file)[1]["outcome"], "not_sent");
}

#[test]
fn a_log_that_cannot_be_written_is_named_and_nothing_starts() {
    let options = BrokerOptions::default()
        .env("GEMINI_API_KEY", "test-key-lease-log-0001")
        .arg("--lease-log", "/no/such/folder/leases.jsonl");
    let (code, said) = BrokerProcess::run_to_end(&options, PATIENCE).unwrap();
    assert!(code == Some(2) && said.contains("--lease-log") && said.contains("/no/such/folder"), "{said}");
}
