//! Brokers are replaced one by one under load, and nobody notices.

use keybroker_tests::upgrade::{Plan, run};

/// The way of Kubernetes without a mesh: one address, and a balancer that shares out calls.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_balancer_of_grpc_no_call_fails_and_nothing_is_spent_twice() {
    unnoticed(&Plan { between: 1, drain_grace: 4, ..Plan::default() }).await;
}

/// SDKs that know all brokers.
#[tokio::test(flavor = "multi_thread")]
async fn of_several_addresses_no_call_fails_and_nothing_is_spent_twice() {
    unnoticed(&Plan { between: 1, direct: true, ..Plan::default() }).await;
}

async fn unnoticed(plan: &Plan) {
    let outcome = run(plan).await.expect("the fleet starts and ends");
    assert!(outcome.is_unnoticed(), "{outcome}");
    assert_eq!(outcome.replaced.len(), 6);
    // It was a load: the quota was short all the time.
    assert!(outcome.calls.answered > 100, "{outcome}");
}
