//! How many leases of a key are still held, as a rotation asks it of each ledger: by when they were granted, until they
//! are settled or expire.

use std::time::{Duration, Instant};

use keybroker::ledger::{
    AcquireState, Batch, FOREVER, Ledger, Millis, Settle,
    calendar::{Calendar, wall_clock},
    embedded::{EmbeddedLedger, Reach},
    redis::RedisLedger,
};
use keybroker_tests::harness::{one_key, redis::RedisServer};
use tempfile::TempDir;

const POOL: &str = "pool";
const SHARD: &str = "digest/model";
const LONG: i64 = 60_000;
const SHORT: i64 = 500;
const PATIENCE: Duration = Duration::from_secs(30);

struct Scene<L> {
    ledger: L,
    ledger_id: String,
}

impl<L: Ledger> Scene<L> {
    async fn of(ledger: L) -> Self {
        assert_eq!(ledger.held("never-opened", "key", FOREVER).await.expect("it answers"), 0);
        let opened = ledger.open(POOL, "digest").await.expect("it opens");
        let spec = one_key::shard(SHARD, opened.generation, Vec::new());
        ledger.apply(POOL, &opened.ledger_id, &spec).await.expect("it is applied");
        Self { ledger, ledger_id: opened.ledger_id }
    }

    fn batch(&self) -> Batch {
        let mut batch = Batch::empty(&self.ledger_id, 0, &Calendar::around(wall_clock()));
        batch.shards.push(SHARD.to_owned());
        batch
    }

    /// Grants a lease, and returns when.
    async fn grant(&self, lease: &str, ttl: i64) -> Millis {
        let mut batch = self.batch();
        batch.acquires.push(one_key::request(lease, ttl));
        let reply = self.ledger.execute(POOL, &batch).await.expect("it answers");
        assert_eq!(reply.acquires[0].0, AcquireState::Granted);
        reply.now
    }

    async fn settle(&self, lease: &str) {
        let mut batch = self.batch();
        batch.settles.push(Settle::not_sent(lease));
        self.ledger.execute(POOL, &batch).await.expect("it answers");
    }

    async fn held(&self, key: &str, granted_before: Millis) -> usize {
        self.ledger.held(POOL, key, granted_before).await.expect("it answers")
    }

    async fn leases_are_counted_until_they_are_back(self) {
        let first = self.grant("first", LONG).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let second = self.grant("second", LONG).await;
        assert!(first < second);
        let begun = Instant::now();
        self.grant("third", SHORT).await;
        assert!(self.held("key", FOREVER).await == 3 || begun.elapsed() >= Duration::from_millis(500));
        assert_eq!(
            self.held("key", second).await,
            1,
            "what was granted at that instant or later does not count"
        );
        assert_eq!(self.held("key", first).await, 0);
        assert_eq!(self.held("another", FOREVER).await, 0);

        while self.held("key", FOREVER).await != 2 {
            assert!(begun.elapsed() < PATIENCE, "a lease that has expired is held no more");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(400), "until then it is");
        self.settle("first").await;
        assert_eq!(self.held("key", second).await, 0);
        assert_eq!(self.held("key", FOREVER).await, 1);
    }
}

#[tokio::test]
async fn redis_counts_leases_until_they_are_back() {
    let redis = RedisServer::start().expect("redis-server starts");
    let ledger = RedisLedger::new(&redis.url(), Duration::from_secs(5)).expect("the address is one");
    Scene::of(ledger).await.leases_are_counted_until_they_are_back().await;
}

#[tokio::test]
async fn the_embedded_ledger_counts_leases_until_they_are_back() {
    let folder = TempDir::new().expect("a folder");
    let ledger = EmbeddedLedger::open(folder.path(), Reach::System).expect("it opens");
    Scene::of(ledger).await.leases_are_counted_until_they_are_back().await;
}
