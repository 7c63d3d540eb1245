//! Keys are where they must be and nowhere else: canary keys are looked for in all that a broker
//! writes, stores and says, after successes and after errors that echo them.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use keybroker_client::{Broker, Gemini};
use keybroker_proto::v1::{
    AcquireRequest, Constraints, CreateKeyRequest, DisableKeyRequest, DrainKeyRequest, ImportKeysRequest,
    Key, LimitRule, ResetCooldownsRequest, TransportError, lease_report::Outcome, transport_error::Kind,
};
use keybroker_tests::{
    fake_gemini::{FakeGemini, FakeGeminiConfig, Fault, FaultRule, NamedError, fingerprint},
    harness::{
        api::{MODEL, answered, ask, reported},
        broker::BrokerOptions,
        collector::Collector,
        leak::{self, everything_in, everything_in_redis, holds},
        process::{Process, wait_until},
        redis::RedisServer,
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};
use tempfile::TempDir;

/// No part of one is a word that anything else would say; the last four characters may be shown.
const CANARIES: [&str; 3] =
    ["Zq7Wm2Xr9Tb4Yk6Pd1Hs8Nf3-0001", "Lc5Vj0Gx8Qn2Rw7Ku4Ey9Ia6-0002", "Oh3Dz6Bt1Mp8Sf5Xc2Wv7Jg4-0003"];

on_both_ledgers!(a_key_is_in_nothing_that_a_broker_writes_stores_or_says);

async fn a_key_is_in_nothing_that_a_broker_writes_stores_or_says(backing: Backing) {
    let [first, second, third] = CANARIES;
    let config = format!(
        r#"
[[projects]]
id = "project-of-canaries"
keys = [ {{ id = "c1", secret = "{first}" }}, {{ secret = "{second}" }} ]

[[projects]]
id = "project-of-one-more"
limits = [ {{ model = "gemini-scarce", requests_per_minute = 1 }} ]
keys = [ {{ secret = "{third}" }} ]
"#
    );
    let collector = Collector::start().await;
    let folder = TempDir::with_prefix("keybroker-canaries").unwrap();
    let lease_log = folder.path().join("leases.jsonl");
    let options = BrokerOptions::default()
        .arg("--log", "trace")
        .arg("--lease-log", lease_log.display().to_string())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_TRACES_SAMPLER", "always_on");
    let mut rig = Rig::start_with(backing, &config, options).await;
    let mut said = Vec::new();

    // Raw reports first, by a caller that is careless with what it reports.
    for key in CANARIES {
        for (status, body) in [
            (400, format!("plain text with {key} in it")),
            (500, format!(r#"{{"error":{{"code":500,"message":"api_key:{key}","status":"INTERNAL"}}}}"#)),
            (429, format!(r#"{{"error":{{"code":429,"message":"key={key}","status":"{key}"}}}}"#)),
        ] {
            let lease = rig.api.acquire(ask(&format!("gemini-{status}-{}", &key[25..]))).await.unwrap();
            said.push(format!("{:?}", rig.api.report(answered(&lease.lease_id, status, body)).await));
        }
        let lease = rig.api.lease().await;
        let broken = TransportError { kind: Kind::Reset.into(), message: key.to_owned(), usage: None };
        said.push(format!(
            "{:?}",
            rig.api.report(reported(&lease.lease_id, Outcome::TransportError(broken))).await
        ));
    }

    // Refusals of every kind.
    let scarce = || AcquireRequest {
        constraints: Some(Constraints {
            project: "project-of-one-more".to_owned(),
            ..Constraints::default()
        }),
        ..ask("gemini-scarce")
    };
    rig.api.acquire(scarce()).await.unwrap();
    said.push(format!("{:?}", rig.api.acquire(scarce()).await.unwrap_err()));
    let nobody = Constraints {
        exclude_projects: vec!["project-of-canaries".to_owned(), "project-of-one-more".to_owned()],
        ..Constraints::default()
    };
    let nobody = AcquireRequest { constraints: Some(nobody), ..ask(MODEL) };
    said.push(format!("{:?}", rig.api.acquire(nobody).await.unwrap_err()));
    let nowhere = AcquireRequest { pool: "nowhere".to_owned(), ..ask(MODEL) };
    said.push(format!("{:?}", rig.api.acquire(nowhere).await.unwrap_err()));
    said.push(format!("{:?}", rig.api.acquire(ask("")).await.unwrap_err()));

    // The SDK: successes, and Google's errors, one of which echoes the key.
    let google = FakeGeminiConfig::default().with_key(first, "project-of-canaries");
    let google = google.with_key(second, "project-of-canaries").with_key(third, "project-of-one-more");
    let gemini = FakeGemini::start(google).await.unwrap();
    let broker = Broker::connect(rig.broker.url()).unwrap();
    let client = Gemini::builder(&broker).base_url(&gemini.base_url);
    let client = client.lease_wait(Duration::ZERO).max_wait(Duration::ZERO).build().unwrap();
    for _ in 0..6 {
        client.ask(MODEL, "Why?").await.unwrap();
    }
    for (name, key) in
        [(NamedError::Invalid, first), (NamedError::Suspended, second), (NamedError::Suspended, third)]
    {
        gemini.add_fault(FaultRule::always(Fault::Error { name }).on_key(&fingerprint(key)));
    }
    let error = client.ask(MODEL, "Why?").await.unwrap_err();
    said.push(format!("{error} {error:?} {:?}", rig.api.inspect().await));
    let error = client.ask(MODEL, "Why?").await.unwrap_err();
    said.push(format!("{error} {error:?} {client:?} {broker:?}"));
    broker.close().await.unwrap();

    let metrics =
        reqwest::get(format!("http://{}/metrics", rig.broker.http)).await.unwrap().text().await.unwrap();
    // All that HTTP answers: REST with what is refused, the page, and what happened so far.
    let mut answered = String::new();
    for path in [
        "/",
        "/page/main.js",
        "/v1/openapi.json",
        "/v1/pools",
        "/v1/pools/-/keys",
        "/v1/pools/default/keys/c1",
        "/v1/pools/default:inspect",
        "/v1/pools/-/usage",
        "/v1/auditRecords",
        "/api/gemini/status",
        "/api/chat/api-rotation-status",
        &format!("/v1/pools/default/keys/{first}"),
        &format!("/v1/events?kinds={second}"),
        &format!("/v1/pools?{third}={third}"),
        &format!("/api/gemini/status?pool={first}"),
    ] {
        let answer = reqwest::get(format!("http://{}{path}", rig.broker.http)).await.unwrap();
        answered += &format!("{:?}\n", answer.headers());
        answered += &answer.text().await.unwrap();
    }
    let mut events = reqwest::get(format!("http://{}/v1/events?recent=256", rig.broker.http)).await.unwrap();
    while !answered.contains("key_disabled") {
        let piece = tokio::time::timeout(Duration::from_secs(20), events.chunk()).await.unwrap();
        answered += &String::from_utf8_lossy(&piece.unwrap().unwrap());
    }
    assert_silent("HTTP", answered.as_bytes());

    let log = rig.broker.log();
    assert!(log.contains("TRACE") && log.contains("an operator must act"), "the log is as full as it gets");
    assert_silent("the log", log.as_bytes());
    assert_silent("what callers were told", said.join("\n").as_bytes());
    assert_silent("the metrics", metrics.as_bytes());
    let arguments = arguments(rig.broker.process().id());
    assert!(holds(&arguments, "--log"), "the arguments were read");
    assert_silent("the arguments", &arguments);
    let ledger = match &rig.redis {
        Some(redis) => everything_in_redis(redis).unwrap(),
        None => everything_in(&rig.data_dir()).unwrap(),
    };
    assert!(holds(&ledger, "project-of-canaries"), "the ledger was read");
    assert_silent("the ledger", &ledger);
    let spans = || format!("{:?} {:?}", collector.traces(), collector.metrics());
    let began = Instant::now();
    while !spans().contains("project-of-canaries") {
        assert!(began.elapsed() < Duration::from_secs(30), "the collector was told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rig.broker.process().signal("TERM").unwrap();
    while rig.broker.process().is_running() {
        assert!(began.elapsed() < Duration::from_secs(60), "the broker ends");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_silent("traces and metrics by OTLP", spans().as_bytes());
    let leases = fs::read(&lease_log).unwrap();
    assert!(holds(&leases, "project-of-canaries"), "the lease log was written");
    assert_silent("the lease log", &leases);
    assert_silent("the last of the log", rig.broker.log().as_bytes());
}

#[tokio::test]
async fn a_key_that_is_put_where_none_may_be_is_found_by_the_same_search() {
    let canary = CANARIES[1];
    let redis = RedisServer::start().unwrap();
    let mut connection = redis.connect().unwrap();
    let places: [(&str, Vec<&str>); 7] = [
        ("SET", vec!["a", canary]),
        ("SET", vec![canary, "a name"]),
        ("HSET", vec!["b", "field", canary]),
        ("HSET", vec!["c", canary, "value"]),
        ("ZADD", vec!["d", "1", canary]),
        ("XADD", vec!["f", "*", "record", canary]),
        ("SET", vec!["e", &canary[3..15]]),
    ];
    for (command, arguments) in places {
        ::redis::cmd("FLUSHALL").query::<()>(&mut connection).unwrap();
        assert_eq!(leaks(&everything_in_redis(&redis).unwrap()), Vec::<String>::new());
        ::redis::cmd(command).arg(&arguments).query::<::redis::Value>(&mut connection).unwrap();
        assert_eq!(leaks(&everything_in_redis(&redis).unwrap()).len(), 1, "{command} {arguments:?}");
    }

    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("deep")).unwrap();
    fs::write(folder.path().join("deep/ledger.redb"), [b"\0\xff", canary.as_bytes(), b"\0"].concat())
        .unwrap();
    assert_eq!(leaks(&everything_in(folder.path()).unwrap()).len(), 1);

    let mut command = Command::new("sh");
    command.args(["-c", "read line", canary]).stdin(Stdio::piped());
    let process = Process::start("sh", &mut command).unwrap();
    assert!(wait_until(Duration::from_secs(5), || leaks(&arguments(process.id())).len() == 1));
    assert_eq!(leaks(b"nothing but -0001, -0002 and -0003"), Vec::<String>::new());
}

/// What has the form of Google's keys is taken for a key wherever callers choose a text.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_place_of_a_name_or_a_reason_is_refused_and_written_nowhere() {
    let key = format!("AIza{}", "FAKE-key_00".repeat(4).get(..35).unwrap());
    let config = "[[projects]]\nid = \"a\"\nkeys = [ { id = \"a1\", secret = \"fake-key-of-a-0001\" } ]\n";
    let folder = TempDir::with_prefix("keybroker-canaries").unwrap();
    let lease_log = folder.path().join("leases.jsonl");
    let options = BrokerOptions::default()
        .arg("--log", "trace,h2=info,hyper=info,tower=info")
        .arg("--lease-log", lease_log.display().to_string())
        .env("KEYBROKER_MASTER_KEY", "03".repeat(32));
    let rig = Rig::start_with(Backing::Embedded, config, options).await;
    let labels = || std::collections::HashMap::from([("why".to_owned(), format!("since {key} leaked"))]);
    let mut refused = Vec::new();
    let constrained = |change: &dyn Fn(&mut Constraints)| {
        let mut constraints = Constraints::default();
        change(&mut constraints);
        AcquireRequest { constraints: Some(constraints), ..ask(MODEL) }
    };
    for request in [
        AcquireRequest { model: key.clone(), ..AcquireRequest::default() },
        AcquireRequest { consumer: key.clone(), ..ask(MODEL) },
        AcquireRequest { labels: labels(), ..ask(MODEL) },
        constrained(&|constraints| constraints.labels = labels()),
        constrained(&|constraints| constraints.project.clone_from(&key)),
        constrained(&|constraints| constraints.exclude_key_ids.push(key.clone())),
        constrained(&|constraints| constraints.exclude_projects.push(key.clone())),
    ] {
        refused.push(rig.api.acquire(request).await.unwrap_err());
    }
    let mut admin = rig.api.admin();
    let a1 = || "pools/default/keys/a1".to_owned();
    let disable =
        |reason: &str| DisableKeyRequest { name: a1(), etag: String::new(), reason: reason.to_owned() };
    refused.push(admin.disable_key(disable(&format!("{key} leaked"))).await.unwrap_err());
    let mut by_a_key = tonic::Request::new(disable("sick"));
    by_a_key.metadata_mut().insert("x-keybroker-actor", key.parse().unwrap());
    refused.push(admin.disable_key(by_a_key).await.unwrap_err());
    let drain = DrainKeyRequest { name: a1(), reason: key.clone(), ..DrainKeyRequest::default() };
    refused.push(admin.drain_key(drain).await.unwrap_err());
    let reset = ResetCooldownsRequest { name: a1(), quota_model: key.clone() };
    refused.push(admin.reset_cooldowns(reset).await.unwrap_err());
    let new = |key_id: &str, change: &dyn Fn(&mut Key)| {
        let mut key = Key { api_key: "fake-key-that-is-new-0002".to_owned(), ..Key::default() };
        change(&mut key);
        CreateKeyRequest { parent: "pools/default".to_owned(), key_id: key_id.to_owned(), key: Some(key) }
    };
    for request in [
        new(&key, &|_| ()),
        new("b1", &|new| new.project.clone_from(&key)),
        new("b1", &|new| new.labels = labels()),
        new("b1", &|new| new.limits.push(rule_for(&key))),
    ] {
        refused.push(admin.create_key(request).await.unwrap_err());
    }
    for status in refused {
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
        let told = format!("{status:?}{}", String::from_utf8_lossy(status.details()));
        assert!(told.contains("holds the text of an API key") && !told.contains(&key), "{told}");
    }
    let data = format!("api_key,id,labels\nfake-key-that-is-new-0003,b3,note={key}\n").into_bytes();
    let import = ImportKeysRequest { parent: "pools/default".to_owned(), data, ..Default::default() };
    let imported = admin.import_keys(import).await.unwrap().into_inner();
    assert!(imported.lines[0].message.contains("labels holds the text of an API key"), "{imported:?}");
    // What a worker reports of Google's answer may name anything as the quota.
    let lease = rig.api.lease().await;
    let named = [format!("PerDay{key}"), "GenerateRequestsPerDay".to_owned()];
    let violations = named.map(|id| format!(r#"{{"quotaId":"{id}","quotaDimensions":{{"model":"{key}"}}}}"#));
    let body = format!(
        r#"{{"error":{{"code":429,"status":"RESOURCE_EXHAUSTED","message":"","details":[{{"violations":[{}]}}]}}}}"#,
        violations.join(",")
    );
    rig.api.report(answered(&lease.lease_id, 429, body)).await.unwrap();
    let url = format!("http://{}/metrics", rig.broker.http);
    let metrics = reqwest::get(url).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("GenerateRequestsPerDay"), "{metrics}");
    for said in [
        metrics,
        format!("{:?}", rig.api.inspect().await),
        rig.broker.log(),
        fs::read_to_string(lease_log).unwrap(),
    ] {
        assert!(!said.contains(&key), "{said}");
    }
}

fn rule_for(model: &str) -> LimitRule {
    LimitRule { model: model.to_owned(), limits: [("requests_per_day".to_owned(), 5)].into() }
}

fn assert_silent(place: &str, bytes: &[u8]) {
    let leaks = leaks(bytes);
    assert!(leaks.is_empty(), "{place} shows keys: {leaks:#?}");
}

fn leaks(bytes: &[u8]) -> Vec<String> {
    leak::leaks(&CANARIES, bytes)
}

fn arguments(process: u32) -> Vec<u8> {
    fs::read(format!("/proc/{process}/cmdline")).unwrap()
}
