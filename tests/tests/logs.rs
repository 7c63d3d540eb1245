//! The log of a real broker: which call a line is of, what is logged, and what is not.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::time::{Duration, Instant};

use keybroker_proto::v1::key_broker_client::KeyBrokerClient;
use keybroker_tests::harness::{
    api::{MODEL, ask, not_sent},
    broker::{BrokerOptions, BrokerProcess},
    rig::{Backing, Rig, eventually},
};
use serde_json::Value;
use tonic::{Request, Status};
use tonic_types::StatusExt;

const ONE_LEASE: &str = r#"
default_plan = "off"

[[projects]]
id = "project-a"
limits = [ { requests_per_day = 1 } ]
keys = [ { id = "a1", secret = "fake-key-with-a-canary-in-it" } ]
"#;

fn lines(broker: &BrokerProcess) -> Vec<Value> {
    broker.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn with_message(broker: &BrokerProcess, beginning: &str) -> Vec<Value> {
    let begins =
        |line: &Value| line["fields"]["message"].as_str().is_some_and(|text| text.starts_with(beginning));
    lines(broker).into_iter().filter(begins).collect()
}

/// Asks for a lease under an id; the id of the answer comes with it.
async fn acquire_as(rig: &Rig, id: Option<&str>) -> (String, Result<(), Status>) {
    let mut request = Request::new(ask(MODEL));
    for (name, value) in id
        .into_iter()
        .map(|id| ("x-request-id", id))
        .chain([("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")])
    {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    let mut client = KeyBrokerClient::connect(rig.broker.url()).await.unwrap();
    match client.acquire(request).await {
        Ok(answer) => (answer.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned(), Ok(())),
        Err(status) => {
            (status.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned(), Err(status))
        }
    }
}

#[tokio::test]
async fn a_call_has_one_id_in_its_answer_its_error_and_its_log_lines() {
    let rig = Rig::start(Backing::Embedded, ONE_LEASE).await;
    assert_eq!(acquire_as(&rig, Some("job-17/try:1")).await.0, "job-17/try:1");
    // A key that stands in the wrong place is no id, and neither is what would break a line.
    let misplaced = format!("AIza{}FAK", "FAKE".repeat(8));
    for other in [None, Some(misplaced.as_str()), Some("a b")] {
        let (id, outcome) = acquire_as(&rig, other).await;
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        outcome.unwrap_err();
    }
    // A refusal a second is logged: the next is waited for.
    let logged = async |id: &str| {
        eventually(async || {
            let status = acquire_as(&rig, Some(id)).await.1.unwrap_err();
            assert_eq!(status.get_error_details().request_info().unwrap().request_id, id);
            with_message(&rig.broker, "no lease:").iter().any(|line| line["request_id"] == id)
        })
        .await
    };
    assert!(logged("job-18").await, "{}", rig.broker.log());
    let line = with_message(&rig.broker, "no lease:").into_iter().find(|line| line["request_id"] == "job-18");
    let line = line.unwrap();
    assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(line["level"], "INFO");
    for (name, value) in [("pool", "default"), ("model", MODEL), ("reason", "quota_exhausted")] {
        assert_eq!(line["fields"][name], value);
    }

    // The same by HTTP, also of what is no call.
    let client = reqwest::Client::new();
    for (path, status) in
        [("/v1/pools", 200), ("/v1/pools/none", 404), ("/v1/nothing", 404), ("/healthz", 200)]
    {
        let url = format!("http://{}{path}", rig.broker.http);
        let answer = client.get(&url).header("x-request-id", "http-1").send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["x-request-id"]),
            (status, &"http-1".parse().unwrap())
        );
        let text = answer.text().await.unwrap();
        if path == "/v1/pools/none" {
            assert!(text.contains("google.rpc.RequestInfo") && text.contains("http-1"), "{text}");
        }
        let made = client.get(&url).send().await.unwrap();
        assert_eq!(made.headers()["x-request-id"].len(), 32);
    }
    assert!(!rig.broker.log().contains("canary") && !rig.broker.log().contains("AIza"));
}

#[tokio::test]
async fn what_is_logged_changes_with_the_file_and_back() {
    let rig =
        Rig::start(Backing::Embedded, &ONE_LEASE.replace("requests_per_day = 1", "in_flight = 9")).await;
    let settled = async || {
        let lease = rig.api.lease().await;
        rig.api.report(not_sent(&lease.lease_id)).await.unwrap();
        with_message(&rig.broker, "lease settled").len()
    };
    assert_eq!(settled().await, 0, "nothing so fine is logged at the start");
    let config = std::fs::read_to_string(rig.config_file()).unwrap();
    rig.configure(&format!("{config}\n[log]\nlevel = \"info,keybroker::pool=debug\"\n"));
    assert!(eventually(async || settled().await > 0).await, "{}", rig.broker.log());
    rig.configure(&format!("{config}\n[log]\nlevel = \"loud\"\n"));
    rig.logs("log.level: is not a level or directive").await;
    let so_far = settled().await;
    assert!(eventually(async || settled().await > so_far).await, "what stood before a fault stands");
    // What the file no longer says is as it was at the start.
    rig.configure(&config);
    let changed = async || with_message(&rig.broker, "what is logged has changed").len() == 2;
    assert!(eventually(changed).await, "{}", rig.broker.log());
    let so_far = settled().await;
    assert_eq!(settled().await, so_far);
}

#[tokio::test]
async fn a_storm_of_refusals_is_a_line_a_second_that_counts_the_rest() {
    let rig = Rig::start(Backing::Embedded, ONE_LEASE).await;
    rig.api.lease().await;
    let (began, mut refused) = (Instant::now(), 0);
    while refused < 400 || began.elapsed() < Duration::from_millis(1500) {
        rig.api.acquire(ask(MODEL)).await.unwrap_err();
        refused += 1;
    }
    let most = began.elapsed().as_secs() + 1;
    let told = with_message(&rig.broker, "no lease:");
    assert!((2..=most).contains(&(told.len() as u64)), "{} lines in {:?}", told.len(), began.elapsed());
    let left_out: u64 = told.iter().map(|line| line["fields"]["left_out"].as_u64().unwrap()).sum();
    assert!(left_out > 0 && left_out + told.len() as u64 <= refused, "{left_out} of {refused}");
    // None are logged where none are wanted.
    let config = format!("{ONE_LEASE}\n[log]\nrefusals_per_second = 0\n");
    let silent = Rig::start(Backing::Embedded, &config).await;
    silent.api.lease().await;
    silent.api.acquire(ask(MODEL)).await.unwrap_err();
    // The lines of a broker are in order: what comes after it is there, and it is not.
    let broken = format!("{config}colour = 1\n");
    silent.configure(&broken);
    silent.logs("the old one stays").await;
    assert!(with_message(&silent.broker, "no lease:").is_empty());
}

#[tokio::test]
async fn a_pool_that_is_almost_exhausted_is_one_critical_line_of_one_broker() {
    let config = r#"
default_plan = "off"

[[projects]]
id = "project-a"
limits = [ { requests_per_day = 1 } ]
keys = [ { id = "a1", secret = "fake-key-with-a-canary-in-it" } ]

[[projects]]
id = "project-b"
limits = [ { requests_per_day = 1 } ]
keys = [ { id = "b1", secret = "another-fake-key-with-a-canary" } ]
"#;
    let rig = Rig::start(Backing::Redis, config).await;
    let (other, api) = rig.beside_with("other.toml", config, BrokerOptions::default()).await;
    rig.api.lease().await;
    rig.api.lease().await;
    let critical = || -> Vec<Value> {
        let all = lines(&rig.broker).into_iter().chain(lines(&other));
        all.filter(|line| line["level"] == "ERROR" || line["fields"]["critical"] == true).collect()
    };
    // Both are refused, again and again, until both have told that nothing is left.
    let both = [&rig.broker, &other];
    let all_told = eventually(async || {
        rig.api.acquire(ask(MODEL)).await.unwrap_err();
        api.acquire(ask(MODEL)).await.unwrap_err();
        both.iter().all(|broker| broker.log().contains("event: pool default: 0 of 2 keys"))
    });
    assert!(all_told.await, "{}\n{}", rig.broker.log(), other.log());
    for _ in 0..20 {
        rig.api.acquire(ask(MODEL)).await.unwrap_err();
        api.acquire(ask(MODEL)).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = critical();
    assert_eq!(told.len(), 1, "{told:#?}");
    let fields = &told[0]["fields"];
    assert_eq!((told[0]["level"].as_str(), &fields["critical"]), (Some("ERROR"), &Value::Bool(true)));
    assert_eq!((&fields["pool"], &fields["model"]), (&"default".into(), &MODEL.into()));
    assert_eq!((&fields["keys_able"], &fields["keys"]), (&0.into(), &2.into()));
    let earliest = fields["earliest_recovery"].as_str().unwrap();
    assert!(earliest.starts_with("20") && earliest.ends_with('Z'), "{earliest}");
}
