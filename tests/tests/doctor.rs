//! `keybroker doctor`: a healthy set-up has nothing, and each planted fault is found by its id, and no other.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use keybroker_tests::harness::{
    broker::{BrokerOptions, BrokerProcess, binary},
    certificates::{Authority, Validity},
    process::free_port,
    redis::RedisServer,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const IN_FILE: &str = "AQ.fake-key-of-doctor-in-a-file-000000000000-0001";
const IN_VARIABLE: &str = "AQ.fake-key-of-doctor-in-a-variable-00000000-0002";

/// A healthy set-up, into which faults are planted.
struct Setting {
    folder: TempDir,
    config: String,
    env: Vec<(String, String)>,
    args: Vec<String>,
    grpc: String,
    // What a planted fault needs while the doctor looks.
    kept: Vec<Box<dyn std::any::Any>>,
}

impl Setting {
    fn new(google: &str) -> Self {
        let folder = TempDir::with_prefix("keybroker-doctor").unwrap();
        let setting = Self {
            config: format!(
                "[probing]\nbase_url = \"{google}\"\n\n[[projects]]\nid = \"team-a\"\ntier = \"free\"\n\
                 limits = [{{ model = \"*\", requests_per_minute = 10 }}]\n\
                 keys = [{{ id = \"a1\", secret = \"file:a1.key\" }}, {{ id = \"a2\", secret = \"env:A2_KEY\" }}]\n"
            ),
            env: vec![("A2_KEY".to_owned(), IN_VARIABLE.to_owned())],
            args: Vec::new(),
            grpc: format!("127.0.0.1:{}", free_port().unwrap()),
            kept: Vec::new(),
            folder,
        };
        setting.write("a1.key", IN_FILE, 0o600);
        setting.on_data("data")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn on_data(mut self, folder: &str) -> Self {
        let folder = self.path(folder).display().to_string();
        self.args = vec!["--data-dir".to_owned(), folder];
        self
    }

    fn on_redis(mut self, url: &str) -> Self {
        self.args = vec!["--redis-url".to_owned(), url.to_owned()];
        self
    }

    fn and(mut self, name: &str, value: &str) -> Self {
        self.args.extend([name.to_owned(), value.to_owned()]);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn configured(mut self, more: &str) -> Self {
        self.config.push_str(more);
        self
    }

    fn keep(mut self, thing: impl std::any::Any) -> Self {
        self.kept.push(Box::new(thing));
        self
    }

    fn config_file(&self) -> String {
        self.write("keybroker.toml", &self.config, 0o644);
        self.path("keybroker.toml").display().to_string()
    }

    /// The broker that this is the set-up of, with ports of its own.
    fn broker(&self) -> BrokerProcess {
        let mut options = BrokerOptions::default().at(&self.grpc).arg("--config", self.config_file());
        for (name, value) in &self.env {
            options = options.env(name, value);
        }
        options.args.extend(self.args.clone());
        BrokerProcess::start(&options).unwrap()
    }

    /// What the doctor says, and its exit code.
    fn examine(&self, more: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(binary("keybroker"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.args(["doctor", "--config", &self.config_file(), "--max-connections", "100"]);
        if !self.args.iter().any(|arg| arg == "--grpc-addr") {
            command.args(["--grpc-addr", &self.grpc]);
        }
        if !self.args.iter().any(|arg| arg == "--http-addr") {
            command.args(["--http-addr", "127.0.0.1:0"]);
        }
        command.args(&self.args).args(more).envs(self.env.iter().map(|(name, value)| (name, value)));
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!text.contains("fake-key-of-doctor"), "{text}");
        (output.status.code(), text)
    }

    fn examined(&self) -> (Option<i32>, Value) {
        let (code, text) = self.examine(&["--json"]);
        (code, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}")))
    }
}

/// Counts tokens for every key. Not the fake Gemini, which refuses keys that look like real ones.
struct Google {
    base_url: String,
    /// The key that is held for leaked.
    leaked: Arc<Mutex<Option<&'static str>>>,
}

async fn google() -> Google {
    let leaked: Arc<Mutex<Option<&str>>> = Arc::default();
    let held = leaked.clone();
    let count = async move |headers: HeaderMap| {
        let key = headers["x-goog-api-key"].to_str().unwrap();
        if *held.lock().unwrap() != Some(key) {
            return (StatusCode::OK, Json(json!({ "totalTokens": 1 })));
        }
        let message = "Your API key was reported as leaked. Please use another API key.";
        let error = json!({ "code": 403, "message": message, "status": "PERMISSION_DENIED" });
        (StatusCode::FORBIDDEN, Json(json!({ "error": error })))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/v1beta/models/{call}", post(count));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Google { base_url, leaked }
}

fn redis() -> RedisServer {
    RedisServer::start_with(None, &["--appendonly", "yes"]).unwrap()
}

fn redis_says(redis: &RedisServer, command: &[&str]) {
    let mut asked = redis::cmd(command[0]);
    for argument in &command[1..] {
        asked.arg(*argument);
    }
    asked.query::<redis::Value>(&mut redis.connect().unwrap()).unwrap();
}

fn is_healthy(setting: &Setting) -> Value {
    let (code, told) = setting.examined();
    assert_eq!((code, &told["errors"], &told["warnings"]), (Some(0), &0.into(), &0.into()), "{told:#}");
    told
}

fn seen<'a>(told: &'a Value, check: &str) -> &'a str {
    let checks = told["checks"].as_array().unwrap();
    checks.iter().find(|found| found["name"] == check).unwrap()["seen"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_set_up_has_nothing_and_is_left_as_it_is() {
    let google = google().await;
    let setting = Setting::new(&google.base_url);
    let told = is_healthy(&setting);
    assert!(seen(&told, "keys").starts_with("2 of 2 work"), "{told:#}");
    assert!(!Path::new(&setting.path("data")).exists(), "no data directory was made");
    let (code, text) = setting.examine(&["--offline"]);
    assert!(code == Some(0) && text.contains("not probed") && text.ends_with("nothing is wrong\n"), "{text}");

    let broker = setting.broker();
    let told = is_healthy(&setting);
    let version = format!("{} is version {}", broker.grpc, env!("CARGO_PKG_VERSION"));
    assert!(seen(&told, "brokers").contains(&version), "{told:#}");
    assert!(seen(&told, "clocks").starts_with("1 compared"), "{told:#}");

    let redis = redis();
    let setting = Setting::new(&google.base_url).on_redis(&redis.url());
    let told = is_healthy(&setting);
    assert!(seen(&told, "redis").contains("append-only file on"), "{told:#}");
    let keys: i64 = redis::cmd("DBSIZE").query(&mut redis.connect().unwrap()).unwrap();
    assert_eq!(keys, 0, "nothing was written");
}

/// A planted fault: the id it is found by, whether it is an error, and the set-up with it.
type Planted<'a> = (&'static str, bool, Box<dyn FnOnce(Setting) -> Setting + 'a>);

fn plant<'a>(id: &'static str, is_error: bool, into: impl FnOnce(Setting) -> Setting + 'a) -> Planted<'a> {
    (id, is_error, Box::new(into))
}

fn each_is_found(google: &str, planted: Vec<Planted<'_>>) {
    for (id, is_error, into) in planted {
        let setting = into(Setting::new(google));
        let (code, told) = setting.examined();
        let findings = told["findings"].as_array().unwrap();
        let ids: Vec<&str> = findings.iter().map(|finding| finding["id"].as_str().unwrap()).collect();
        assert!(!ids.is_empty() && ids.iter().all(|found| *found == id), "{id} was planted: {told:#}");
        let severity = if is_error { "error" } else { "warning" };
        for finding in findings {
            assert_eq!(finding["severity"], severity, "{told:#}");
            for text in ["place", "what", "fix"] {
                assert!(!finding[text].as_str().unwrap().is_empty(), "{id} has no {text}: {told:#}");
            }
        }
        assert_eq!(code, Some(i32::from(is_error)), "{id}: {told:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_that_is_planted_on_this_host_is_found() {
    let google = google().await;
    let authority = Authority::new("own").unwrap();
    authority.sign("expired", "127.0.0.1", Validity::Expired).unwrap();
    authority.sign("short", "127.0.0.1", Validity::Valid).unwrap();
    let tls = |name: &str| {
        let key = authority.path(&format!("{name}.key"));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        format!(
            "[tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
            authority.file(&format!("{name}.pem")),
            key.display()
        )
    };
    let nobody = format!("127.0.0.1:{}", free_port().unwrap());
    let silent = format!("http://127.0.0.1:{}", free_port().unwrap());
    each_is_found(
        &google.base_url,
        vec![
            plant("config-fault", true, |it| it.configured("[[pools]]\nname = \"default\"\nstrateg = 1\n")),
            plant("config-warning", false, |it| {
                it.configured(
                    "[[projects]]\nid = \"team-b\"\nlimits = [{ model = \"*\", requests_per_minute = 1 }]\n",
                )
            }),
            plant("secret-file-open", false, |it| {
                it.write("a1.key", IN_FILE, 0o644);
                it
            }),
            plant("certificate-expired", true, |it| it.configured(&tls("expired"))),
            plant("certificate-expires", false, |it| it.configured(&tls("short"))),
            plant("hook-program", true, |it| {
                it.configured(
                    "[[hooks]]\nname = \"pager\"\nevents = [\"*\"]\ncommand = [\"/nowhere/pager\"]\n",
                )
            }),
            plant("unknown-variable", false, |it| it.env("KEYBROKER_REDIS_URI", "redis://127.0.0.1")),
            plant("master-key", true, |it| it.env("KEYBROKER_MASTER_KEY", "too short")),
            plant("port-in-use", true, |it| {
                let taken = TcpListener::bind(&it.grpc).unwrap();
                it.keep(taken)
            }),
            plant("addresses-equal", true, |it| {
                let address = it.grpc.clone();
                it.and("--http-addr", &address)
            }),
            plant("listener-open", true, |it| {
                let address = format!("0.0.0.0:{}", free_port().unwrap());
                it.and("--http-addr", &address)
            }),
            plant("data-dir-unusable", true, |it| {
                it.write("no-folder", "", 0o644);
                it.on_data("no-folder/data")
            }),
            plant("data-dir-in-use", true, |it| {
                let broker = it.broker();
                // As if another port had been meant for it.
                let grpc = format!("127.0.0.1:{}", free_port().unwrap());
                Setting { grpc, ..it }.keep(broker)
            }),
            plant("broker-unreachable", true, |it| it.env("KEYBROKER_BROKER", &nobody)),
            plant("gemini-unreachable", true, |it| {
                let config = it.config.replace(&google.base_url, &silent);
                Setting { config, ..it }
            }),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_that_is_planted_in_redis_is_found() {
    let google = google().await;
    let redis = redis();
    let url = redis.url();
    let set = |name: &str, value: &str| redis_says(&redis, &["CONFIG", "SET", name, value]);
    let user = |rights: &str| {
        let mut command = vec!["ACL", "SETUSER", "narrow", "reset", "on", ">password", "~kb:*", "-@all"];
        command.extend(rights.split(' '));
        redis_says(&redis, &command);
        url.replace("redis://", "redis://narrow:password@")
    };
    let away = format!("redis://127.0.0.1:{}", free_port().unwrap());
    each_is_found(
        &google.base_url,
        vec![
            plant("redis-unreachable", true, |it| it.on_redis(&away)),
            plant("redis-url", true, |it| it.on_redis("http://127.0.0.1:6379")),
            plant("redis-refused", true, |it| it.on_redis(&url.replace("redis://", "redis://:wrong@"))),
            plant("redis-rights", true, |it| {
                it.on_redis(&user("+@read +@write +@connection +info +time +wait +role"))
            }),
            plant("redis-evicts", true, |it| {
                set("maxmemory-policy", "allkeys-lru");
                it.on_redis(&url)
            }),
            plant("redis-not-durable", false, |it| {
                set("maxmemory-policy", "noeviction");
                set("appendonly", "no");
                it.on_redis(&url)
            }),
            plant("ledger-clock-ahead", true, |it| {
                set("appendonly", "yes");
                redis_says(&redis, &["HSET", "kb:{default}:meta", "now", "9000000000000"]);
                it.on_redis(&url)
            }),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_google_refuses_is_named_with_what_to_do() {
    let google = google().await;
    *google.leaked.lock().unwrap() = Some(IN_FILE);
    each_is_found(&google.base_url, vec![plant("key-refused", true, |it| it)]);
    let (code, text) = Setting::new(&google.base_url).examine(&[]);
    assert_eq!(code, Some(1), "{text}");
    for part in [
        "keys           error    1 of 2 work",
        "error key-refused: key a1 …0001 of project team-a",
        "put a new one in its place",
        "1 error, 0 warnings",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}
