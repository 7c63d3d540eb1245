//! What an identity may use: pools, models, consumers, and how much of all.

use keybroker_proto::v1::{
    GetPoolRequest, LeaseReport, ListKeysRequest, RenewRequest, ReportRequest, admin_client::AdminClient,
    key_broker_client::KeyBrokerClient,
};
use tonic::Code;

use super::{Setting, acquire, identity, of, reason, wish};

const MODEL: &str = "gemini-2.5-flash";

#[tokio::test]
async fn an_identity_leases_from_its_pools_for_its_models_and_its_consumers_alone() {
    let more = "pools = [\"batch\"]\nmodels = [\"gemini-2.5-*\"]\nconsumers = [\"nightly\", \"team-*\"]";
    let setting = Setting::start(&identity("nightly", "[\"worker\"]", more));
    let channel = setting.channel().await;
    let ask = async |pool: &str, model: &str, consumer: &str| {
        acquire(channel.clone(), of("nightly", wish(pool, model, consumer))).await
    };
    ask("batch", MODEL, "nightly").await.unwrap();
    ask("batch", MODEL, "team-a").await.unwrap();
    ask("batch", "models/gemini-2.5-flash", "").await.unwrap();
    // A pool that is not there is told no otherwise than one that may not be used.
    let mut said = Vec::new();
    for (pool, model, consumer) in [
        ("default", MODEL, ""),
        ("", MODEL, ""),
        ("elsewhere", MODEL, ""),
        ("batch", "gemini-3-pro", ""),
        ("batch", MODEL, "ann"),
    ] {
        let status = ask(pool, model, consumer).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "NOT_PERMITTED"));
        said.push(status.message().to_owned());
    }
    assert_eq!(said[0], "identity nightly may not use pool \"default\"; it may: batch");
    assert_eq!(said[2], "identity nightly may not use pool \"elsewhere\"; it may: batch");
}

#[tokio::test]
async fn leases_of_other_pools_are_neither_reported_nor_renewed() {
    let identities = identity("one", "[\"worker\"]", "pools = [\"default\"]")
        + &identity("other", "[\"worker\"]", "pools = [\"batch\"]");
    let setting = Setting::start(&identities);
    let channel = setting.channel().await;
    let lease = acquire(channel.clone(), of("one", wish("default", MODEL, ""))).await.unwrap();
    let mut client = KeyBrokerClient::new(channel.clone());
    let report = || LeaseReport {
        lease_id: lease.lease_id.clone(),
        outcome: Some(keybroker_proto::v1::lease_report::Outcome::NotSent(Default::default())),
        ..LeaseReport::default()
    };
    let denied = client.report(of("other", ReportRequest { reports: vec![report()] })).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let renew = || RenewRequest { lease_id: lease.lease_id.clone(), ttl: None };
    assert_eq!(client.renew(of("other", renew())).await.unwrap_err().code(), Code::PermissionDenied);
    let mut with_settle = wish("batch", MODEL, "");
    with_settle.settle = Some(report());
    assert_eq!(acquire(channel, of("other", with_settle)).await.unwrap_err().code(), Code::PermissionDenied);
    client.renew(of("one", renew())).await.unwrap();
    client.report(of("one", ReportRequest { reports: vec![report()] })).await.unwrap();
}

#[tokio::test]
async fn an_operator_of_one_pool_sees_and_changes_nothing_of_another() {
    let setting = Setting::start(&identity("ops", "[\"admin\"]", "pools = [\"batch\"]"));
    let mut admin = AdminClient::new(setting.channel().await);
    let list =
        |parent: &str| of("ops", ListKeysRequest { parent: parent.to_owned(), ..ListKeysRequest::default() });
    assert_eq!(admin.list_keys(list("pools/batch")).await.unwrap().into_inner().keys.len(), 1);
    for parent in ["pools/default", "pools/elsewhere"] {
        assert_eq!(
            admin.list_keys(list(parent)).await.unwrap_err().code(),
            Code::PermissionDenied,
            "{parent}"
        );
    }
    let pool = |name: &str| of("ops", GetPoolRequest { name: name.to_owned() });
    admin.get_pool(pool("pools/batch")).await.unwrap();
    assert_eq!(admin.get_pool(pool("pools/default")).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn the_plan_of_an_identity_limits_all_of_its_leases_together() {
    let plans =
        "[[plans]]\nname = \"small\"\nin_flight = 2\n[[plans]]\nname = \"slow\"\nrequests_per_minute = 3\n";
    let setting = Setting::start(
        &(plans.to_owned()
            + &identity("few", "[\"worker\"]", "plan = \"small\"")
            + &identity("slow", "[\"worker\"]", "plan = \"slow\"")
            + &identity("free", "[\"worker\"]", "")),
    );
    let channel = setting.channel().await;
    let ask = async |name: &str, consumer: &str| {
        acquire(channel.clone(), of(name, wish("default", MODEL, consumer))).await
    };
    // Two at a time, for whichever consumers.
    let first = ask("few", "ann").await.unwrap();
    ask("few", "bob").await.unwrap();
    let refused = ask("few", "carol").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "QUOTA_EXHAUSTED"));
    assert!(refused.message().contains("identity few"), "{}", refused.message());
    let report = LeaseReport {
        lease_id: first.lease_id,
        outcome: Some(keybroker_proto::v1::lease_report::Outcome::NotSent(Default::default())),
        ..LeaseReport::default()
    };
    let reports = ReportRequest { reports: vec![report] };
    KeyBrokerClient::new(channel.clone()).report(of("few", reports)).await.unwrap();
    ask("few", "carol").await.unwrap();
    // Three a minute.
    for _ in 0..3 {
        ask("slow", "").await.unwrap();
    }
    let refused = ask("slow", "").await.unwrap_err();
    assert!(refused.message().contains("identity slow"), "{}", refused.message());
    // Others are not touched.
    for _ in 0..5 {
        ask("free", "").await.unwrap();
    }
}
