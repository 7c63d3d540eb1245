//! The master key: without it nothing is stored, with another one nothing is opened.

use std::{process::Command, time::Duration};

use keybroker_proto::v1::{Key, KeyState, UpdateKeyRequest};
use keybroker_tests::harness::{
    api::Details,
    broker::{BrokerOptions, BrokerProcess, binary},
    rig::{Backing, Rig},
};
use tonic::Code;

use super::operator::{CONFIG, MASTER, Operator, leases, named, of_project, rig, sealing, until};

const OTHER: &str = "0202020202020202020202020202020202020202020202020202020202020202";

#[tokio::test]
async fn without_a_master_key_no_key_is_created_and_the_hint_says_what_to_do() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    let operator = Operator::of(&rig.api);
    let refused = operator.create("e1", "test-key-admin-e1-0001", Key::default()).await.unwrap_err();
    assert_eq!(
        (refused.code(), Details::of(&refused).reason.as_str()),
        (Code::FailedPrecondition, "NO_MASTER_KEY")
    );
    assert!(refused.message().contains("KEYBROKER_MASTER_KEY"), "{refused}");
    assert!(refused.message().contains("generate-master-key"), "{refused}");
    // What needs no seal is done all the same.
    assert_eq!(operator.disable("a1").await.unwrap().state(), KeyState::Disabled);
    operator.enable("a1").await.unwrap();
    rig.still_serves().await;
}

#[tokio::test]
async fn a_broker_with_another_master_key_names_what_it_cannot_open_and_serves_the_rest() {
    let rig = rig(Backing::Redis).await;
    let operator = Operator::of(&rig.api);
    operator.create("e1", "test-key-admin-e1-0001", of_project("extra")).await.unwrap();

    let other = BrokerOptions::default().env("KEYBROKER_MASTER_KEY", OTHER);
    let (broker, api) = rig.beside_with("other.toml", CONFIG, other).await;
    assert!(leases(&api, "alpha").await);
    assert!(!leases(&api, "extra").await);
    let errors: Vec<String> =
        broker.log().lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect();
    assert_eq!(errors.len(), 1, "said once: {errors:#?}");
    assert!(errors[0].contains("\"e1\"") && errors[0].contains("KEYBROKER_MASTER_KEY"), "{errors:#?}");
    let seen = Operator::of(&api).get("e1").await.unwrap();
    assert!(seen.problem.contains("sealed under the master key"), "{seen:?}");
    assert!(leases(&rig.api, "extra").await, "the first broker still can");

    // Rotation: the new one seals, the old one opens.
    let rotated =
        BrokerOptions::default().env("KEYBROKER_MASTER_KEY", OTHER).env("KEYBROKER_MASTER_KEY_OLD", MASTER);
    let (_broker, rotated) = rig.beside_with("rotated.toml", CONFIG, rotated).await;
    assert!(leases(&rotated, "extra").await);
    let again = Key { name: named("e1"), api_key: "test-key-admin-e1-0001".to_owned(), ..Key::default() };
    let update = UpdateKeyRequest { key: Some(again), update_mask: None };
    Operator::of(&rotated).client().update_key(update).await.unwrap();
    until("the broker with the new one alone opens what was given again", async || {
        leases(&api, "extra").await
    })
    .await;
    Operator::of(&rotated).create("e2", "test-key-admin-e2-0001", of_project("second")).await.unwrap();
    until("the broker with the new one alone opens what is new", async || leases(&api, "second").await).await;
    assert!(!leases(&rig.api, "second").await, "the broker with the old one alone does not");
}

#[tokio::test]
async fn a_broker_without_configured_keys_starts_with_a_master_key_alone() {
    let mut rig = Rig::start_with(Backing::Embedded, "", sealing()).await;
    let operator = Operator::of(&rig.api);
    assert!(operator.keys().await.is_empty());
    operator.create("e1", "test-key-admin-e1-0001", of_project("extra")).await.unwrap();
    rig.still_serves().await;
}

#[test]
fn a_master_key_that_is_none_ends_the_broker_with_the_variable_to_correct() {
    for (variable, text) in [
        ("KEYBROKER_MASTER_KEY", "too short"),
        ("KEYBROKER_MASTER_KEY", "file:/nowhere/at/all"),
        ("KEYBROKER_MASTER_KEY_OLD", MASTER),
    ] {
        let options =
            BrokerOptions::default().env("GEMINI_API_KEYS", "test-key-good-1111").env(variable, text);
        let (code, said) = BrokerProcess::run_to_end(&options, Duration::from_secs(15)).unwrap();
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(variable) && !said.contains(MASTER) && !said.contains("too short"), "{said}");
    }
}

#[tokio::test]
async fn a_generated_master_key_is_one() {
    let generate = || Command::new(binary("keybroker")).arg("generate-master-key").output().unwrap();
    let (first, second) = (generate(), generate());
    assert!(first.status.success());
    assert_ne!(first.stdout, second.stdout);
    let master = String::from_utf8(first.stdout).unwrap();
    let options = BrokerOptions::default().env("KEYBROKER_MASTER_KEY", master.trim());
    let rig = Rig::start_with(Backing::Embedded, CONFIG, options).await;
    assert!(Operator::of(&rig.api).create("e1", "test-key-admin-e1-0001", Key::default()).await.is_ok());
}
