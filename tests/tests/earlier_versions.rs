//! What a released version left behind is read by this one: counts of the minute and the day, a lease that was out, usage,
//! keys of run time, marks, the record of changes. `tests/corpus/state` has a folder for each version, written by
//! `KEEP_STATE=1 cargo test --test black_box earlier_versions` when that version is released; clocks of processes are set
//! back to the day on which it was written.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use keybroker_proto::v1::{
    CreateKeyRequest, DisableKeyRequest, Key, KeyState, ListAuditRecordsRequest, ListKeysRequest,
    QueryUsageRequest, SettleState,
};
use keybroker_tests::{
    chaos::clock::Clock,
    harness::{
        api::{Api, MODEL, ask, not_sent, succeeded},
        broker::{BrokerOptions, BrokerProcess},
        redis::RedisServer,
    },
};
use tempfile::TempDir;

const CONFIG: &str = r#"
[[pools]]
name = "default"
lease_ttl = "10m"

[[projects]]
id = "alpha"
limits = [ { model = "*", requests_per_minute = 100, requests_per_day = 1000, in_flight = 10 } ]
keys = [ { id = "a1", secret = "test-key-of-a-version-a1" }, { id = "a2", secret = "test-key-of-a-version-a2" } ]
"#;
/// 32 bytes, plainly chosen.
const MASTER: &str = "0202020202020202020202020202020202020202020202020202020202020202";
const REPORTED: usize = 5;
const USED: i64 = 10;
const EMBEDDED: [&str; 2] = ["ledger.redb", "registry.redb"];
const GRACE: Duration = Duration::from_secs(30);

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/state")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_version_left_is_read_on_both_ledgers() {
    if std::env::var_os("KEEP_STATE").is_some() {
        keep(&corpus().join(env!("CARGO_PKG_VERSION"))).await;
    }
    let mut versions: Vec<_> = fs::read_dir(corpus())
        .expect("there are some")
        .map(|entry| entry.expect("it is read").path())
        .collect();
    versions.sort();
    assert!(!versions.is_empty());
    for version in versions {
        let stage = Stage::back_then(&version);
        expect_all_of_it(stage.embedded(&version), &version).await;
        let (redis, options) = stage.redis(&version);
        expect_all_of_it(options, &version).await;
        drop(redis);
    }
}

/// A folder, and a clock that shows when a version wrote its state.
struct Stage {
    folder: TempDir,
    clock: Option<Clock>,
}

impl Stage {
    fn now() -> Self {
        let stage =
            Self { folder: TempDir::with_prefix("keybroker-version").expect("a folder"), clock: None };
        fs::write(stage.folder.path().join("keybroker.toml"), CONFIG).expect("it is written");
        stage
    }

    fn back_then(version: &Path) -> Self {
        let mut stage = Self::now();
        let written = fs::read_to_string(version.join("written_at_unix_ms")).expect("it says when");
        let written: i64 = written.trim().parse().expect("a number");
        let clock = Clock::new(&stage.folder.path().join("clock")).expect("libfaketime is installed");
        clock.set(written + 1_000 - unix_ms()).expect("it is set");
        stage.clock = Some(clock);
        stage
    }

    fn options(&self) -> BrokerOptions {
        let config = self.folder.path().join("keybroker.toml").display().to_string();
        let mut options =
            BrokerOptions::default().arg("--config", config).env("KEYBROKER_MASTER_KEY", MASTER);
        for (name, value) in self.clock.iter().flat_map(Clock::variables) {
            options = options.env(name, value);
        }
        options
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn embedded(&self, version: &Path) -> BrokerOptions {
        fs::create_dir_all(self.data()).expect("a folder");
        for file in EMBEDDED {
            unpack(&version.join(format!("{file}.gz")), &self.data().join(file));
        }
        self.options().arg("--data-dir", self.data().display().to_string())
    }

    fn redis(&self, version: &Path) -> (RedisServer, BrokerOptions) {
        let mut redis = RedisServer::start().expect("redis-server starts");
        redis.kill();
        unpack(&version.join("dump.rdb.gz"), &redis.folder().join("dump.rdb"));
        redis.set_env(self.clock.iter().flat_map(Clock::variables));
        redis.start_again().expect("it starts with what was there");
        let options = self.options().arg("--redis-url", redis.url());
        (redis, options)
    }
}

/// All that a version is asked to leave behind.
async fn leave(options: BrokerOptions) {
    let mut broker = BrokerProcess::start(&options).expect("it serves");
    let api = Api::connect(broker.url()).await;
    let mut admin = api.admin();
    let key =
        Key { api_key: "test-key-of-a-version-r1".to_owned(), project: "beta".to_owned(), ..Key::default() };
    let create =
        CreateKeyRequest { parent: "pools/default".to_owned(), key_id: "r1".to_owned(), key: Some(key) };
    admin.create_key(create).await.expect("it is created");
    for id in ["a2", "r1"] {
        let name = format!("pools/default/keys/{id}");
        let disable = DisableKeyRequest { name, etag: String::new(), reason: "kept".to_owned() };
        admin.disable_key(disable).await.expect("it is disabled");
    }
    let request = || keybroker_proto::v1::AcquireRequest {
        consumer: "night".to_owned(),
        wait: Some(keybroker_tests::harness::api::wire(GRACE)),
        ..ask(MODEL)
    };
    for _ in 0..REPORTED {
        let lease = api.acquire(request()).await.expect("a lease");
        api.report(succeeded(&lease.lease_id, USED)).await.expect("it is taken");
    }
    let unused = api.acquire(request()).await.expect("a lease");
    api.report(not_sent(&unused.lease_id)).await.expect("it is taken");
    let held = api.acquire(request()).await.expect("a lease");
    fs::write(lease_file(&options), held.lease_id).expect("it is written");
    broker.process().signal("TERM").expect("it is told");
    let ended = broker.process().wait(GRACE).expect("it ends");
    assert!(ended.success());
}

/// Beside the configuration.
fn lease_file(options: &BrokerOptions) -> PathBuf {
    let config = options.args.iter().position(|argument| argument == "--config").expect("it has one");
    Path::new(&options.args[config + 1]).with_file_name("held")
}

async fn keep(version: &Path) {
    fs::create_dir_all(version).expect("a folder");
    let stage = Stage::now();
    let options = stage.options().arg("--drain-grace", "2");
    leave(options.clone().arg("--data-dir", stage.data().display().to_string())).await;
    for file in EMBEDDED {
        pack(&stage.data().join(file), &version.join(format!("{file}.gz")));
    }
    fs::copy(lease_file(&options), version.join("held_embedded")).expect("it is copied");
    let redis = RedisServer::start().expect("redis-server starts");
    leave(options.clone().arg("--redis-url", redis.url())).await;
    fs::copy(lease_file(&options), version.join("held_redis")).expect("it is copied");
    redis::cmd("SAVE").exec(&mut redis.connect().expect("it answers")).expect("it saves");
    pack(&redis.folder().join("dump.rdb"), &version.join("dump.rdb.gz"));
    fs::write(version.join("written_at_unix_ms"), format!("{}\n", unix_ms())).expect("it is written");
}

async fn expect_all_of_it(options: BrokerOptions, version: &Path) {
    let ledger =
        if options.args.iter().any(|argument| argument == "--redis-url") { "redis" } else { "embedded" };
    let broker = BrokerProcess::start(&options).expect("it serves");
    let api = Api::connect(broker.url()).await;
    let of = format!("{ledger} of {}", version.display());

    let mut admin = api.admin();
    let list = ListKeysRequest { parent: "pools/-".to_owned(), page_size: 100, page_token: String::new() };
    let keys = admin.list_keys(list).await.expect("they are listed").into_inner().keys;
    let states: Vec<_> = keys
        .iter()
        .map(|key| (key.name.as_str(), key.state(), key.state_reason.as_str(), key.problem.as_str()))
        .collect();
    let expected = [
        ("pools/default/keys/a1", KeyState::Active, "", ""),
        ("pools/default/keys/a2", KeyState::Disabled, "kept", ""),
        ("pools/default/keys/r1", KeyState::Disabled, "kept", ""),
    ];
    assert_eq!(states, expected, "{of}");
    let records = ListAuditRecordsRequest { page_size: 100, page_token: String::new() };
    let records = admin.list_audit_records(records).await.expect("they are listed").into_inner().records;
    assert_eq!(records.len(), 3, "{of}");

    // All that was leased counts on, but for what was given back. A model is shown once somebody asked for it.
    // A Redis that was another process is blessed first, which takes seconds.
    let began = std::time::Instant::now();
    let again = loop {
        match api.acquire(ask(MODEL)).await {
            Ok(lease) => break lease,
            Err(status) => assert!(began.elapsed() < GRACE, "{of}: {status}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    api.report(not_sent(&again.lease_id)).await.expect("it is taken");
    let counted = i64::try_from(REPORTED).expect("few") + 1;
    for limit in ["requests per minute", "requests per Pacific day"] {
        assert_eq!(api.used("alpha", limit).await, counted, "{limit}, {of}");
    }
    assert_eq!(api.used("alpha", "requests in flight").await, 1, "{of}");
    let held = fs::read_to_string(version.join(format!("held_{ledger}"))).expect("its id was kept");
    let result = api.report(succeeded(&held, USED)).await.expect("it is taken");
    assert_eq!(result.state(), SettleState::Settled, "{of}");
    assert_eq!(api.used("alpha", "requests in flight").await, 0, "{of}");
    let usage = QueryUsageRequest { parent: "pools/-".to_owned(), ..QueryUsageRequest::default() };
    let rows = admin.query_usage(usage).await.expect("it is told").into_inner().rows;
    let input: i64 = rows.iter().filter(|row| row.consumer == "night").map(|row| row.input_tokens).sum();
    assert_eq!(input, USED * counted, "{of}: {rows:?}");

    // A key that was sealed then is opened now, and leased.
    let name = "pools/default/keys/r1".to_owned();
    let enable = keybroker_proto::v1::EnableKeyRequest { name, etag: String::new() };
    admin.enable_key(enable).await.expect("it is enabled");
    let patient = keybroker_proto::v1::AcquireRequest {
        constraints: Some(keybroker_proto::v1::Constraints {
            project: "beta".to_owned(),
            ..keybroker_proto::v1::Constraints::default()
        }),
        wait: Some(keybroker_tests::harness::api::wire(GRACE)),
        ..ask(MODEL)
    };
    let leased = keybroker_tests::harness::rig::eventually(async || {
        api.acquire(patient.clone()).await.is_ok_and(|lease| lease.api_key == "test-key-of-a-version-r1")
    });
    assert!(leased.await, "{of}: {}", broker.log());
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("it fits")
}

fn pack(from: &Path, to: &Path) {
    let mut packed = GzEncoder::new(fs::File::create(to).expect("it is made"), Compression::best());
    packed.write_all(&fs::read(from).expect("it is read")).expect("it is written");
    packed.finish().expect("it is written");
}

fn unpack(from: &Path, to: &Path) {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(from).expect("it is there")).read_to_end(&mut bytes).expect("it is whole");
    fs::write(to, bytes).expect("it is written");
}
