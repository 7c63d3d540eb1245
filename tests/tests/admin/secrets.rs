//! Texts of keys that are given at run time are in leases and nowhere else.

use std::{fs, path::Path, time::Duration};

use keybroker_proto::v1::{ImportKeysRequest, Key, UpdateKeyRequest};
use keybroker_tests::{
    harness::{
        api::answered,
        broker::BrokerOptions,
        redis::RedisServer,
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
const TELLING: usize = 8;

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
            let all = everything_in_redis(redis);
            (all.clone(), all)
        }
        None => (everything_in(&rig.data_dir()), fs::read(rig.data_dir().join("registry.redb")).unwrap()),
    };
    assert!(holds(&sealed, "\"sealed\"") && holds(&sealed, "extra"), "the registry was read");
    assert_silent("the store", &stored);
    assert!(!holds(&stored, MASTER));
}

#[test]
fn a_text_that_is_stored_in_the_clear_is_found_by_the_same_search() {
    let redis = RedisServer::start().unwrap();
    let mut connection = redis.connect().unwrap();
    for (command, arguments) in [
        ("SET", vec!["a", CANARIES[0]]),
        ("HSET", vec!["b", "field", CANARIES[0]]),
        ("XADD", vec!["c", "*", "record", CANARIES[0]]),
    ] {
        ::redis::cmd("FLUSHALL").query::<()>(&mut connection).unwrap();
        assert_eq!(leaks(&everything_in_redis(&redis)).len(), 0);
        ::redis::cmd(command).arg(&arguments).query::<::redis::Value>(&mut connection).unwrap();
        assert_eq!(leaks(&everything_in_redis(&redis)).len(), 1, "{command}");
    }
}

fn assert_silent(place: &str, bytes: &[u8]) {
    let leaks = leaks(bytes);
    assert!(leaks.is_empty(), "{place} shows keys: {leaks:#?}");
}

/// Every canary of which a telling part is there, with what stands around it.
fn leaks(bytes: &[u8]) -> Vec<String> {
    let leak = |canary: &&str| {
        let secret = canary.len() - "-0001".len();
        let mut parts = (0..=secret - TELLING).map(|start| &canary[start..start + TELLING]);
        let at = parts.find_map(|part| position(bytes, part))?;
        let around = &bytes[at.saturating_sub(200)..(at + 200).min(bytes.len())];
        Some(format!("{canary}: {}", String::from_utf8_lossy(around)))
    };
    CANARIES.iter().filter_map(leak).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    position(bytes, text).is_some()
}

fn position(bytes: &[u8], text: &str) -> Option<usize> {
    let first = text.as_bytes()[0];
    let found =
        |(at, byte): (usize, &u8)| (*byte == first && bytes[at..].starts_with(text.as_bytes())).then_some(at);
    bytes.iter().enumerate().find_map(found)
}

/// Every file below a folder.
fn everything_in(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.extend(if path.is_dir() { everything_in(&path) } else { fs::read(&path).unwrap() });
        all.push(b'\n');
    }
    all
}

/// Every key of every kind with its values, and its dump.
fn everything_in_redis(redis: &RedisServer) -> Vec<u8> {
    let mut connection = redis.connect().unwrap();
    let names: Vec<Vec<u8>> = ::redis::cmd("SCAN")
        .arg(0)
        .arg("COUNT")
        .arg(10_000)
        .query::<(u64, Vec<Vec<u8>>)>(&mut connection)
        .unwrap()
        .1;
    let mut all = Vec::new();
    for name in names {
        let kind: String = ::redis::cmd("TYPE").arg(&name).query(&mut connection).unwrap();
        let (command, range): (&str, &[&str]) = match kind.as_str() {
            "string" => ("GET", &[]),
            "hash" => ("HGETALL", &[]),
            "zset" => ("ZRANGE", &["0", "-1"]),
            "stream" => ("XRANGE", &["-", "+"]),
            other => panic!("a {other} cannot be searched"),
        };
        let value: ::redis::Value =
            ::redis::cmd(command).arg(&name).arg(range).query(&mut connection).unwrap();
        all.extend(&name);
        all.push(b'\n');
        flatten(&value, &mut all);
        all.extend(::redis::cmd("DUMP").arg(&name).query::<Vec<u8>>(&mut connection).unwrap());
        all.push(b'\n');
    }
    all
}

fn flatten(value: &::redis::Value, into: &mut Vec<u8>) {
    match value {
        ::redis::Value::BulkString(bytes) => {
            into.extend(bytes);
            into.push(b'\n');
        }
        ::redis::Value::SimpleString(text) => into.extend(text.as_bytes()),
        ::redis::Value::Array(items) => items.iter().for_each(|item| flatten(item, into)),
        ::redis::Value::Map(pairs) => pairs.iter().for_each(|(name, value)| {
            flatten(name, into);
            flatten(value, into);
        }),
        _ => {}
    }
}
