//! The registry in a data directory.

use std::sync::atomic::{AtomicI64, Ordering};

use keybroker::{
    ledger::Millis,
    registry::{
        Action, Entry, KEEP_RECORDS, Mark, MarkState, Registry, RegistryError, embedded::EmbeddedRegistry,
    },
};

use super::suite;

#[tokio::test]
async fn it_passes_the_suite() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    suite::run(&EmbeddedRegistry::open(folder.path()).expect("it opens")).await;
}

#[tokio::test]
async fn it_is_the_same_after_it_was_closed() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let registry = EmbeddedRegistry::open(folder.path()).expect("it opens");
    let put = vec![Entry::Key(suite::key("a1"))];
    suite::made(&registry, None, vec![suite::edit(Action::CreateKey, "a1", put, vec![])]).await;
    assert!(registry.claim("held", std::time::Duration::from_secs(60)).await.expect("it answers"));
    let (before, records) =
        (suite::now(&registry).await, registry.audit(None, 10).await.expect("it answers"));
    drop(registry);
    let registry = EmbeddedRegistry::open(folder.path()).expect("it opens again");
    assert_eq!(suite::now(&registry).await, before);
    assert_eq!(registry.audit(None, 10).await.expect("it answers"), records);
    assert!(!registry.claim("held", std::time::Duration::from_secs(60)).await.expect("it answers"));
}

#[tokio::test]
async fn it_belongs_to_one_broker_and_a_damaged_one_is_refused() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let registry = EmbeddedRegistry::open(folder.path()).expect("it opens");
    let error = EmbeddedRegistry::open(folder.path()).err().expect("it is refused");
    assert!(error.to_string().contains("another broker uses it"), "{error}");
    drop(registry);
    std::fs::write(folder.path().join("registry.redb"), "not a registry, but long enough to be read as one")
        .expect("the folder can be written");
    let error = EmbeddedRegistry::open(folder.path()).err().expect("it is refused");
    assert!(matches!(&error, RegistryError::Unusable(text) if text.contains("registry.redb")), "{error}");
}

static CLOCK: AtomicI64 = AtomicI64::new(1_800_000_000_000);

fn clock() -> Millis {
    CLOCK.load(Ordering::Relaxed)
}

#[tokio::test]
async fn records_go_after_400_days_and_never_run_backwards() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let registry = EmbeddedRegistry::open_with(folder.path(), clock).expect("it opens");
    let disable = |reason: &str| {
        let mark = Mark {
            key_id: "a1".to_owned(),
            state: MarkState::Disabled,
            reason: reason.to_owned(),
            remove_when_drained: false,
        };
        vec![suite::edit(Action::DisableKey, reason, vec![Entry::Mark(mark)], vec![])]
    };
    suite::made(&registry, None, disable("first")).await;
    CLOCK.fetch_sub(5_000, Ordering::Relaxed);
    suite::made(&registry, None, disable("second")).await;
    let records = registry.audit(None, 10).await.expect("it answers");
    assert_eq!(
        records.iter().map(|record| record.resource.as_str()).collect::<Vec<_>>(),
        ["second", "first"]
    );
    CLOCK.fetch_add(5_000 + KEEP_RECORDS, Ordering::Relaxed);
    suite::made(&registry, None, disable("third")).await;
    assert_eq!(registry.audit(None, 10).await.expect("it answers").len(), 3, "400 days are kept");
    CLOCK.fetch_add(1, Ordering::Relaxed);
    suite::made(&registry, None, disable("fourth")).await;
    let records = registry.audit(None, 10).await.expect("it answers");
    assert_eq!(
        records.iter().map(|record| record.resource.as_str()).collect::<Vec<_>>(),
        ["fourth", "third"]
    );
}
