//! The registry on Redis.

use std::time::Duration;

use keybroker::registry::{
    Action, Entry, KEEP_RECORDS, MOST_RECORDS, Registry, RegistryError,
    redis::{RedisRegistry, keyspace},
};
use keybroker_tests::harness::redis::RedisServer;

use super::suite;

const DEADLINE: Duration = Duration::from_secs(5);

fn registry(server: &RedisServer) -> RedisRegistry {
    RedisRegistry::new(&server.url(), DEADLINE).expect("the URL is one")
}

#[tokio::test]
async fn it_passes_the_suite() {
    let server = RedisServer::start().expect("redis-server starts");
    suite::run(&registry(&server)).await;
}

#[tokio::test]
async fn two_brokers_see_one_registry() {
    let server = RedisServer::start().expect("redis-server starts");
    let (first, second) = (registry(&server), registry(&server));
    let empty = suite::now(&second).await;
    let put = vec![Entry::Key(suite::key("a1"))];
    suite::made(&first, Some(&empty.version), vec![suite::edit(Action::CreateKey, "a1", put, vec![])]).await;
    let seen = second.snapshot(Some(&empty.version)).await.expect("it answers").expect("it changed");
    assert_eq!(seen, suite::now(&first).await);
    assert!(first.claim("leader", Duration::from_secs(60)).await.expect("it answers"));
    assert!(!second.claim("leader", Duration::from_secs(60)).await.expect("it answers"));
}

#[tokio::test]
async fn what_redis_lost_is_put_back_by_whoever_saw_it() {
    let server = RedisServer::start().expect("redis-server starts");
    let flush = || {
        let mut line = server.connect().expect("it answers");
        ::redis::cmd("FLUSHALL").query::<()>(&mut line).expect("it is emptied");
    };
    let put = |id: &str| {
        let entry = Entry::Key(suite::key(id));
        vec![suite::edit(Action::CreateKey, id, vec![entry], vec![])]
    };
    let (early, late) = (registry(&server), registry(&server));
    suite::made(&early, None, put("a1")).await;
    suite::now(&early).await;
    suite::made(&late, None, put("a2")).await;
    let newest = suite::now(&late).await;
    assert_eq!(newest.keys.keys().collect::<Vec<_>>(), ["a1", "a2"]);

    // One that knows less comes first, and one that knows more after it: nothing is lost, and no version names two.
    flush();
    let partly = suite::now(&early).await;
    assert_eq!(partly.keys.keys().collect::<Vec<_>>(), ["a1"]);
    assert_eq!(suite::now(&late).await, newest);
    assert_eq!(suite::now(&early).await, newest);

    // What is changed before it is put back is of the same registry, and older.
    flush();
    late.learn_alias("alias", "model").await.expect("it answers");
    assert_eq!(suite::now(&early).await, newest);
    let next = suite::made(&early, Some(&newest.version), put("a3")).await;
    assert_eq!(suite::now(&late).await.version, next);
    assert_eq!(suite::now(&registry(&server)).await.keys.len(), 3);
}

#[tokio::test]
async fn a_registry_that_lost_its_data_is_not_taken_for_an_earlier_state() {
    let server = RedisServer::start().expect("redis-server starts");
    let registry = registry(&server);
    let create = || vec![suite::edit(Action::CreateKey, "a1", vec![Entry::Key(suite::key("a1"))], vec![])];
    let before = suite::made(&registry, None, create()).await;
    ::redis::cmd("FLUSHALL").query::<()>(&mut server.connect().expect("it answers")).expect("it is emptied");
    let after = registry.snapshot(Some(&before)).await.expect("it answers").expect("it is another one");
    assert!(after.keys.is_empty());
    assert_ne!(suite::made(&registry, None, create()).await, before);
}

#[tokio::test]
async fn records_go_after_400_days_and_beyond_100_000() {
    let server = RedisServer::start().expect("redis-server starts");
    let registry = registry(&server);
    let mut connection = server.connect().expect("it answers");
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later").as_millis();
    let old = now as i64 - KEEP_RECORDS;
    let fill = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], ARGV[2], 'record', ARGV[3]) end";
    let body = r#"{"actor":"a","action":"b","resource":"old"}"#;
    let mut fill_with = |count: u64, id: String| {
        ::redis::cmd("EVAL")
            .arg(fill)
            .arg(1)
            .arg(keyspace::AUDIT)
            .arg(count)
            .arg(id)
            .arg(body)
            .query::<()>(&mut connection)
            .expect("records are written");
    };
    fill_with(1, format!("{}-0", old - 60_000));
    fill_with(1, format!("{}-0", old + 60_000));
    let create =
        |id: &str| vec![suite::edit(Action::CreateKey, id, vec![Entry::Key(suite::key(id))], vec![])];
    suite::made(&registry, None, create("a1")).await;
    let kept = registry.audit(None, 10).await.expect("it answers");
    assert_eq!(kept.len(), 2, "one was older");
    assert_eq!(kept[1].at(), old + 60_000);

    fill_with(MOST_RECORDS, "*".to_owned());
    suite::made(&registry, None, create("a2")).await;
    let count: u64 = ::redis::cmd("XLEN").arg(keyspace::AUDIT).query(&mut connection).expect("it is counted");
    assert_eq!(count, MOST_RECORDS);
    assert_eq!(registry.audit(None, 1).await.expect("it answers")[0].resource, "a2");
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_an_error_in_time() {
    let mut server = RedisServer::start().expect("redis-server starts");
    let registry = RedisRegistry::new(&server.url(), Duration::from_millis(300)).expect("the URL is one");
    assert!(registry.claim("one", Duration::from_secs(1)).await.is_ok());
    server.process().signal("STOP").expect("it is stopped");
    let error = registry.snapshot(None).await.expect_err("nobody answers");
    assert!(matches!(error, RegistryError::Unavailable(_)), "{error}");
    server.process().signal("CONT").expect("it goes on");
    let until = std::time::Instant::now() + DEADLINE;
    while registry.snapshot(None).await.is_err() {
        assert!(std::time::Instant::now() < until, "it recovers by itself");
    }
}

#[tokio::test]
async fn every_key_is_of_its_keyspace_and_expires_or_is_permanent_by_design() {
    let server = RedisServer::start().expect("redis-server starts");
    suite::run(&registry(&server)).await;
    let mut connection = server.connect().expect("it answers");
    let names: Vec<String> = ::redis::cmd("KEYS").arg("*").query(&mut connection).expect("it lists");
    assert!(names.len() > 4, "{names:?}");
    for name in names {
        let expires: i64 = ::redis::cmd("PTTL").arg(&name).query(&mut connection).expect("it answers");
        let permanent = [keyspace::META, keyspace::ENTRIES, keyspace::AUDIT].contains(&name.as_str());
        assert_eq!(expires < 0, permanent, "{name} lives for {expires} ms");
        assert!(permanent || name.starts_with(&keyspace::claim("")), "{name} is not of the keyspace");
    }
}
