//! `keybroker events`: what happened, what happens, and a broker that goes away and comes back.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use keybroker_tests::harness::{
    broker::BrokerOptions,
    process::{Process, free_port},
    rig::{Backing, Rig},
};
use serde_json::Value;

use super::{at, run};

const CONFIG: &str = r#"
[[projects]]
id = "team-a"
limits = [{ model = "*", requests_per_minute = 100 }]
keys = [{ id = "a1", secret = "fake-key-of-events-0001" }, { id = "a2", secret = "fake-key-of-events-0002" }]
"#;
const PATIENCE: Duration = Duration::from_secs(20);

/// Lets Google refuse a key for good, which is an event.
fn disable(broker: &str, key: &str) {
    let body = r#"{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"API key not valid.","details":[
        {"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#;
    let other = if key == "a1" { "a2" } else { "a1" };
    let take = ["lease", "acquire", "--model", "gemini-2.5-flash", "--exclude-key", other, "--json"];
    let taken = super::json(&mut at(broker, &take));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, body).unwrap();
    let file = file.to_str().unwrap();
    let lease = taken["lease_id"].as_str().unwrap();
    run(&mut at(broker, &["lease", "report", lease, "--http-status", "400", "--body-file", file]), 0);
}

/// The lines of a stream, as they come.
fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn next(lines: &Receiver<String>) -> Value {
    serde_json::from_str(&lines.recv_timeout(PATIENCE).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_when_the_broker_went_away_and_came_back() {
    let options = BrokerOptions::default().at(&format!("127.0.0.1:{}", free_port().unwrap()));
    let mut rig = Rig::start_with(Backing::Embedded, CONFIG, options).await;
    let broker = rig.broker.grpc.clone();
    let mut command =
        at(&broker, &["events", "--follow", "--json", "--kind", "key_disabled", "--pool", "default"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut following = Process::start("keybroker events", &mut command).unwrap();
    let told = lines(following.child().stdout.take().unwrap());
    let said = lines(following.child().stderr.take().unwrap());

    disable(&broker, "a1");
    let event = next(&told);
    assert_eq!(
        (&event["kind"], &event["key_id"], &event["pool"]),
        (&"key_disabled".into(), &"a1".into(), &"default".into())
    );
    assert!(event["message"].as_str().unwrap().contains("key a1"), "{event}");

    rig.restart().await;
    assert!(said.recv_timeout(PATIENCE).unwrap().contains("went away"));
    assert!(said.recv_timeout(PATIENCE).unwrap().contains("answers again"));
    disable(&broker, "a2");
    assert_eq!(next(&told)["key_id"], "a2");
    following.kill();

    let text = run(&mut at(&broker, &["events", "--kind", "key_disabled"]), 0);
    assert!(text.lines().count() == 1 && text.contains("key_disabled") && text.contains("key a2"), "{text}");
    assert!(run(&mut at(&broker, &["events", "--kind", "odd"]), 1).contains("key_disabled"));
    assert!(run(&mut at(&broker, &["events", "--follow", "--pool", "nowhere"]), 1).contains("nowhere"));
}
