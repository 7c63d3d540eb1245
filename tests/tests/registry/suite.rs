//! What every registry must do.

use std::{collections::BTreeMap, time::Duration};

use keybroker::{
    catalogue::Tier,
    registry::{
        Action, Change, Changed, Edit, Entry, EntryName, Mark, MarkState, Registry, RunTimeKey, RunTimePool,
        Snapshot, Version, Who, WrittenRule,
    },
};

/// Runs the whole suite on a registry that holds nothing yet.
pub(super) async fn run(registry: &dyn Registry) {
    an_empty_registry_has_a_version_too(registry).await;
    what_is_written_is_read_back_with_its_times(registry).await;
    a_change_decided_by_an_old_version_changes_nothing(registry).await;
    what_changes_nothing_is_no_change(registry).await;
    several_edits_are_one_step_with_a_record_each(registry).await;
    an_alias_is_learned_once_and_learned_anew_when_it_differs(registry).await;
    records_are_listed_newest_first_and_paged(registry).await;
    a_claim_is_had_by_one_until_its_span_has_passed(registry).await;
    of_many_who_change_at_once_one_wins_each_version(registry).await;
}

/// The registry as it stands.
pub(super) async fn now(registry: &dyn Registry) -> Snapshot {
    registry.snapshot(None).await.expect("it answers").expect("nothing is known")
}

/// A key without a text that opens.
pub(super) fn key(id: &str) -> RunTimeKey {
    RunTimeKey {
        id: id.to_owned(),
        pool: "default".to_owned(),
        project: "team-a".to_owned(),
        tier: Tier::Free,
        billing_account: Some("account".to_owned()),
        weight: 2,
        priority: Some(1),
        labels: BTreeMap::from([("team".to_owned(), "ä \"quoted\"\n".to_owned())]),
        limits: vec![WrittenRule {
            model: "*".to_owned(),
            limits: BTreeMap::from([("requests_per_minute".to_owned(), 1_000_000_000_000)]),
        }],
        fingerprint: "00ff00ff00ff00ff".to_owned(),
        preview: "…0001".to_owned(),
        sealed: "c2VhbGVk".to_owned(),
    }
}

/// Writes entries under a resource's name.
pub(super) fn edit(action: Action, resource: &str, puts: Vec<Entry>, removes: Vec<EntryName>) -> Edit {
    let after = puts.first().map(|entry| serde_json::json!({ "entry": entry.name().to_string() }));
    Edit { action, resource: resource.to_owned(), puts, removes, before: None, after }
}

/// Somebody.
pub(super) fn somebody() -> Who {
    Who { actor: "somebody".to_owned(), peer: "127.0.0.1".to_owned() }
}

/// Makes a change by the version, and answers the new one.
pub(super) async fn made(registry: &dyn Registry, by: Option<&Version>, edits: Vec<Edit>) -> Version {
    let change = Change { decided_at: by.cloned(), edits };
    match registry.change(&change, &somebody()).await.expect("it answers") {
        Changed::Made(version) => version,
        Changed::Stale => panic!("nobody else changes it"),
    }
}

async fn an_empty_registry_has_a_version_too(registry: &dyn Registry) {
    let empty = now(registry).await;
    assert_eq!(empty, Snapshot { version: empty.version.clone(), ..Snapshot::default() });
    assert_eq!(registry.snapshot(Some(&empty.version)).await.expect("it answers"), None);
    assert_eq!(registry.audit(None, 10).await.expect("it answers"), []);
}

async fn what_is_written_is_read_back_with_its_times(registry: &dyn Registry) {
    let empty = now(registry).await;
    let pool = RunTimePool {
        name: "batch".to_owned(),
        strategy: "weighted".to_owned(),
        send_within_ms: 2000,
        lease_ttl_ms: 30_000,
        limits: key("a1").limits,
    };
    let mark = Mark {
        key_id: "a1".to_owned(),
        state: MarkState::Draining,
        reason: "leaves".to_owned(),
        remove_when_drained: true,
    };
    let puts = vec![Entry::Key(key("a1")), Entry::Pool(pool.clone()), Entry::Mark(mark.clone())];
    let version =
        made(registry, Some(&empty.version), vec![edit(Action::CreateKey, "a1", puts, vec![])]).await;

    let first = registry.snapshot(Some(&empty.version)).await.expect("it answers").expect("it changed");
    assert_eq!(first.version, version);
    assert_eq!(first.keys["a1"].value, key("a1"));
    assert_eq!(first.pools["batch"].value, pool);
    assert_eq!(first.marks["a1"].value, mark);
    assert_eq!(first.keys["a1"].created, first.keys["a1"].updated);
    assert!(first.keys["a1"].created > 1_700_000_000_000, "milliseconds since the epoch");
    assert_eq!(registry.snapshot(Some(&version)).await.expect("it answers"), None);

    let heavier = RunTimeKey { weight: 9, ..key("a1") };
    let edits = vec![edit(
        Action::UpdateKey,
        "a1",
        vec![Entry::Key(heavier.clone())],
        vec![EntryName::Pool("batch".to_owned()), EntryName::Mark("a1".to_owned())],
    )];
    made(registry, Some(&version), edits).await;
    let second = now(registry).await;
    assert_eq!(second.keys["a1"].value, heavier);
    assert_eq!(second.keys["a1"].created, first.keys["a1"].created);
    assert!(second.keys["a1"].updated >= first.keys["a1"].updated);
    assert_ne!(second.keys["a1"].revision, first.keys["a1"].revision);
    assert!(second.pools.is_empty() && second.marks.is_empty());
}

async fn a_change_decided_by_an_old_version_changes_nothing(registry: &dyn Registry) {
    let before = now(registry).await;
    let version = made(
        registry,
        Some(&before.version),
        vec![edit(Action::CreateKey, "b1", vec![Entry::Key(key("b1"))], vec![])],
    )
    .await;
    let (standing, records) = (now(registry).await, registry.audit(None, 1000).await.expect("it answers"));
    let late = Change {
        decided_at: Some(before.version),
        edits: vec![edit(Action::DeleteKey, "b1", vec![], vec![EntryName::Key("b1".to_owned())])],
    };
    assert_eq!(registry.change(&late, &somebody()).await.expect("it answers"), Changed::Stale);
    assert_eq!(now(registry).await, standing);
    assert_eq!(standing.version, version);
    assert_eq!(registry.audit(None, 1000).await.expect("it answers"), records);
    // Without a version it holds whatever stands there.
    made(registry, None, late.edits).await;
    assert!(!now(registry).await.keys.contains_key("b1"));
}

async fn what_changes_nothing_is_no_change(registry: &dyn Registry) {
    let before = now(registry).await;
    let records = registry.audit(None, 1000).await.expect("it answers");
    let again = Entry::Key(before.keys["a1"].value.clone());
    let edits = vec![edit(Action::UpdateKey, "a1", vec![again], vec![EntryName::Key("nobody".to_owned())])];
    assert_eq!(made(registry, Some(&before.version), edits).await, before.version);
    assert_eq!(now(registry).await, before);
    assert_eq!(registry.audit(None, 1000).await.expect("it answers"), records);
}

async fn several_edits_are_one_step_with_a_record_each(registry: &dyn Registry) {
    let before = now(registry).await;
    let names: Vec<String> = (0..50).map(|number| format!("many-{number}")).collect();
    let create = |name: &String| edit(Action::ImportKey, name, vec![Entry::Key(key(name))], vec![]);
    let version = made(registry, Some(&before.version), names.iter().map(create).collect()).await;
    let after = now(registry).await;
    assert_eq!(after.version, version);
    assert_eq!(after.keys.len(), before.keys.len() + 50);
    let records = registry.audit(None, 50).await.expect("it answers");
    let recorded: Vec<&str> = records.iter().rev().map(|record| record.resource.as_str()).collect();
    assert_eq!(recorded, names, "in the order of the edits");
    let remove = |name: &String| edit(Action::DeleteKey, name, vec![], vec![EntryName::Key(name.clone())]);
    made(registry, Some(&version), names.iter().map(remove).collect()).await;
    assert_eq!(now(registry).await.keys, before.keys);
}

async fn an_alias_is_learned_once_and_learned_anew_when_it_differs(registry: &dyn Registry) {
    registry.learn_alias("gemini-9-flash-preview", "gemini-9-flash").await.expect("it answers");
    let first = now(registry).await;
    assert_eq!(first.aliases["gemini-9-flash-preview"], "gemini-9-flash");
    registry.learn_alias("gemini-9-flash-preview", "gemini-9-flash").await.expect("it answers");
    assert_eq!(now(registry).await.version, first.version);
    registry.learn_alias("gemini-9-flash-preview", "gemini-9").await.expect("it answers");
    let second = now(registry).await;
    assert_eq!(second.aliases["gemini-9-flash-preview"], "gemini-9");
    assert_ne!(second.version, first.version);
    let newest = registry.audit(None, 1).await.expect("it answers").remove(0);
    assert_eq!((newest.actor.as_str(), newest.action.as_str()), ("keybroker", "LearnAlias"));
    assert_eq!(newest.resource, "models/gemini-9-flash-preview");
    assert_eq!(newest.after, Some(serde_json::json!({ "quota_model": "gemini-9" })));
}

async fn records_are_listed_newest_first_and_paged(registry: &dyn Registry) {
    for number in 0..7 {
        let mark = Mark {
            key_id: "a1".to_owned(),
            state: MarkState::Disabled,
            reason: format!("reason {number}"),
            remove_when_drained: false,
        };
        made(
            registry,
            None,
            vec![edit(Action::DisableKey, &format!("r{number}"), vec![Entry::Mark(mark)], vec![])],
        )
        .await;
    }
    let all = registry.audit(None, 1000).await.expect("it answers");
    let newest: Vec<&str> = all.iter().take(7).map(|record| record.resource.as_str()).collect();
    assert_eq!(newest, ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]);
    assert!(all.windows(2).all(|pair| pair[0].id > pair[1].id && pair[0].at() >= pair[1].at()));
    assert_eq!((all[0].actor.as_str(), all[0].peer.as_str()), ("somebody", "127.0.0.1"));
    assert_eq!((all[0].action.as_str(), all[0].before.as_ref()), ("DisableKey", None));

    let (mut paged, mut before) = (Vec::new(), None);
    loop {
        let page = registry.audit(before, 3).await.expect("it answers");
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        before = Some(last.id);
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

async fn a_claim_is_had_by_one_until_its_span_has_passed(registry: &dyn Registry) {
    let claim = async |name: &str, millis| {
        registry.claim(name, Duration::from_millis(millis)).await.expect("it answers")
    };
    assert!(claim("hook ä:1", 200).await);
    assert!(!claim("hook ä:1", 200).await);
    assert!(claim("hook ä:2", 60_000).await, "another name is another claim");
    let started = std::time::Instant::now();
    while !claim("hook ä:1", 60_000).await {
        assert!(started.elapsed() < Duration::from_secs(10), "it ends");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(started.elapsed() > Duration::from_millis(100), "and not before its span has passed");
    assert!(!claim("hook ä:2", 1).await);

    let contend = (0..40).map(|_| registry.claim("one of forty", Duration::from_secs(60)));
    let had = futures_util::future::join_all(contend).await;
    assert_eq!(had.into_iter().filter(|had| *had.as_ref().expect("it answers")).count(), 1);
}

async fn of_many_who_change_at_once_one_wins_each_version(registry: &dyn Registry) {
    let before = now(registry).await;
    let changes: Vec<Change> = (0..20)
        .map(|number| {
            let name = format!("racer-{number}");
            let edits = vec![edit(Action::CreateKey, &name, vec![Entry::Key(key(&name))], vec![])];
            Change { decided_at: Some(before.version.clone()), edits }
        })
        .collect();
    let who = somebody();
    let outcomes = changes.iter().map(|change| registry.change(change, &who));
    let outcomes = futures_util::future::join_all(outcomes).await;
    let made = outcomes.into_iter().filter(|outcome| matches!(outcome, Ok(Changed::Made(_)))).count();
    assert_eq!(made, 1);
    assert_eq!(now(registry).await.keys.len(), before.keys.len() + 1);
}
