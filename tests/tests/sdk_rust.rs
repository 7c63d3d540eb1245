//! The Rust SDK in programs of their own: its examples, as someone would run them.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use keybroker_client::{AcquireOptions, Broker, Error, Lease};
use keybroker_tests::{
    contract::Stage,
    harness::{broker::example, process::Process},
};
use serde_json::{Value, json};

const MODEL: &str = "gemini-2.5-flash";

async fn stage(scenario: Value) -> Stage {
    Stage::of(&scenario).await.unwrap()
}

async fn sees(stage: &mut Stage, expect: Value) {
    stage.sees(&expect).await.unwrap();
}

fn program(name: &str, stage: &Stage) -> Command {
    let mut command = Command::new(example(name));
    command.args(["--broker", &stage.addresses().join(","), "--gemini", &stage.gemini.base_url]);
    command
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_genai_crate_asks_with_leased_keys_and_reports_what_came_of_it() {
    let fault = json!({ "fault": { "kind": "error", "name": "invalid" }, "count": 1 });
    let mut stage = stage(json!({ "projects": 3, "faults": [fault] })).await;
    let said = lines(&run(program("genai_crate", &stage)).await);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.iter().all(|line| line.starts_with("echo: Question ")), "{said:?}");
    // The first key was answered with an error, so four requests were sent for three questions.
    let books = json!({ "in_flight": 0, "granted": 4, "settled": 4, "calls": 4, "keys_in_url": 0 });
    sees(&mut stage, books).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_a_runtime_asks_with_a_leased_key() {
    let mut stage = stage(json!({})).await;
    let said = lines(&run(program("blocking", &stage)).await);
    assert_eq!(said, ["echo: Why is the sky blue?"]);
    sees(&mut stage, json!({ "in_flight": 0, "granted": 1, "settled": 1 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_its_place_in_flight_until_its_leases_expire() {
    const PLACES: u32 = 3;
    let hang = json!({ "fault": { "kind": "hang" }, "count": PLACES });
    let pool = json!({ "limits": [{ "in_flight": PLACES }], "lease_ttl": "2s" });
    let mut stage = stage(json!({ "pool": pool, "faults": [hang] })).await;
    let mut command = program("fleet", &stage);
    let workers = PLACES.to_string();
    command.args(["--workers", &workers, "--seconds", "60"]).stdout(Stdio::null());
    let mut fleet = Process::start("fleet", &mut command).unwrap();
    sees(&mut stage, json!({ "in_flight": PLACES, "calls": PLACES })).await;
    fleet.kill();

    let broker = Broker::connect(stage.addresses()[0]).unwrap();
    let options = AcquireOptions::new(MODEL);
    let early = broker.acquire(options.clone()).await;
    assert!(matches!(early, Err(Error::Refused(_))), "the place of a killed worker is taken: {early:?}");
    // Nobody gives the leases back: they expire, and the capacity is whole again.
    let mut leases: Vec<Lease> = Vec::new();
    for _ in 0..PLACES {
        leases.push(broker.acquire(options.clone().wait(Duration::from_secs(10))).await.unwrap());
    }
    sees(&mut stage, json!({ "in_flight": PLACES, "granted": 2 * PLACES })).await;
    drop(leases);
    broker.close().await.unwrap();
    sees(&mut stage, json!({ "in_flight": 0 })).await;
}
