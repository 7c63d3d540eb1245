//! Draining: a key is leased no more, and gone or at rest once no lease of it is out.

use std::time::Duration;

use keybroker_proto::v1::{AcquireRequest, KeyState, SettleState};
use keybroker_tests::{
    harness::{
        api::{succeeded, wire},
        rig::Backing,
    },
    on_both_ledgers,
};
use tonic::Code;

use super::operator::{CONFIG, Operator, ask_for, leases, of_project, rig, sealing, until};

on_both_ledgers!(
    a_drained_key_waits_for_its_leases_and_can_be_enabled_again,
    a_drained_key_is_deleted_if_that_is_asked_for_also_after_a_restart,
    a_lease_that_expires_holds_up_no_drain,
    a_drain_can_be_called_off,
);

async fn a_drained_key_waits_for_its_leases_and_can_be_enabled_again(backing: Backing) {
    let rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    operator.create("e1", "test-key-admin-e1-0001", of_project("extra")).await.unwrap();
    let (first, second) =
        (rig.api.acquire(ask_for("extra")).await.unwrap(), rig.api.acquire(ask_for("extra")).await.unwrap());
    let draining = operator.drain("e1", false).await.unwrap();
    assert_eq!((draining.state(), draining.state_reason.as_str()), (KeyState::Draining, "it leaves"));
    assert!(!leases(&rig.api, "extra").await, "leasing stops at once");
    assert_eq!(rig.api.report(succeeded(&first.lease_id, 5)).await.unwrap().state(), SettleState::Settled);
    // Longer than a drain takes that waits for nothing.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(operator.get("e1").await.unwrap().state(), KeyState::Draining, "one lease is out");
    assert_eq!(rig.api.report(succeeded(&second.lease_id, 5)).await.unwrap().state(), SettleState::Settled);
    until("it is drained", async || operator.get("e1").await.unwrap().state() == KeyState::Drained).await;
    assert!(!leases(&rig.api, "extra").await);
    assert_eq!(operator.enable("e1").await.unwrap().state(), KeyState::Active);
    assert!(leases(&rig.api, "extra").await);
}

async fn a_drained_key_is_deleted_if_that_is_asked_for_also_after_a_restart(backing: Backing) {
    let mut rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    operator.create("e1", "test-key-admin-e1-0001", of_project("extra")).await.unwrap();
    let lease = rig.api.acquire(ask_for("extra")).await.unwrap();
    assert!(operator.drain("e1", true).await.unwrap().remove_when_drained);
    rig.restart().await;
    let operator = Operator::of(&rig.api);
    assert_eq!(operator.get("e1").await.unwrap().state(), KeyState::Draining);
    assert_eq!(rig.api.report(succeeded(&lease.lease_id, 5)).await.unwrap().state(), SettleState::Settled);
    until("it is gone", async || operator.get("e1").await.is_err_and(|error| error.code() == Code::NotFound))
        .await;
    let newest = operator.records().await.remove(0);
    assert_eq!((newest.actor.as_str(), newest.action.as_str()), ("keybroker", "DeleteKey"));
    // A new key of that id starts clean.
    operator.create("e1", "test-key-admin-e1-0002", of_project("extra")).await.unwrap();
    assert!(leases(&rig.api, "extra").await);
}

async fn a_lease_that_expires_holds_up_no_drain(backing: Backing) {
    let rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    let short = AcquireRequest { ttl: Some(wire(Duration::from_secs(3))), ..ask_for("alpha") };
    rig.api.acquire(short).await.unwrap();
    operator.drain("a1", false).await.unwrap();
    let took =
        until("it is drained", async || operator.get("a1").await.unwrap().state() == KeyState::Drained).await;
    assert!(took > Duration::from_millis(2500), "not before the lease expired: {took:?}");
}

async fn a_drain_can_be_called_off(backing: Backing) {
    let rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    operator.drain("a1", false).await.unwrap();
    assert_eq!(operator.enable("a1").await.unwrap().state(), KeyState::Active);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(operator.get("a1").await.unwrap().state(), KeyState::Active);
    assert!(leases(&rig.api, "alpha").await);
}

#[tokio::test]
async fn a_lease_of_another_broker_is_waited_for_and_one_broker_finishes() {
    let rig = rig(Backing::Redis).await;
    let (_second, second) = rig.beside_with("second.toml", CONFIG, sealing()).await;
    let operator = Operator::of(&rig.api);
    operator.create("e1", "test-key-admin-e1-0001", of_project("extra")).await.unwrap();
    until("the other broker leases it", async || leases(&second, "extra").await).await;
    let lease = second.acquire(ask_for("extra")).await.unwrap();
    operator.drain("e1", true).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(operator.get("e1").await.unwrap().state(), KeyState::Draining);
    second.report(succeeded(&lease.lease_id, 5)).await.unwrap();
    until("it is gone", async || operator.get("e1").await.is_err()).await;
    let deletions =
        operator.records().await.into_iter().filter(|record| record.action == "DeleteKey").count();
    assert_eq!(deletions, 1);
}
