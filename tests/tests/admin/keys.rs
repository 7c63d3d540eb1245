//! Keys that come, change and go while brokers run.

use std::{collections::HashMap, time::Duration};

use keybroker_proto::v1::{
    AcquireRequest, DeleteKeyRequest, Key, KeyState, LimitRule, ListKeysRequest, Origin, SettleState, Tier,
    UpdateKeyRequest,
};
use keybroker_tests::{
    harness::{
        api::{Details, MODEL, ask, not_sent, succeeded, time, wire},
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};
use prost_types::FieldMask;
use tonic::Code;

use super::operator::{
    CONFIG, Operator, SEEN, ask_for, leases, named, of_project, rig, said_by, sealing, until,
};

on_both_ledgers!(
    a_created_key_is_leased_and_survives_kill_9,
    a_key_is_changed_by_a_mask_and_its_text_rotated,
    a_configured_key_is_disabled_here_and_changed_in_the_file_alone,
    whoever_waits_is_given_a_key_that_comes_and_none_that_is_disabled,
    a_reload_keeps_what_was_done_at_run_time_and_what_is_configured_stands_first,
    keys_are_listed_in_pages_with_all_that_is_known_but_the_text,
);

async fn a_created_key_is_leased_and_survives_kill_9(backing: Backing) {
    let mut rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    let limits = HashMap::from([("requests_per_minute".to_owned(), 2)]);
    let key = Key {
        tier: Tier::Paid.into(),
        billing_account: "account-1".to_owned(),
        weight: Some(3),
        priority: Some(4),
        labels: HashMap::from([("owner".to_owned(), "ann".to_owned())]),
        limits: vec![LimitRule { model: String::new(), limits }],
        ..of_project("extra")
    };
    let created = operator.create("e1", "test-key-admin-e1-0001", key.clone()).await.unwrap();
    assert_eq!((created.name.as_str(), created.key_preview.as_str()), ("pools/default/keys/e1", "…0001"));
    assert_eq!((created.project.as_str(), created.tier()), ("extra", Tier::Paid));
    assert_eq!((created.weight, created.priority), (Some(3), Some(4)));
    assert_eq!(created.billing_account, "account-1");
    assert_eq!(created.labels, key.labels);
    assert_eq!(created.limits, [LimitRule { model: "*".to_owned(), ..key.limits[0].clone() }]);
    assert_eq!((created.state(), created.origin()), (KeyState::Active, Origin::RunTime));
    assert_eq!((created.api_key.as_str(), created.problem.as_str()), ("", ""));
    assert!(created.create_time.is_some() && created.update_time == created.create_time);

    // At once at the broker that was asked, with its own limit.
    let lease = rig.api.acquire(ask_for("extra")).await.unwrap();
    assert_eq!((lease.key_id.as_str(), lease.api_key.as_str()), ("e1", "test-key-admin-e1-0001"));
    rig.restart().await;
    let operator = Operator::of(&rig.api);
    assert_eq!(operator.get("e1").await.unwrap(), created);
    assert_eq!(rig.api.acquire(ask_for("extra")).await.unwrap().api_key, "test-key-admin-e1-0001");
    let refused = rig.api.acquire(ask_for("extra")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "two a minute, counted before the restart too");

    operator.delete("e1").await.unwrap();
    assert_eq!(rig.api.acquire(ask_for("extra")).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(operator.get("e1").await.unwrap_err().code(), Code::NotFound);
    let late = rig.api.report(succeeded(&lease.lease_id, 5)).await.unwrap();
    assert_eq!(late.state(), SettleState::Settled, "a lease of a key that is gone can be reported");
    rig.restart().await;
    assert_eq!(Operator::of(&rig.api).keys().await.len(), 1);
    rig.still_serves().await;
}

#[tokio::test]
async fn what_one_broker_is_told_every_broker_does_within_a_second() {
    let rig = rig(Backing::Redis).await;
    let (_second, second) = rig.beside_with("second.toml", CONFIG, sealing()).await;
    let (here, there) = (Operator::of(&rig.api), Operator::of(&second));

    here.create("e1", "test-key-admin-e1-0001", of_project("extra")).await.unwrap();
    let took = until("a created key is leased", async || leases(&second, "extra").await).await;
    assert!(took < SEEN, "created: {took:?}");

    assert_eq!(there.disable("e1").await.unwrap().state(), KeyState::Disabled);
    assert!(!leases(&second, "extra").await, "not at once at the broker that was told");
    let took = until("a disabled key is not leased", async || !leases(&rig.api, "extra").await).await;
    assert!(took < SEEN, "disabled: {took:?}");
    let seen = here.get("e1").await.unwrap();
    assert_eq!((seen.state(), seen.state_reason.as_str()), (KeyState::Disabled, "it is sick"));

    assert_eq!(here.enable("e1").await.unwrap().state(), KeyState::Active);
    let took = until("an enabled key is leased", async || leases(&second, "extra").await).await;
    assert!(took < SEEN, "enabled: {took:?}");

    there.disable("a1").await.unwrap();
    let took = until("a configured key too", async || !leases(&rig.api, "alpha").await).await;
    assert!(took < SEEN, "disabled, configured: {took:?}");
    here.enable("a1").await.unwrap();

    there.delete("e1").await.unwrap();
    let took = until("a deleted key is not leased", async || !leases(&rig.api, "extra").await).await;
    assert!(took < SEEN, "deleted: {took:?}");
    assert_eq!(here.keys().await, there.keys().await);
}

async fn a_key_is_changed_by_a_mask_and_its_text_rotated(backing: Backing) {
    let rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    let key = Key { weight: Some(3), ..of_project("extra") };
    let created = operator.create("e1", "test-key-admin-e1-0001", key).await.unwrap();
    let update = async |key: Key, paths: &[&str]| {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let mask = (!paths.is_empty()).then_some(FieldMask { paths });
        let request = UpdateKeyRequest { key: Some(Key { name: named("e1"), ..key }), update_mask: mask };
        operator.client().update_key(said_by("ann", request)).await.map(tonic::Response::into_inner)
    };

    let rotated = Key { api_key: "test-key-admin-e1-0002".to_owned(), weight: Some(9), ..Key::default() };
    let changed = update(rotated.clone(), &["api_key"]).await.unwrap();
    assert_eq!(
        (changed.key_preview.as_str(), changed.weight),
        ("…0002", Some(3)),
        "the mask names the text alone"
    );
    assert_ne!(changed.etag, created.etag);
    assert_eq!(changed.create_time, created.create_time);
    assert_eq!(rig.api.acquire(ask_for("extra")).await.unwrap().api_key, "test-key-admin-e1-0002");

    let changed = update(Key { weight: Some(9), ..Key::default() }, &[]).await.unwrap();
    assert_eq!((changed.weight, changed.project.as_str()), (Some(9), "extra"), "without a mask, what is set");
    let whole = Key { api_key: "test-key-admin-e1-0003".to_owned(), ..Key::default() };
    let changed = update(whole, &["*"]).await.unwrap();
    assert_eq!((changed.weight, changed.project.as_str()), (Some(1), "e1"), "all of it");

    let stale = update(Key { etag: created.etag, ..rotated }, &["weight"]).await.unwrap_err();
    assert_eq!((stale.code(), Details::of(&stale).reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    let fresh = Key { etag: changed.etag, weight: Some(2), ..Key::default() };
    assert_eq!(update(fresh, &["weight"]).await.unwrap().weight, Some(2));
}

async fn a_configured_key_is_disabled_here_and_changed_in_the_file_alone(backing: Backing) {
    let mut rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    let key = operator.get("a1").await.unwrap();
    assert_eq!((key.origin(), key.state(), key.create_time), (Origin::Configured, KeyState::Active, None));
    let update = UpdateKeyRequest {
        key: Some(Key { name: named("a1"), weight: Some(2), ..Key::default() }),
        update_mask: None,
    };
    for refused in [
        operator.client().update_key(update).await.unwrap_err(),
        operator.delete("a1").await.unwrap_err(),
        operator.drain("a1", true).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(Details::of(&refused).reason, "CONFIGURED_IN_FILE");
        assert!(refused.message().contains("is configured in the file; change it there"), "{refused}");
    }
    operator.disable("a1").await.unwrap();
    let refused = rig.api.acquire(ask(MODEL)).await.unwrap_err();
    assert_eq!(Details::of(&refused).reason, "NO_USABLE_KEY");
    assert!(refused.message().contains("no key that may be leased"), "{refused}");
    rig.restart().await;
    assert!(!leases(&rig.api, "alpha").await, "it stays disabled");
    let operator = Operator::of(&rig.api);
    assert_ne!(operator.get("a1").await.unwrap().etag, key.etag);
    assert_eq!(operator.enable("a1").await.unwrap(), key);
    rig.still_serves().await;
}

async fn whoever_waits_is_given_a_key_that_comes_and_none_that_is_disabled(backing: Backing) {
    let config = r#"
[[projects]]
id = "alpha"
limits = [ { in_flight = 1 } ]
keys = [ { id = "a1", secret = "test-key-admin-a1" } ]
"#;
    let rig = Rig::start_with(backing, config, sealing()).await;
    let operator = Operator::of(&rig.api);
    let held = rig.api.lease().await;
    let waiting = |seconds: u64| {
        let api = rig.api.clone();
        let request = AcquireRequest { wait: Some(wire(Duration::from_secs(seconds))), ..ask(MODEL) };
        tokio::spawn(async move { api.acquire(request).await })
    };
    let waits =
        async || until("it waits", async || rig.api.inspect().await.counters.unwrap().waiting == 1).await;

    let waiter = waiting(120);
    waits().await;
    operator.create("e1", "test-key-admin-e1-0001", of_project("extra")).await.unwrap();
    let lease = waiter.await.unwrap().unwrap();
    assert_eq!(lease.key_id, "e1");
    let send_within = time(lease.send_within);
    assert!(send_within > Duration::from_secs(1), "what was waited is added: {send_within:?}");
    operator.delete("e1").await.unwrap();

    let waiter = waiting(120);
    waits().await;
    operator.disable("a1").await.unwrap();
    rig.api.report(not_sent(&held.lease_id)).await.unwrap();
    let refused = waiter.await.unwrap().unwrap_err();
    assert_eq!(Details::of(&refused).reason, "NO_USABLE_KEY", "the slot that came free is of a disabled key");
}

async fn a_reload_keeps_what_was_done_at_run_time_and_what_is_configured_stands_first(backing: Backing) {
    let mut rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    operator.create("e1", "test-key-admin-e1-0001", of_project("extra")).await.unwrap();
    operator.create("e2", "test-key-admin-e2-0001", of_project("alpha")).await.unwrap();
    operator.disable("a1").await.unwrap();
    rig.configure(&format!(
        "{CONFIG}\n[[projects]]\nid = \"more\"\nkeys = [ {{ id = \"m1\", secret = \"test-key-admin-m1\" }} ]\n"
    ));
    rig.broker.process().signal("HUP").unwrap();
    until("the new file is in place", async || leases(&rig.api, "more").await).await;
    assert!(leases(&rig.api, "extra").await);
    assert_eq!(rig.api.acquire(ask_for("alpha")).await.unwrap().key_id, "e2", "a1 is disabled still");

    // The file takes the id of one key and the project of another into another pool.
    rig.configure(&format!(
        "[[pools]]\nname = \"default\"\n[[pools]]\nname = \"other\"\n{CONFIG}\n\
         [[projects]]\nid = \"more\"\nkeys = [ {{ id = \"e2\", secret = \"test-key-admin-of-the-file\" }} ]\n\
         [[projects]]\nid = \"extra\"\npool = \"other\"\nkeys = [ {{ id = \"x1\", secret = \"test-key-admin-x1\" }} ]\n"
    ));
    rig.logs("a key that was created at run time is left out").await;
    until("the new file is in place", async || !leases(&rig.api, "extra").await).await;
    assert_eq!(rig.api.acquire(ask_for("more")).await.unwrap().api_key, "test-key-admin-of-the-file");
    let left_out = operator.get("e1").await.unwrap();
    assert!(left_out.problem.contains("is in the pool other"), "{left_out:?}");
    let keys = operator.keys().await;
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, [named("a1"), named("e1"), named("e2"), "pools/other/keys/x1".to_owned()]);
    assert_eq!(keys[2].origin(), Origin::Configured);

    rig.configure(CONFIG);
    until("the old file is in place", async || leases(&rig.api, "extra").await).await;
    assert_eq!(operator.get("e1").await.unwrap().problem, "");
}

async fn keys_are_listed_in_pages_with_all_that_is_known_but_the_text(backing: Backing) {
    let rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    for number in 1..=6 {
        operator
            .create(&format!("e{number}"), &format!("test-key-admin-e-000{number}"), Key::default())
            .await
            .unwrap();
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListKeysRequest { parent: "pools/default".to_owned(), page_size: 3, page_token };
        let page = operator.client().list_keys(request).await.unwrap().into_inner();
        assert!(page.keys.len() <= 3 && page.keys.iter().all(|key| key.api_key.is_empty()));
        names.extend(page.keys.into_iter().map(|key| key.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a1", "e1", "e2", "e3", "e4", "e5", "e6"].map(named));
    let given_no_id = operator.create("", "test-key-admin-e-0007", Key::default()).await.unwrap();
    assert!(given_no_id.name.starts_with("pools/default/keys/key-"), "{given_no_id:?}");
    assert_eq!(format!("pools/default/keys/{}", given_no_id.project), given_no_id.name);
    let stale = DeleteKeyRequest { name: named("e1"), etag: "other".to_owned() };
    assert_eq!(operator.client().delete_key(stale).await.unwrap_err().code(), Code::Aborted);
}
