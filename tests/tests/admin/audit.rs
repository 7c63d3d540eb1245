//! The record of changes: all of them, with who made them.

use keybroker_proto::v1::{CreatePoolRequest, DisableKeyRequest, Key, ListAuditRecordsRequest, Pool};
use keybroker_tests::{harness::rig::Backing, on_both_ledgers};
use serde_json::Value;

use super::operator::{Operator, named, of_project, rig, said_by};

on_both_ledgers!(every_change_is_recorded_with_its_actor_and_what_it_changed);

async fn every_change_is_recorded_with_its_actor_and_what_it_changed(backing: Backing) {
    let mut rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    operator.create("e1", "test-key-admin-e1-0001", of_project("extra")).await.unwrap();
    operator.create("e1", "test-key-admin-e1-0002", Key::default()).await.unwrap_err();
    let anonymous =
        DisableKeyRequest { name: named("a1"), etag: String::new(), reason: "why not".to_owned() };
    operator.client().disable_key(anonymous).await.unwrap();
    operator.enable("a1").await.unwrap();
    operator.enable("a1").await.unwrap();
    let pool = CreatePoolRequest { pool_id: "batch".to_owned(), pool: Some(Pool::default()) };
    operator.client().create_pool(said_by("bob <bob@example.com>", pool)).await.unwrap();
    operator.delete("e1").await.unwrap();
    rig.restart().await;

    let operator = Operator::of(&rig.api);
    let records = operator.records().await;
    let said: Vec<(&str, &str, &str)> = records
        .iter()
        .map(|record| (record.actor.as_str(), record.action.as_str(), record.resource.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            ("ann", "DeleteKey", "pools/default/keys/e1"),
            ("bob <bob@example.com>", "CreatePool", "pools/batch"),
            ("ann", "EnableKey", "pools/default/keys/a1"),
            ("127.0.0.1", "DisableKey", "pools/default/keys/a1"),
            ("ann", "CreateKey", "pools/default/keys/e1"),
        ],
        "the newest first; what was refused or changed nothing is not there"
    );
    assert!(records.iter().all(|record| record.peer == "127.0.0.1" && record.time.is_some()));
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let created = json(&records[4].after_json);
    assert_eq!((&created["project"], &created["preview"]), (&Value::from("extra"), &Value::from("…0001")));
    assert_eq!(created.get("sealed"), None);
    assert_eq!(records[4].before_json, "");
    assert_eq!((json(&records[0].before_json), records[0].after_json.as_str()), (created, ""));
    assert_eq!(json(&records[3].after_json)["reason"], "why not");
    assert_eq!(json(&records[3].before_json)["state"], "active");

    let (mut paged, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListAuditRecordsRequest { page_size: 2, page_token };
        let page = operator.client().list_audit_records(request).await.unwrap().into_inner();
        paged.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, records);
}
