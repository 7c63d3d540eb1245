//! Bad input: a clear error that names the field and the fix, all faults at once.

use std::collections::HashMap;

use keybroker_proto::v1::{
    CreateKeyRequest, CreatePoolRequest, DisableKeyRequest, GetKeyRequest, GetPoolRequest, Key, LimitRule,
    ListAuditRecordsRequest, ListKeysRequest, Pool, UpdateKeyRequest, UpdatePoolRequest,
};
use keybroker_tests::{
    harness::{api::Details, rig::Backing},
    on_both_ledgers,
};
use prost_types::{Duration, FieldMask};
use tonic::{Code, Request, Status};

use super::operator::{MASTER, Operator, named, of_project, rig};

on_both_ledgers!(every_field_of_a_key_is_checked, names_ids_and_rules_between_keys_are_checked);

fn limits(model: &str, limits: &[(&str, i64)]) -> LimitRule {
    let limits = limits.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect();
    LimitRule { model: model.to_owned(), limits }
}

/// The fields that a refusal names.
fn fields(refused: Result<impl std::fmt::Debug, Status>) -> Vec<(String, String)> {
    let refused = refused.expect_err("it is refused");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let details = Details::of(&refused);
    assert_eq!(details.reason, "INVALID_FIELD");
    assert!(details.fields.iter().all(|(_, wrong)| wrong.len() > 10), "{details:?}");
    details.fields
}

fn names(fields: &[(String, String)]) -> Vec<&str> {
    fields.iter().map(|(field, _)| field.as_str()).collect()
}

async fn every_field_of_a_key_is_checked(backing: Backing) {
    let mut rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    let long = "x".repeat(129);
    let labels = |name: &str, value: &str| Key {
        labels: HashMap::from([(name.to_owned(), value.to_owned())]),
        ..Key::default()
    };
    let limited = |rules: &[LimitRule]| Key { limits: rules.to_vec(), ..Key::default() };
    let many_labels = (0..65).map(|number| (format!("n{number}"), String::new())).collect();
    let many_rules = (0..101).map(|number| limits(&format!("m{number}"), &[("in_flight", 1)])).collect();
    let cases: Vec<(&str, &str, Key, &str)> = vec![
        ("no text", "", Key::default(), "key.api_key"),
        ("a short text", "short", Key::default(), "key.api_key"),
        ("a text with a space", "test-key with-space", Key::default(), "key.api_key"),
        ("a text that is a list", "test-key-one,test-key-two", Key::default(), "key.api_key"),
        ("a project that is no id", "good", of_project("a b"), "key.project"),
        (
            "an account that is no id",
            "good",
            Key { billing_account: "a/b".to_owned(), ..Key::default() },
            "key.billing_account",
        ),
        ("a tier that is none", "good", Key { tier: 9, ..Key::default() }, "key.tier"),
        ("a weight of nought", "good", Key { weight: Some(0), ..Key::default() }, "key.weight"),
        ("a weight too large", "good", Key { weight: Some(1001), ..Key::default() }, "key.weight"),
        ("a priority below nought", "good", Key { priority: Some(-1), ..Key::default() }, "key.priority"),
        ("a priority too large", "good", Key { priority: Some(16), ..Key::default() }, "key.priority"),
        ("a label without a name", "good", labels("", "x"), "key.labels"),
        ("a label too long", "good", labels("x", &long), "key.labels"),
        ("a label with a line break", "good", labels("x", "a\nb"), "key.labels"),
        ("too many labels", "good", Key { labels: many_labels, ..Key::default() }, "key.labels"),
        ("too many rules", "good", Key { limits: many_rules, ..Key::default() }, "key.limits"),
        (
            "a model that is none",
            "good",
            limited(&[limits("a b", &[("in_flight", 1)])]),
            "key.limits[0].model",
        ),
        ("no limit", "good", limited(&[limits("*", &[])]), "key.limits[0]"),
        (
            "an unknown limit",
            "good",
            limited(&[limits("*", &[("requests_per_minit", 1)])]),
            "key.limits[0].limits",
        ),
        (
            "a limit of nought",
            "good",
            limited(&[limits("*", &[("in_flight", 0)])]),
            "key.limits[0].limits[in_flight]",
        ),
        (
            "a limit below nought",
            "good",
            limited(&[limits("*", &[("in_flight", -5)])]),
            "key.limits[0].limits[in_flight]",
        ),
        (
            "a limit twice",
            "good",
            limited(&[limits("*", &[("in_flight", 1)]), limits("", &[("in_flight", 2)])]),
            "key.limits",
        ),
    ];
    for (what, text, key, field) in cases {
        let text = if text == "good" { "test-key-admin-good-0001" } else { text };
        let found = fields(operator.create("e1", text, key).await);
        assert_eq!(names(&found), [field], "{what}: {found:?}");
        assert!(!format!("{found:?}").contains("test-key"), "{what}: {found:?}");
    }
    let all = Key {
        weight: Some(0),
        priority: Some(99),
        limits: vec![limits("*", &[("requests_per_minit", 1)])],
        ..of_project("a b")
    };
    let found = fields(operator.create("not an id", "short", all).await);
    assert_eq!(
        names(&found),
        ["key_id", "key.api_key", "key.project", "key.weight", "key.priority", "key.limits[0].limits"],
        "all at once"
    );
    assert!(found[5].1.contains("did you mean requests_per_minute?"), "{found:?}");

    // A key's text where a name belongs would be printed.
    let text = "test-key-admin-good-0001";
    for (id, key, field) in [
        (text, Key::default(), "key_id"),
        ("e1", of_project(text), "key.project"),
        ("e1", labels("note", text), "key.labels"),
        ("e1", Key { billing_account: text.to_owned(), ..Key::default() }, "key.billing_account"),
    ] {
        let found = fields(operator.create(id, text, key).await);
        assert_eq!(names(&found), [field], "{found:?}");
        assert!(!format!("{found:?}").contains(text), "{found:?}");
    }
    let looks_like_one = format!("AIza{}", "B".repeat(35));
    assert_eq!(names(&fields(operator.create(&looks_like_one, text, Key::default()).await)), ["key_id"]);
    assert_eq!(operator.keys().await.len(), 1);
    assert!(!rig.broker.log().contains(MASTER));
    rig.still_serves().await;
}

async fn names_ids_and_rules_between_keys_are_checked(backing: Backing) {
    let mut rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    let mut admin = operator.client();
    for name in ["", "a1", "pools/default", "pools//keys/a1", "pools/default/keys/", "pools/default/keys/a/b"]
    {
        let found = fields(admin.get_key(GetKeyRequest { name: name.to_owned() }).await);
        assert_eq!(names(&found), ["name"], "{name}");
    }
    assert_eq!(names(&fields(admin.get_pool(GetPoolRequest { name: "default".to_owned() }).await)), ["name"]);
    let list = |parent: &str, page_size, page_token: &str| ListKeysRequest {
        parent: parent.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    };
    let found = fields(admin.list_keys(list("default", -1, "nonsense")).await);
    assert_eq!(names(&found), ["parent", "page_size", "page_token"]);
    let records = ListAuditRecordsRequest { page_size: 1, page_token: "YXVkaXRSZWNvcmRzOng".to_owned() };
    assert_eq!(names(&fields(admin.list_audit_records(records).await)), ["page_token"]);
    let unknown = admin.list_keys(list("pools/nowhere", 0, "")).await.unwrap_err();
    assert_eq!((unknown.code(), Details::of(&unknown).reason.as_str()), (Code::NotFound, "UNKNOWN_POOL"));
    let missing = operator.get("nobody").await.unwrap_err();
    assert_eq!((missing.code(), Details::of(&missing).reason.as_str()), (Code::NotFound, "UNKNOWN_KEY"));

    let text = "test-key-admin-good-0001";
    for parent in ["", "pools/-"] {
        let key = Some(Key { api_key: text.to_owned(), ..Key::default() });
        let create = CreateKeyRequest { parent: parent.to_owned(), key_id: String::new(), key };
        assert_eq!(names(&fields(admin.create_key(create).await)), ["parent"]);
    }
    let reason = DisableKeyRequest { name: named("a1"), etag: String::new(), reason: "x".repeat(257) };
    assert_eq!(names(&fields(admin.disable_key(reason).await)), ["reason"]);
    let mut nameless = Request::new(GetKeyRequest { name: named("a1") });
    nameless.metadata_mut().insert("x-keybroker-actor", "".parse().unwrap());
    assert!(admin.get_key(nameless).await.is_ok(), "reading asks for no name");
    for actor in [String::new(), "x".repeat(129)] {
        let reason = DisableKeyRequest { name: named("a1"), etag: String::new(), reason: String::new() };
        let mut request = Request::new(reason);
        request.metadata_mut().insert("x-keybroker-actor", actor.parse().unwrap());
        assert_eq!(names(&fields(admin.disable_key(request).await)), ["x-keybroker-actor"]);
    }

    operator.create("e1", text, Key { tier: 1, ..of_project("extra") }).await.unwrap();
    for (id, text, key, part) in [
        ("e1", "test-key-admin-good-0002", Key::default(), "the key id e1 is taken"),
        ("a1", "test-key-admin-good-0002", Key::default(), "the key id a1 is taken"),
        ("e2", text, Key::default(), "is that of the key e1 already"),
        ("e2", "test-key-admin-a1", Key::default(), "is that of the key a1 already"),
    ] {
        let refused = operator.create(id, text, key).await.unwrap_err();
        assert_eq!(
            (refused.code(), Details::of(&refused).reason.as_str()),
            (Code::AlreadyExists, "ALREADY_THERE")
        );
        assert!(refused.message().contains(part) && !refused.message().contains("test-key"), "{refused}");
    }
    let other_tier = Key { tier: 2, ..of_project("extra") };
    let found = fields(operator.create("e2", "test-key-admin-good-0002", other_tier).await);
    assert_eq!((found[0].0.as_str(), found[0].1.contains("with free")), ("key.tier", true), "{found:?}");
    admin.create_pool(CreatePoolRequest { pool_id: "batch".to_owned(), pool: None }).await.unwrap();
    let key = Some(Key { api_key: "test-key-admin-good-0002".to_owned(), ..of_project("alpha") });
    let create = CreateKeyRequest { parent: "pools/batch".to_owned(), key_id: String::new(), key };
    let found = fields(admin.create_key(create).await);
    assert_eq!(
        (found[0].0.as_str(), found[0].1.contains("is in the pool default")),
        ("key.project", true),
        "{found:?}"
    );

    let mask = |path: &str| Some(FieldMask { paths: vec![path.to_owned()] });
    for path in ["name", "key_preview", "colour"] {
        let key = Some(Key { name: named("e1"), ..Key::default() });
        let found = fields(admin.update_key(UpdateKeyRequest { key, update_mask: mask(path) }).await);
        assert_eq!(names(&found), ["update_mask"]);
    }
    let key = Some(Key { name: named("e1"), ..Key::default() });
    let found = fields(admin.update_key(UpdateKeyRequest { key, update_mask: mask("api_key") }).await);
    assert_eq!(names(&found), ["key.api_key"]);
    assert_eq!(names(&fields(admin.update_key(UpdateKeyRequest::default()).await)), ["key.name"]);

    let wrong = Pool {
        strategy: "random".to_owned(),
        send_within: Some(Duration { seconds: 31, nanos: 0 }),
        lease_ttl: Some(Duration { seconds: -1, nanos: 0 }),
        limits: vec![limits("*", &[("speed", 1)])],
        ..Pool::default()
    };
    let create = CreatePoolRequest { pool_id: "no id".to_owned(), pool: Some(wrong.clone()) };
    let found = fields(admin.create_pool(create).await);
    assert_eq!(
        names(&found),
        ["pool_id", "pool.strategy", "pool.send_within", "pool.lease_ttl", "pool.limits[0].limits"]
    );
    let update =
        UpdatePoolRequest { pool: Some(Pool { name: "pools/batch".to_owned(), ..wrong }), update_mask: None };
    assert_eq!(fields(admin.update_pool(update).await).len(), 4);
    rig.still_serves().await;
}
