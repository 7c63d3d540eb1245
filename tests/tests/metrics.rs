//! Metrics of a real broker, as Prometheus scrapes them and as a collector receives them.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{collections::BTreeSet, fs, time::Duration};

use keybroker_client::{AcquireOptions, Broker, ExposeSecret, Outcome, Usage};
use keybroker_tests::harness::{
    broker::{BrokerOptions, BrokerProcess},
    collector::Collector,
    process::wait_until,
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use tempfile::TempDir;

const MODEL: &str = "gemini-2.5-flash";
const KEY: &str = "fake-key-with-a-canary-in-it";
const QUOTA: &str = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota. fake-key-with-a-canary-in-it",
"details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{
"quotaMetric":"generativelanguage.googleapis.com/generate_content_free_tier_requests",
"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaValue":"5",
"quotaDimensions":{"model":"gemini-2.5-flash","location":"global"}}]}]}}"#;

struct Setting {
    broker: BrokerProcess,
    _folder: TempDir,
}

impl Setting {
    fn start(more: &str, change: impl FnOnce(BrokerOptions) -> BrokerOptions) -> Self {
        let folder = TempDir::with_prefix("keybroker-metrics").unwrap();
        let file = folder.path().join("keybroker.toml");
        let text = format!(
            "[[projects]]\nid = \"project-a\"\nlimits = [{{ requests_per_minute = 3 }}]\n\
             keys = [{{ id = \"a1\", secret = \"{KEY}\" }}]\n{more}"
        );
        fs::write(&file, text).unwrap();
        let options = BrokerOptions::default()
            .arg("--config", file.display().to_string())
            .arg("--data-dir", folder.path().join("data").display().to_string());
        Self { broker: BrokerProcess::start(&change(options)).unwrap(), _folder: folder }
    }

    async fn scrape(&self) -> String {
        let url = format!("http://{}/metrics", self.broker.http);
        reqwest::get(url).await.unwrap().error_for_status().unwrap().text().await.unwrap()
    }

    /// What is shown once the ledger is in that state, and in no other.
    async fn comes_to(&self, state: &str) -> String {
        let in_it = format!(r#"keybroker_ledger_state{{pool="default",state="{state}"}} 1"#);
        for _ in 0..300 {
            let text = self.scrape().await;
            if text.lines().any(|line| line == in_it) {
                let ones = |line: &&str| line.starts_with("keybroker_ledger_state{") && line.ends_with(" 1");
                assert_eq!(text.lines().filter(ones).count(), 1, "{text}");
                return text;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never {state}: {}", self.scrape().await);
    }
}

/// Two leases that are served and one whose request is refused, and one acquire that is refused here.
async fn work(url: String) {
    let broker = Broker::connect(url).unwrap();
    for used in [40, 60] {
        let mut lease = broker.acquire(AcquireOptions::new(MODEL).input_tokens(100)).await.unwrap();
        assert_eq!(lease.begin_send().unwrap().expose_secret(), KEY);
        lease.success(Usage { input_tokens: Some(used), ..Usage::default() }).await.unwrap();
    }
    let mut lease = broker.acquire(AcquireOptions::new(MODEL).input_tokens(100)).await.unwrap();
    lease.begin_send().unwrap();
    lease.report(Outcome::HttpError { status: 429, body: QUOTA.into(), retry_after: None }).await.unwrap();
    broker.acquire(AcquireOptions::new(MODEL)).await.unwrap_err();
    broker.close().await.unwrap();
}

/// The value of a sample, by the beginning of its line.
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(sample));
    let line = line.unwrap_or_else(|| panic!("no {sample} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_counted_and_how_things_stand_is_shown() {
    let setting = Setting::start("", |options| options);
    work(setting.broker.url()).await;
    let text = setting.scrape().await;
    for (sample, expected) in [
        (
            r#"keybroker_leases_granted_total{model="gemini-2.5-flash",pool="default",project="project-a"}"#,
            3.0,
        ),
        (
            r#"keybroker_leases_settled_total{model="gemini-2.5-flash",outcome="ok",pool="default",project="project-a"}"#,
            2.0,
        ),
        (
            r#"keybroker_leases_refused_total{model="gemini-2.5-flash",pool="default",reason="quota_exhausted"}"#,
            1.0,
        ),
        (r#"gemini_requests_total{pool="default",status="200"}"#, 2.0),
        (r#"gemini_requests_total{pool="default",status="429"}"#, 1.0),
        (
            r#"gemini_quota_exceeded_total{pool="default",quota_id="GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}"#,
            1.0,
        ),
        (r#"keybroker_tokens_total{kind="reserved",model="gemini-2.5-flash",pool="default"}"#, 300.0),
        (r#"keybroker_tokens_total{kind="used",model="gemini-2.5-flash",pool="default"}"#, 100.0),
        (r#"keybroker_acquire_duration_seconds_count{outcome="granted",pool="default"}"#, 3.0),
        (r#"keybroker_acquire_duration_seconds_count{outcome="refused",pool="default"}"#, 1.0),
        ("keybroker_ready", 1.0),
        (r#"keybroker_ledger_state{pool="default",state="open"}"#, 1.0),
        (r#"keybroker_ledger_state{pool="default",state="unreachable"}"#, 0.0),
        (r#"gemini_keys{pool="default"}"#, 1.0),
        (r#"gemini_available_keys{pool="default"}"#, 0.0),
        (r#"keybroker_waiting{pool="default"}"#, 0.0),
        (r#"keybroker_cooldowns{pool="default"}"#, 1.0),
        (r#"keybroker_limit_worst{pool="default"}"#, 1.0),
    ] {
        assert!((value(&text, sample) - expected).abs() < 1e-9, "{sample}: {}", value(&text, sample));
    }
    assert!(value(&text, "keybroker_ledger_call_duration_seconds_count{outcome=\"ok\"") >= 4.0);
    assert!(value(&text, "keybroker_ledger_batch_size_sum") >= 7.0);
    let limit = text
        .lines()
        .find(|line| line.starts_with("keybroker_limit_used") && line.contains("requests per minute"));
    assert!(limit.unwrap().ends_with(" 3"), "{text}");
    assert!(!text.contains("canary"), "{text}");

    // What is shown is what the documentation names, and nothing else.
    let shown: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| *name != "target_info")
        .collect();
    let document = include_str!("../../docs/metrics.md");
    let told: BTreeSet<&str> =
        document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(shown, told);
}

#[tokio::test]
async fn metrics_are_shown_to_viewers_alone_and_probes_to_anybody() {
    let digest = |token: &str| keybroker::access::TokenDigest::of(token);
    let setting = Setting::start(
        &format!(
            "[[identities]]\nname = \"prometheus\"\nroles = [\"viewer\"]\ntoken_sha256 = [\"{}\"]\n\
             [[identities]]\nname = \"worker\"\nroles = [\"worker\"]\ntoken_sha256 = [\"{}\"]\n",
            digest("fake-token-p"),
            digest("fake-token-w")
        ),
        |options| options,
    );
    let get = async |path: &str, token: Option<&str>| {
        let request = reqwest::Client::new().get(format!("http://{}{path}", setting.broker.http));
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/metrics", Some("fake-token-p")).await.0, 200);
    let (status, text) = get("/metrics", None).await;
    assert!(status == 401 && text.contains("\"status\":\"UNAUTHENTICATED\""), "{text}");
    let (status, text) = get("/metrics", Some("fake-token-w")).await;
    assert!(status == 403 && text.contains("role viewer"), "{text}");
    assert_eq!(get("/readyz", None).await, (200, "ready\n".to_owned()));
}

#[tokio::test]
async fn without_identities_metrics_are_not_shown_by_a_name_that_somebody_pointed_at_the_broker() {
    let setting = Setting::start("", |options| options);
    for (host, status) in [
        ("elsewhere.example:8080", 403),
        ("", 403),
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        // As containers call each other.
        ("broker-1:8080", 200),
    ] {
        let url = format!("http://{}/metrics", setting.broker.http);
        let answer = reqwest::Client::new().get(url).header("host", host).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{host}");
    }
}

#[tokio::test]
async fn a_ledger_that_is_away_or_recovers_is_shown_as_that() {
    let mut redis = keybroker_tests::harness::redis::RedisServer::start().unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("keybroker.toml");
    fs::write(&file, format!("[[projects]]\nid = \"project-a\"\nkeys = [{{ secret = \"{KEY}\" }}]\n"))
        .unwrap();
    let options = BrokerOptions::default()
        .arg("--config", file.display().to_string())
        .env("KEYBROKER_REDIS_URL", redis.url());
    let setting = Setting { broker: BrokerProcess::start(&options).unwrap(), _folder: folder };
    let text = setting.scrape().await;
    assert!((value(&text, "keybroker_ready") - 1.0).abs() < 1e-9);
    setting.comes_to("open").await;
    redis.kill();
    let text = setting.comes_to("unreachable").await;
    assert!(value(&text, "keybroker_ready").abs() < 1e-9);
    assert!(!text.contains("gemini_keys{"), "what is not known is not shown: {text}");
    redis.start_again().unwrap();
    setting.comes_to("recovering").await;
    let text = setting.comes_to("open").await;
    assert!((value(&text, "keybroker_ready") - 1.0).abs() < 1e-9);
}

/// The sum of a counter's points, the last time a collector was told.
fn counted(collector: &Collector, name: &str) -> Option<i64> {
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
    let told = collector.metrics();
    let metrics =
        told.last()?.resource_metrics.iter().flat_map(|of| &of.scope_metrics).flat_map(|of| &of.metrics);
    let data = metrics.into_iter().find(|metric| metric.name == name)?.data.as_ref()?;
    let points = match data {
        Data::Sum(sum) => &sum.data_points,
        Data::Gauge(gauge) => &gauge.data_points,
        _ => return None,
    };
    let number = |value: &Option<Value>| match value {
        Some(Value::AsInt(number)) => *number,
        _ => 0,
    };
    Some(points.iter().map(|point| number(&point.value)).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_is_told_at_intervals_and_at_the_end() {
    let collector = Collector::start().await;
    let mut setting = Setting::start("", |options| {
        options
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
            .env("OTEL_METRIC_EXPORT_INTERVAL", "200")
            .env("OTEL_SERVICE_NAME", "broker-of-a-test")
    });
    work(setting.broker.url()).await;
    let told = || {
        counted(&collector, "keybroker.leases.granted") == Some(3)
            && counted(&collector, "gemini.keys") == Some(1)
    };
    assert!(tokio::task::block_in_place(|| wait_until(Duration::from_secs(15), told)));
    let text = format!("{:?}", collector.metrics());
    assert!(text.contains("broker-of-a-test") && text.contains("service.instance.id"), "{text}");
    assert!(!text.contains("canary"), "{text}");
    let before = collector.metrics().len();
    let id = setting.broker.process().id();
    std::process::Command::new("kill").arg(id.to_string()).status().unwrap();
    let ended = setting.broker.process().wait(Duration::from_secs(10)).unwrap();
    assert!(ended.success());
    assert!(collector.metrics().len() > before, "the last is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_counted_where_opentelemetry_is_disabled() {
    let collector = Collector::start().await;
    let mut setting = Setting::start("", |options| {
        options.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()).env("OTEL_SDK_DISABLED", "true")
    });
    work(setting.broker.url()).await;
    let text = setting.scrape().await;
    assert!(!text.contains("keybroker_") && !text.contains("gemini_"), "{text}");
    let id = setting.broker.process().id();
    std::process::Command::new("kill").arg(id.to_string()).status().unwrap();
    assert!(setting.broker.process().wait(Duration::from_secs(10)).unwrap().success());
    assert!(collector.metrics().is_empty() && collector.traces().is_empty());
}

#[test]
fn a_collector_that_cannot_be_meant_is_named() {
    let folder = TempDir::new().unwrap();
    let options = BrokerOptions::default()
        .arg("--data-dir", folder.path().display().to_string())
        .env("GEMINI_API_KEYS", KEY)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url");
    let (code, text) = BrokerProcess::run_to_end(&options, Duration::from_secs(20)).unwrap();
    assert!(code == Some(2) && text.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{text}");
}
