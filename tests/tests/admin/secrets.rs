//! Texts of keys that are given at run time are in leases and nowhere else. That the search finds what
//! there is to find is shown by `secrets.rs`.

use std::{fs, time::Duration};

use keybroker_proto::v1::{ImportKeysRequest, Key, UpdateKeyRequest};
use keybroker_tests::{
    harness::{
        api::answered,
        broker::BrokerOptions,
        leak::{everything_in, everything_in_redis, holds, leaks},
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};

use super::operator::{CONFIG, MASTER, Operator, ask_for, named, of_project, until};

on_both_ledgers!(a_text_given_at_run_time_is_in_no_store_no_log_and_no_answer);

/// No part of one is a word that anything else would say; the last four characters may be shown.
const CANARIES: [&str; 4] = [
    "Vf8Qk3Zn6Wx1Rb5Ty9Ud-0001",
    "Gm2Hs7Jc4Ka9Lp1Oe6Ni-0002",
    "Xw5Ev0Bq8Dt3Fz6Sr2Yg-0003",
    "Mu9Ih4Pj7Ao1Cl5Kx8Wn-0004",
];

async fn a_text_given_at_run_time_is_in_no_store_no_log_and_no_answer(backing: Backing) {
    let [created, rotated, imported, refused] = CANARIES;
    let options = BrokerOptions::default().env("KEYBROKER_MASTER_KEY", MASTER).arg("--log", "trace");
    let mut rig = Rig::start_with(backing, CONFIG, options).await;
    let operator = Operator::of(&rig.api);
    let mut said = Vec::new();
    said.push(format!("{:?}", operator.create("e1", created, of_project("extra")).await.unwrap()));
    said.push(format!("{:?}", operator.create("e2", created, Key::default()).await.unwrap_err()));
    said.push(format!("{:?}", operator.create(refused, refused, Key::default()).await.unwrap_err()));
    said.push(format!(
        "{:?}",
        operator.create("e3", &format!("{refused} x"), Key::default()).await.unwrap_err()
    ));

    // What is reported of a key that was rotated, disabled or deleted may echo it.
    let lease = rig.api.acquire(ask_for("extra")).await.unwrap();
    assert_eq!(lease.api_key, created, "leases do hold it");
    let key = Key { name: named("e1"), api_key: rotated.to_owned(), ..Key::default() };
    let update = UpdateKeyRequest { key: Some(key), update_mask: None };
    said.push(format!("{:?}", operator.client().update_key(update).await.unwrap()));
    let echo = |text: &str| format!(r#"{{"error":{{"code":500,"message":"{text}","status":"INTERNAL"}}}}"#);
    said.push(format!("{:?}", rig.api.report(answered(&lease.lease_id, 500, echo(created))).await.unwrap()));
    let lease = rig.api.acquire(ask_for("extra")).await.unwrap();
    operator.disable("e1").await.unwrap();
    said.push(format!("{:?}", rig.api.report(answered(&lease.lease_id, 500, echo(rotated))).await.unwrap()));

    let data = format!("{imported}\n{imported}\n{refused} {refused}\n");
    let import = ImportKeysRequest {
        parent: "pools/default".to_owned(),
        data: data.clone().into_bytes(),
        ..ImportKeysRequest::default()
    };
    assert!(!format!("{import:?}").contains(imported), "requests are not printed with their texts");
    said.push(format!("{:?}", operator.client().import_keys(import.clone()).await.unwrap()));
    let csv = ImportKeysRequest { data: format!("{refused},api_key\n{data}").into_bytes(), ..import };
    said.push(format!("{:?}", operator.client().import_keys(csv).await.unwrap_err()));
    said.push(format!("{:?} {:?}", operator.keys().await, operator.records().await));
    rig.restart().await;
    until("the keys are back", async || Operator::of(&rig.api).keys().await.len() == 3).await;
    tokio::time::sleep(Duration::from_millis(600)).await;

    assert_silent("what callers were told", said.join("\n").as_bytes());
    assert_silent("the log", rig.broker.log().as_bytes());
    let (stored, sealed) = match &rig.redis {
        Some(redis) => {
            let all = everything_in_redis(redis).unwrap();
            (all.clone(), all)
        }
        None => {
            (everything_in(&rig.data_dir()).unwrap(), fs::read(rig.data_dir().join("registry.redb")).unwrap())
        }
    };
    assert!(holds(&sealed, "\"sealed\"") && holds(&sealed, "extra"), "the registry was read");
    assert_silent("the store", &stored);
    assert!(!holds(&stored, MASTER));
}

fn assert_silent(place: &str, bytes: &[u8]) {
    let leaks = leaks(&CANARIES, bytes);
    assert!(leaks.is_empty(), "{place} shows keys: {leaks:#?}");
}
