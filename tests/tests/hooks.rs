//! Hooks of real brokers: four of them on one Redis, told of Google's answers by their workers.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, routing::post};
use keybroker_proto::v1::AcquireRequest;
use keybroker_tests::{
    fake_gemini::{FakeGemini, FakeGeminiConfig, KeyChange, NamedError, bodies::suspended, fingerprint},
    harness::{
        api::{Api, MODEL, answered, ask},
        broker::BrokerProcess,
        rig::{Backing, Rig, eventually},
    },
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

/// A minute's quota is spent, says Google.
const RATE_LIMIT: &str = r#"{"error":{"code":429,"message":"You exceeded your current quota.","status":"RESOURCE_EXHAUSTED",
    "details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{
    "quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaValue":"15"}]},
    {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}"#;
const PROJECTS: usize = 8;

#[tokio::test]
async fn a_rate_limit_on_labelled_requests_calls_the_relogin_endpoint_once_across_four_brokers() {
    let endpoint = Endpoint::start().await;
    let hook = format!(
        "[[hooks]]\nname = \"relogin\"\nevents = [\"cooldown_begun\"]\nlabels = {{ integration = \"zalo\" }}\nurl = \"{}\"\n",
        endpoint.url
    );
    let fleet = Fleet::start(&hook).await;
    // Every broker is told of two projects that are spent, at the same time.
    let storm = fleet.apis().flat_map(|api| [api.clone(), api.clone()]);
    futures_util::future::join_all(
        storm.map(|api| async move { hit_a_limit(&api, &[("integration", "zalo")]).await }),
    )
    .await;

    assert!(eventually(async || !endpoint.told().is_empty()).await, "the endpoint is called");
    // Time enough for any other call, which would come at once.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let told = endpoint.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["kind"], &told[0]["reason"]), (&"cooldown_begun".into(), &"minute_quota".into()));
    assert_eq!(told[0]["labels"]["integration"], "zalo");
    assert!(!told[0].to_string().contains("test-key-hooks"), "no key is told");
    for broker in fleet.brokers() {
        assert!(!broker.log().contains(&endpoint.url), "the URL of a hook may be a secret");
    }
}

#[tokio::test]
async fn a_rate_limit_on_other_requests_calls_nobody_until_one_with_the_label_runs_into_it() {
    let endpoint = Endpoint::start().await;
    let hook = format!(
        "[[hooks]]\nname = \"relogin\"\nevents = [\"cooldown_begun\"]\nlabels = {{ integration = \"zalo\" }}\nurl = \"{}\"\n",
        endpoint.url
    );
    let fleet = Fleet::start(&hook).await;
    let api = fleet.apis().next().unwrap();
    hit_a_limit(api, &[]).await;
    hit_a_limit(api, &[("integration", "other")]).await;
    assert!(eventually(async || fleet.rig.broker.log().matches("cools down").count() >= 2).await);
    assert_eq!(endpoint.told(), [] as [Value; 0]);
    hit_a_limit(api, &[("integration", "zalo")]).await;
    assert!(eventually(async || endpoint.told().len() == 1).await);
}

#[tokio::test]
async fn a_local_program_is_told_that_a_pool_is_exhausted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("told");
    let script = format!("cat > {0}.new && mv {0}.new {0}", file.display());
    let hook = format!(
        "[[hooks]]\nname = \"pager\"\nevents = [\"pool_exhausted\"]\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n"
    );
    let rig = Rig::start(Backing::Embedded, &(config(1) + &hook)).await;
    hit_a_limit(&rig.api, &[]).await;
    rig.api.acquire(ask(MODEL)).await.unwrap_err();
    assert!(eventually(async || file.exists()).await, "{}", rig.broker.log());
    let told: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(
        (&told["kind"], &told["keys_able"], &told["keys"]),
        (&"pool_exhausted".into(), &0.into(), &1.into())
    );
}

// The client hangs up while this test waits for the broker's end.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_stopped_tells_its_hooks_first_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("told");
    let hook = format!(
        "[[hooks]]\nname = \"slow\"\nevents = [\"cooldown_begun\"]\ncommand = [\"/bin/sh\", \"-c\", \"sleep 2; cat > {}\"]\n",
        file.display()
    );
    let mut rig = Rig::start(Backing::Embedded, &(config(1) + &hook)).await;
    hit_a_limit(&rig.api, &[]).await;
    rig.logs("cools down").await;
    let broker = rig.broker.process();
    broker.signal("TERM").unwrap();
    let status = broker.wait(Duration::from_secs(30)).unwrap();
    assert!(status.success(), "{status}");
    let told: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(told["kind"], "cooldown_begun");
}

#[tokio::test]
async fn a_suspended_key_comes_back_by_itself_and_both_are_told() {
    let (endpoint, key) = (Endpoint::start().await, "test-key-hooks-0000");
    let google = FakeGemini::start(FakeGeminiConfig::default().with_key(key, "p0")).await.unwrap();
    let change = |disabled_as| KeyChange { key: key.to_owned(), project: None, disabled_as };
    google.control().change_key(&change(Some(NamedError::Suspended))).await.unwrap();
    let settings = format!(
        "[[hooks]]\nname = \"all\"\nevents = [\"key_disabled\", \"key_recovered\"]\nurl = \"{}\"\n\n\
         [probing]\nbase_url = \"{}\"\nfirst = \"10s\"\n",
        endpoint.url, google.base_url
    );
    let rig = Rig::start(Backing::Embedded, &(config(1) + &settings)).await;
    let lease = rig.api.lease().await;
    let body = suspended(key).text;
    rig.api.report(answered(&lease.lease_id, 403, body)).await.unwrap();
    assert!(eventually(async || endpoint.told().len() == 1).await);
    rig.api.acquire(ask(MODEL)).await.unwrap_err();

    google.control().change_key(&change(None)).await.unwrap();
    // The first check is after ten seconds or so, which is as long as `eventually` waits; a busy machine takes longer.
    let back = async || endpoint.told().len() == 2;
    let within_40_seconds = eventually(back).await || eventually(back).await || eventually(back).await;
    assert!(within_40_seconds || eventually(back).await, "{}", rig.broker.log());
    let told = endpoint.told();
    assert_eq!([&told[0]["kind"], &told[1]["kind"]], ["key_disabled", "key_recovered"]);
    assert!(told.iter().all(|event| event["key_id"] == "k0"), "{told:?}");
    rig.api.lease().await;
    let verdict = google.verdict();
    assert_eq!(verdict.keys[&fingerprint(key)].keys().collect::<Vec<_>>(), ["countTokens"]);
}

/// Leases a key and reports that Google refused for a spent minute.
async fn hit_a_limit(api: &Api, labels: &[(&str, &str)]) {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let lease = api.acquire(AcquireRequest { labels, ..ask(MODEL) }).await.unwrap();
    api.report(answered(&lease.lease_id, 429, RATE_LIMIT)).await.unwrap();
}

fn config(projects: usize) -> String {
    let project = |n: usize| {
        format!(
            "[[projects]]\nid = \"p{n}\"\nkeys = [ {{ id = \"k{n}\", secret = \"test-key-hooks-{n:04}\" }} ]\n\n"
        )
    };
    (0..projects).map(project).collect()
}

struct Fleet {
    rig: Rig,
    others: Vec<(BrokerProcess, Api)>,
}

impl Fleet {
    async fn start(hooks: &str) -> Self {
        let config = config(PROJECTS) + hooks;
        let rig = Rig::start(Backing::Redis, &config).await;
        let mut others = Vec::new();
        for n in 1..4 {
            others.push(rig.beside(&format!("broker-{n}.toml"), &config).await);
        }
        Self { rig, others }
    }

    fn apis(&self) -> impl Iterator<Item = &Api> {
        std::iter::once(&self.rig.api).chain(self.others.iter().map(|(_, api)| api))
    }

    fn brokers(&self) -> impl Iterator<Item = &BrokerProcess> {
        std::iter::once(&self.rig.broker).chain(self.others.iter().map(|(broker, _)| broker))
    }
}

/// What a hook calls.
struct Endpoint {
    url: String,
    told: Arc<Mutex<Vec<Value>>>,
    server: JoinHandle<()>,
}

impl Endpoint {
    async fn start() -> Self {
        let told: Arc<Mutex<Vec<Value>>> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/relogin", listener.local_addr().unwrap());
        let take = {
            let told = told.clone();
            async move |Json(event): Json<Value>| told.lock().unwrap().push(event)
        };
        let router = Router::new().route("/relogin", post(take));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, told, server }
    }

    fn told(&self) -> Vec<Value> {
        self.told.lock().unwrap().clone()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}
