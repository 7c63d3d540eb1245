//! The service `keybroker.v1.Admin` as JSON over HTTP, and its OpenAPI document, from outside.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    time::Duration,
};

use keybroker_client::{AcquireOptions, Broker, Outcome};
use keybroker_proto::FILE_DESCRIPTOR_SET;
use keybroker_tests::{
    fake_gemini::{bodies::quota_429, quota_id::Violation},
    harness::broker::{BrokerOptions, BrokerProcess},
};
use prost_reflect::DescriptorPool;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

const KEY: &str = "fake-key-of-project-a";

struct Setting {
    broker: BrokerProcess,
    client: Client,
    _folder: TempDir,
}

impl Setting {
    fn start(access: &str) -> Self {
        let folder = TempDir::with_prefix("keybroker-rest").unwrap();
        let file = folder.path().join("keybroker.toml");
        let text = format!(
            "[[pools]]\nname = \"default\"\n[[pools]]\nname = \"batch\"\n[[projects]]\nid = \"project-a\"\n\
             keys = [{{ id = \"a1\", secret = \"{KEY}\" }}]\n{access}"
        );
        fs::write(&file, text).unwrap();
        let options = BrokerOptions::default()
            .arg("--config", file.display().to_string())
            .arg("--data-dir", folder.path().join("data").display().to_string())
            .env("KEYBROKER_MASTER_KEY", "07".repeat(32));
        let client = Client::builder().no_proxy().build().unwrap();
        Self { broker: BrokerProcess::start(&options).unwrap(), client, _folder: folder }
    }

    fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.client.request(method, format!("http://{}{path}", self.broker.http))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.ask("GET", path)).await
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        answer(self.ask(method, path).json(body)).await
    }
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")))
}

/// The reason that an error gives, as the contract names it.
fn reason(error: &Value) -> &str {
    let details = error["error"]["details"].as_array().unwrap();
    details.iter().find_map(|detail| detail["reason"].as_str()).unwrap()
}

#[tokio::test]
async fn a_key_is_created_changed_disabled_and_deleted() {
    let it = Setting::start("");
    let (status, key) = it
        .send("POST", "/v1/pools/batch/keys?keyId=b1", &json!({ "apiKey": "fake-key-number-two", "project": "project-b", "labels": { "owner": "data" } }))
        .await;
    assert_eq!((status, key["name"].as_str()), (200, Some("pools/batch/keys/b1")), "{key}");
    assert_eq!(
        (key["state"].as_str(), key["labels"]["owner"].as_str()),
        (Some("KEY_STATE_ACTIVE"), Some("data"))
    );
    assert!(!key.to_string().contains("fake-key"), "{key}");

    let changed =
        it.send("PATCH", "/v1/pools/batch/keys/b1?updateMask=weight", &json!({ "weight": 7 })).await;
    assert_eq!((changed.0, changed.1["weight"].as_i64()), (200, Some(7)), "{}", changed.1);
    let old = key["etag"].as_str().unwrap();
    let path = format!("/v1/pools/batch/keys/b1?etag={old}");
    let (status, error) = answer(it.ask("DELETE", &path)).await;
    assert_eq!(
        (status, error["error"]["status"].as_str(), reason(&error)),
        (409, Some("ABORTED"), "ETAG_MISMATCH")
    );

    let (status, key) =
        it.send("POST", "/v1/pools/batch/keys/b1:disable", &json!({ "reason": "leaked" })).await;
    assert_eq!((status, key["stateReason"].as_str()), (200, Some("leaked")), "{key}");
    let (status, keys) = it.get("/v1/pools/-/keys?pageSize=1").await;
    assert_eq!((status, keys["keys"].as_array().unwrap().len()), (200, 1));
    let next = keys["nextPageToken"].as_str().unwrap();
    let (_, keys) = it.get(&format!("/v1/pools/-/keys?pageSize=1&pageToken={next}")).await;
    assert_eq!(keys["keys"][0]["name"], "pools/default/keys/a1");

    assert_eq!(answer(it.ask("DELETE", "/v1/pools/batch/keys/b1")).await, (200, json!({})));
    let (status, error) = it.get("/v1/pools/batch/keys/b1").await;
    assert_eq!((status, reason(&error)), (404, "UNKNOWN_KEY"));
    let (_, records) = it.get("/v1/auditRecords").await;
    let actions: Vec<&str> =
        records["records"].as_array().unwrap().iter().map(|one| one["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["DeleteKey", "DisableKey", "UpdateKey", "CreateKey"]);
}

#[tokio::test]
async fn the_rest_of_the_service_is_there() {
    let it = Setting::start("");
    let (status, pool) = it.send("POST", "/v1/pools?poolId=extra", &json!({ "strategy": "priority" })).await;
    assert_eq!((status, pool["name"].as_str()), (200, Some("pools/extra")), "{pool}");
    let (_, pools) = it.get("/v1/pools").await;
    assert_eq!(pools["pools"].as_array().unwrap().len(), 3);
    let (status, pool) =
        it.send("PATCH", "/v1/pools/extra?updateMask=leaseTtl", &json!({ "leaseTtl": "90s" })).await;
    assert_eq!((status, pool["leaseTtl"].as_str()), (200, Some("90s")), "{pool}");
    let (status, pool) =
        it.send("PATCH", "/v1/pools/extra?update_mask=lease_ttl", &json!({ "leaseTtl": "80s" })).await;
    assert_eq!((status, pool["leaseTtl"].as_str()), (200, Some("80s")), "{pool}");
    assert_eq!(it.get("/v1/pools/extra").await.0, 200);
    assert_eq!(answer(it.ask("DELETE", "/v1/pools/extra")).await.0, 200);
    let (status, view) = it.get("/v1/pools/default:inspect").await;
    assert_eq!((status, view["keys"][0]["keyId"].as_str()), (200, Some("a1")));
    assert_eq!(it.get("/v1/pools/-/usage?fromDate=2026-11-01").await.0, 200);
    let none = json!({});
    assert_eq!(it.send("POST", "/v1/pools/default:resetCooldowns", &none).await, (200, json!({})));
    assert_eq!(it.send("POST", "/v1/pools/default/keys/a1:resetCooldowns", &none).await, (200, json!({})));
    let (status, error) = it.send("POST", "/v1/pools/default:acceptLoss", &none).await;
    assert_eq!((status, reason(&error)), (400, "NOTHING_LOST"));
    let (status, key) = it.send("POST", "/v1/pools/default/keys/a1:drain", &none).await;
    assert!(status == 200 && key["state"].as_str().unwrap().starts_with("KEY_STATE_DRAIN"), "{key}");
    assert_eq!(it.send("POST", "/v1/pools/default/keys/a1:enable", &none).await.0, 200);
    let import = json!({ "data": "ZmFrZS1rZXktbnVtYmVyLXRocmVlCg==", "format": "IMPORT_FORMAT_LINES", "validateOnly": true });
    let (status, imported) = it.send("POST", "/v1/pools/default/keys:import", &import).await;
    assert_eq!(status, 200, "{imported}");
}

#[tokio::test]
async fn what_is_wrong_is_named_and_no_value_is_repeated() {
    let it = Setting::start("");
    for (method, path, body, status, said) in [
        ("GET", "/v1/nothing", "", 404, "nothing at this path"),
        ("PUT", "/v1/pools", "{}", 405, "GET, POST"),
        ("GET", "/v1/pools?colour=fake-secret-1", "", 400, "known are: pageSize, pageToken"),
        ("GET", "/v1/pools?pageSize=many", "", 400, "\"field\":\"page_size\""),
        ("POST", "/v1/pools/default/keys", "{\"apiKey\":", 400, "is not JSON (line 1, column 10)"),
        ("POST", "/v1/pools/default/keys", "[]", 400, "is not an object"),
        ("POST", "/v1/pools/default/keys", "{\"weight\":\"fake-secret-2\"}", 400, "\"field\":\"key.weight\""),
        (
            "POST",
            "/v1/pools/default/keys",
            "{\"limits\":[{\"limits\":{\"fake-secret-5\":\"x\"}}]}",
            400,
            "\"field\":\"key.limits[0].limits\"",
        ),
        ("POST", "/v1/pools/default/keys", "{\"fake-secret-3\":1}", 400, "does not fit"),
        ("POST", "/v1/pools/default/keys", "{\"apiKey\":\"fake secret 4\"}", 400, "key.api_key"),
        ("PATCH", "/v1/pools/default/keys/a1", "{\"name\":\"pools/default/keys/a2\"}", 400, "said twice"),
        ("POST", "/v1/pools/default/keys/a1:explode", "{}", 404, "nothing"),
    ] {
        let request = it.ask(method, path).header("content-type", "application/json").body(body);
        let (got, error) = answer(request).await;
        let text = error.to_string();
        assert!(got == status && text.contains(said), "{method} {path} {body}: {got} {text}");
        assert!(!text.contains("fake-secret") && !text.contains("secret 4"), "{text}");
        assert_eq!(error["error"]["code"], got, "{text}");
    }
    let large = it.ask("POST", "/v1/pools/default/keys:import").header("content-type", "application/json");
    let answer = large.body(vec![b' '; 9 << 20]).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 413);
}

#[tokio::test]
async fn a_page_of_another_site_does_nothing_through_a_browser() {
    let it = Setting::start("");
    let path = "/v1/pools/default/keys/a1:disable";
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let request = it.ask("POST", path).body("{}");
        let request = kind.into_iter().fold(request, |request, kind| request.header("content-type", kind));
        assert_eq!(answer(request).await.0, 400, "{kind:?}");
    }
    // A name that somebody pointed at this host.
    let (status, error) = answer(it.ask("GET", "/v1/pools").header("host", "elsewhere.example:8080")).await;
    assert!(status == 403 && error.to_string().contains("host"), "{error}");
    for host in ["localhost:8080", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(answer(it.ask("GET", "/v1/pools").header("host", host)).await.0, 200, "{host}");
    }
    let cors = it.ask("OPTIONS", path).header("origin", "https://elsewhere.example").send().await.unwrap();
    assert!(cors.headers().get("access-control-allow-origin").is_none());
}

/// Reads server-sent events.
struct Sse {
    answer: reqwest::Response,
    read: String,
}

impl Sse {
    async fn open(request: RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, read: String::new() }
    }

    /// The next event: its fields by name. None at the end.
    async fn next(&mut self) -> Option<HashMap<String, String>> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let fields = event.lines().filter_map(|line| line.split_once(": "));
                let fields: HashMap<String, String> =
                    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                self.read = rest.to_owned();
                if fields.keys().any(|name| !name.is_empty()) {
                    return Some(fields);
                }
                continue;
            }
            let more = tokio::time::timeout(Duration::from_secs(30), self.answer.chunk()).await;
            self.read += std::str::from_utf8(&more.unwrap().unwrap()?).unwrap();
        }
    }

    async fn message(&mut self) -> Value {
        serde_json::from_str(&self.next().await.unwrap()["data"]).unwrap()
    }
}

/// A lease of the pool default is refused by Gemini: what it is counted on cools down.
async fn meet_a_limit(broker: &BrokerProcess, token: Option<&str>) {
    let mut builder = Broker::builder();
    if let Some(token) = token {
        builder = builder.token(&token.into()).unwrap();
    }
    let broker = builder.connect(broker.url()).unwrap();
    let mut lease = broker.acquire(AcquireOptions::new("gemini-2.5-flash")).await.unwrap();
    lease.begin_send().unwrap();
    let violation = Violation {
        metric: "generativelanguage.googleapis.com/generate_content_free_tier_requests".to_owned(),
        quota_id: "GenerateRequestsPerMinutePerProjectPerModel-FreeTier".to_owned(),
        model: "gemini-2.5-flash".to_owned(),
        value: 5,
        daily: false,
    };
    let body = quota_429(&[violation], Duration::from_secs(30)).text;
    lease.report(Outcome::HttpError { status: 429, body: body.into(), retry_after: None }).await.unwrap();
    broker.close().await.unwrap();
}

#[tokio::test]
async fn what_happens_and_how_a_pool_stands_is_told_as_it_goes() {
    let it = Setting::start("");
    let mut pool = Sse::open(it.ask("GET", "/v1/pools/default:watch")).await;
    assert_eq!(pool.message().await["keys"][0]["available"], true);
    let mut events = Sse::open(it.ask("GET", "/v1/events?kinds=cooldown_begun&kinds=limit_learned")).await;
    meet_a_limit(&it.broker, None).await;
    let first = events.next().await.unwrap();
    let message: Value = serde_json::from_str(&first["data"]).unwrap();
    assert_eq!(first["id"], message["id"].as_str().unwrap());
    let kinds = ["cooldown_begun", "limit_learned"];
    assert!(kinds.contains(&message["kind"].as_str().unwrap()), "{message}");
    assert_eq!((message["pool"].as_str(), message["project"].as_str()), (Some("default"), Some("project-a")));
    loop {
        let stands = pool.message().await;
        if stands["cooldowns"].as_array().is_some_and(|cooldowns| !cooldowns.is_empty()) {
            assert_eq!(stands["counters"]["granted"], "1", "{stands}");
            break;
        }
    }
    // Who comes later is told what was, and who comes again what followed.
    let second = events.next().await.unwrap();
    let mut again = Sse::open(it.ask("GET", "/v1/events?recent=256")).await;
    let mut after =
        Sse::open(it.ask("GET", "/v1/events").header("last-event-id", first["id"].as_str())).await;
    let mut ids = Vec::new();
    while !ids.contains(&second["id"]) {
        ids.push(again.next().await.unwrap()["id"].clone());
    }
    assert!(ids.contains(&first["id"]));
    assert_eq!(after.next().await.unwrap()["id"], second["id"]);
    let none = it.get("/v1/events?pool=other").await;
    assert_eq!((none.0, reason(&none.1)), (404, "UNKNOWN_POOL"));
    for (wrong, field) in
        [("kinds=no_such_kind", "kinds[0]"), ("recent=257", "recent"), ("recent=-1", "recent")]
    {
        let (status, error) = it.get(&format!("/v1/events?{wrong}")).await;
        assert!(status == 400 && error.to_string().contains(field), "{wrong}: {error}");
    }
    assert_eq!(it.get("/v1/pools/other:watch").await.0, 404);
}

#[tokio::test]
async fn the_paths_that_dashboards_know_tell_how_keys_stand_and_reset_them() {
    let it = Setting::start("");
    let (status, before) = it.get("/api/gemini/status").await;
    assert_eq!(status, 200);
    let key = &before["keys"][0];
    assert_eq!(
        [&before["total_keys"], &before["available_keys"], &before["failed_keys"], &before["current_index"]],
        [&json!(1), &json!(1), &json!(0), &Value::Null],
        "{before}"
    );
    assert_eq!(
        [&key["index"], &key["is_failed"], &key["failed_at"]],
        [&json!(0), &json!(false), &Value::Null]
    );

    meet_a_limit(&it.broker, None).await;
    // The event that tells when it began may be a moment behind.
    let mut now = Value::Null;
    for _ in 0..200 {
        now = it.get("/api/gemini/status").await.1;
        if now["keys"][0]["failed_at"].is_string() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let key = &now["keys"][0];
    assert_eq!([&now["available_keys"], &now["failed_keys"], &now["current_index"]], [0, 1, 0], "{now}");
    let remaining = key["cooldown_remaining"].as_f64().unwrap();
    assert!(key["is_failed"] == true && remaining > 0.0 && remaining < 120.0, "{now}");
    assert!(key["failed_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{now}");
    let (_, rotation) = it.get("/api/chat/api-rotation-status").await;
    assert_eq!((&rotation["enabled"], &rotation["stats"]["total_keys"]), (&json!(true), &json!(1)));
    assert_eq!(rotation["message"], "none of 1 keys can serve now");
    assert!(!now.to_string().contains("fake-key"), "{now}");

    let (status, reset) = it.send("POST", "/api/gemini/reset-keys", &json!({})).await;
    assert_eq!((status, &reset["success"], &reset["reset_count"]), (200, &json!(true), &json!(1)), "{reset}");
    assert_eq!(it.get("/api/gemini/status").await.1["available_keys"], 1);
    let (_, records) = it.get("/v1/auditRecords").await;
    assert_eq!(records["records"][0]["action"], "ResetCooldowns");

    assert_eq!(it.get("/api/gemini/status?pool=batch").await.1["total_keys"], 0);
    assert_eq!(it.get("/api/gemini/status?pool=other").await.0, 404);
    assert_eq!(it.get("/api/gemini/status?pool=a%2Fb").await.0, 400);
    assert_eq!(it.get("/api/gemini/status?colour=1").await.0, 400);
    assert_eq!(it.get("/api/gemini/reset-keys").await.0, 405);
    assert_eq!(it.get("/api/other").await.0, 404);
    assert_eq!(answer(it.ask("POST", "/api/gemini/reset-keys").body("{}")).await.0, 400, "no content-type");
}

#[tokio::test]
async fn a_broker_that_stops_ends_what_goes_on() {
    let mut it = Setting::start("");
    let mut events = Sse::open(it.ask("GET", "/v1/events")).await;
    let mut pool = Sse::open(it.ask("GET", "/v1/pools/default:watch")).await;
    pool.next().await.unwrap();
    it.broker.process().signal("TERM").unwrap();
    for stream in [&mut events, &mut pool] {
        let last = stream.next().await.unwrap();
        assert_eq!(last["event"], "error");
        assert!(last["data"].contains("SHUTTING_DOWN"), "{last:?}");
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn events_are_told_of_the_pools_that_are_the_caller_s() {
    let identity = |name: &str, pools: &str| {
        let digest = keybroker::access::TokenDigest::of(&format!("fake-token-{name}"));
        format!(
            "[[identities]]\nname = \"{name}\"\nroles = [\"viewer\", \"worker\"]\npools = [\"{pools}\"]\n\
             token_sha256 = [\"{digest}\"]\n"
        )
    };
    let mut it = Setting::start(&(identity("batch", "batch") + &identity("default", "default")));
    let as_who = |path: &str, who: &str| it.ask("GET", path).bearer_auth(format!("fake-token-{who}"));
    assert_eq!(answer(as_who("/v1/events?pool=default", "batch")).await.0, 403);
    assert_eq!(answer(as_who("/v1/pools/default:watch", "batch")).await.0, 403);
    let mut own = Sse::open(as_who("/v1/events", "default")).await;
    let mut others = Sse::open(as_who("/v1/events", "batch")).await;
    meet_a_limit(&it.broker, Some("fake-token-default")).await;
    assert_eq!(own.message().await["pool"], "default");
    it.broker.process().signal("TERM").unwrap();
    assert_eq!(others.next().await.unwrap()["event"], "error", "nothing happened in the pool batch");
}

#[tokio::test]
async fn roles_are_those_of_grpc() {
    let identity = |name: &str, more: &str| {
        let digest = keybroker::access::TokenDigest::of(&format!("fake-token-{name}"));
        format!(
            "[[identities]]\nname = \"{name}\"\nroles = [\"{name}\"]\ntoken_sha256 = [\"{digest}\"]\n{more}\n"
        )
    };
    let access =
        identity("viewer", "") + &identity("worker", "") + &identity("operator", "pools = [\"default\"]");
    let it = Setting::start(&access);
    let ask = async |method: &str, path: &str, who: &str| {
        let request =
            it.ask(method, path).header("host", "broker.internal").bearer_auth(format!("fake-token-{who}"));
        let request = request.header("x-keybroker-actor", "ann");
        let request = if method == "POST" { request.json(&json!({})) } else { request };
        answer(request).await.0
    };
    let disable = "/v1/pools/default/keys/a1:disable";
    assert_eq!(ask("GET", "/v1/pools", "viewer").await, 200);
    assert_eq!(ask("POST", disable, "viewer").await, 403);
    assert_eq!(ask("GET", "/v1/pools", "worker").await, 403);
    assert_eq!(ask("GET", "/v1/pools", "nobody").await, 401);
    assert_eq!(answer(it.ask("GET", "/v1/pools")).await.0, 401);
    assert_eq!(ask("POST", disable, "operator").await, 200);
    assert_eq!(ask("GET", "/v1/pools/batch", "operator").await, 403);
    assert_eq!(ask("GET", "/api/gemini/status", "viewer").await, 200);
    assert_eq!(ask("GET", "/api/gemini/status", "worker").await, 403);
    assert_eq!(ask("GET", "/api/chat/api-rotation-status", "nobody").await, 401);
    assert_eq!(ask("POST", "/api/gemini/reset-keys", "viewer").await, 403);
    assert_eq!(ask("POST", "/api/gemini/reset-keys", "operator").await, 200);
    assert_eq!(ask("POST", "/api/gemini/reset-keys?pool=batch", "operator").await, 403);
    let request = it.ask("GET", "/v1/auditRecords").bearer_auth("fake-token-viewer");
    let (_, records) = answer(request).await;
    assert_eq!(records["records"][1]["actor"], "operator as ann");
    assert!(!it.broker.log().contains("fake-token"));
}

#[tokio::test]
async fn the_document_has_every_call_and_every_reference_in_it_leads_somewhere() {
    let it = Setting::start("");
    let (status, document) = it.get("/v1/openapi.json").await;
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")));
    let mut called = BTreeSet::new();
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            assert!(called.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
        }
    }
    for other in ["ResetCooldownsOfKey", "GeminiStatus", "ResetKeys", "ApiRotationStatus"] {
        assert!(called.remove(other), "{other}");
    }
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let admin = pool.get_service_by_name("keybroker.v1.Admin").unwrap();
    assert_eq!(called, admin.methods().map(|method| method.name().to_owned()).collect());
    let text = document.to_string();
    let references = text.split("\"$ref\":\"#/components/schemas/").skip(1);
    for reference in references {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    // What is answered is what the document says.
    let (_, key) = it.get("/v1/pools/default/keys/a1").await;
    let properties = &document["components"]["schemas"]["Key"]["properties"];
    for name in key.as_object().unwrap().keys() {
        assert!(properties[name].is_object(), "{name}");
    }
}
