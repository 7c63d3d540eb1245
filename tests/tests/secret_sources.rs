//! Secrets that lie elsewhere: they are fetched, fetched anew when they change, and stand where a source fails.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Path as Captured, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use keybroker_proto::v1::{AcquireRequest, Constraints, SettleState};
use keybroker_tests::harness::{
    api::{MODEL, ask, succeeded},
    broker::{BrokerOptions, BrokerProcess},
    process::wait_until,
    rig::{Backing, Rig},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: &str = "fake-vault-token-0001";

/// A Vault with one secret, `secret/data/gemini/team-v`, that may be sealed.
#[derive(Clone, Default)]
struct Vault(Arc<Mutex<(String, Option<StatusCode>)>>);

impl Vault {
    fn holds(&self, text: &str) {
        *self.0.lock().unwrap() = (text.to_owned(), None);
    }

    fn answers(&self, status: StatusCode) {
        self.0.lock().unwrap().1 = Some(status);
    }

    /// Serves it, and its address.
    async fn serve(&self) -> String {
        let read = async |State(vault): State<Self>, Captured(path): Captured<String>, headers: HeaderMap| {
            let (text, status) = vault.0.lock().unwrap().clone();
            if let Some(status) = status {
                return (status, Json(json!({ "errors": [format!("an error that names {text}")] })));
            }
            if headers.get("x-vault-token").is_none_or(|token| token != TOKEN) {
                return (StatusCode::FORBIDDEN, Json(json!({ "errors": ["permission denied"] })));
            }
            assert_eq!(headers["x-vault-namespace"], "team");
            if path != "gemini/team-v" {
                return (StatusCode::NOT_FOUND, Json(json!({ "errors": [] })));
            }
            let data =
                json!({ "data": { "data": { "api_key": text, "number": 7 }, "metadata": { "version": 3 } } });
            (StatusCode::OK, Json(data))
        };
        let login = async |Json(body): Json<Value>| {
            let known = body == json!({ "role": "broker", "jwt": "fake-service-account-token" });
            let status = if known { StatusCode::OK } else { StatusCode::FORBIDDEN };
            (status, Json(json!({ "auth": { "client_token": TOKEN } })))
        };
        let router = Router::new()
            .route("/v1/secret/data/{*path}", get(read))
            .route("/v1/auth/k8s/login", post(login))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        format!("http://{address}")
    }
}

/// A mounted Secret as Kubernetes makes one: a file that is a link into a folder that is a link, which is swapped.
fn mount(folder: &Path, version: u32, text: &str) {
    let data = folder.join(format!("..version-{version}"));
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("api-key"), text).unwrap();
    let next = folder.join("..next");
    symlink(data.file_name().unwrap(), &next).unwrap();
    fs::rename(next, folder.join("..data")).unwrap();
    let _ = symlink("..data/api-key", folder.join("api-key"));
}

/// A program that prints the text that lies beside it.
fn program(folder: &Path) -> PathBuf {
    let path = folder.join("print key");
    fs::write(&path, "#!/bin/sh\necho told: $1 >&2\ncat \"$(dirname \"$0\")/printed\" || exit 4\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

fn config(mounted: &Path, program: &Path, vault: &str) -> String {
    format!(
        r#"
[secrets]
refresh_every = "1s"
[vault]
{vault}
namespace = "team"
[[projects]]
id = "f"
keys = [ {{ id = "f1", secret = "file:{}" }} ]
[[projects]]
id = "c"
keys = [ {{ id = "c1", secret = "command:'{}' team-c" }} ]
[[projects]]
id = "v"
keys = [ {{ id = "v1", secret = "vault:secret/gemini/team-v#api_key" }} ]
"#,
        mounted.join("api-key").display(),
        program.display()
    )
}

fn of(project: &str) -> AcquireRequest {
    let constraints = Constraints { project: project.to_owned(), ..Constraints::default() };
    AcquireRequest { constraints: Some(constraints), ..ask(MODEL) }
}

/// The texts that are leased now.
async fn leased(rig: &Rig) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for project in ["f", "c", "v"] {
        let lease = rig.api.acquire(of(project)).await.unwrap();
        texts.insert(lease.api_key.clone());
        let report = rig.api.report(succeeded(&lease.lease_id, 5)).await.unwrap();
        assert_eq!(report.state(), SettleState::Settled);
    }
    texts
}

/// Waits until those texts are leased: an event is told when they are fetched, a moment before they stand.
async fn comes_to_lease(rig: &Rig, expected: &BTreeSet<String>) {
    let since = Instant::now();
    loop {
        let texts = leased(rig).await;
        if texts == *expected {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{texts:?} and not {expected:?} are leased");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn texts(version: u32) -> BTreeSet<String> {
    ["f", "c", "v"].iter().map(|project| format!("test-key-of-{project}-{version:04}")).collect()
}

/// Waits until the broker said something so often.
fn said(broker: &BrokerProcess, text: &str, times: usize) {
    let seen = wait_until(PATIENCE, || broker.log().matches(text).count() >= times);
    assert!(seen, "{times} times {text} in\n{}", broker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_fetched_anew_when_they_change_and_stand_where_a_source_fails() {
    let folder = TempDir::with_prefix("keybroker-sources").unwrap();
    let vault = Vault::default();
    let address = vault.serve().await;
    let change = |version: u32| {
        mount(folder.path(), version, &format!("test-key-of-f-{version:04}\n"));
        fs::write(folder.path().join("printed"), format!("test-key-of-c-{version:04}\nmore\n")).unwrap();
        vault.holds(&format!("test-key-of-v-{version:04}"));
    };
    change(1);
    let config = config(
        folder.path(),
        &program(folder.path()),
        &format!("address = \"{address}\"\ntoken = \"env:A_TOKEN\""),
    );
    let options = BrokerOptions::default().env("A_TOKEN", TOKEN).arg("--log", "debug");
    let rig = Rig::start_with(Backing::Embedded, &config, options).await;
    assert_eq!(leased(&rig).await, texts(1));
    let held = rig.api.acquire(of("v")).await.unwrap();

    // All three change: the new texts are leased, and a lease of a former one is reported as ever.
    change(2);
    said(&rig.broker, "has a new text", 3);
    comes_to_lease(&rig, &texts(2)).await;
    assert_eq!(rig.api.report(succeeded(&held.lease_id, 5)).await.unwrap().state(), SettleState::Settled);
    said(&rig.broker, "\"kind\":\"key_rotation_done\"", 3);

    // All three fail, each in its own way, while something else of the file changes.
    fs::write(folder.path().join("..version-2/api-key"), "half of a k").unwrap();
    fs::remove_file(folder.path().join("printed")).unwrap();
    vault.answers(StatusCode::SERVICE_UNAVAILABLE);
    said(&rig.broker, "\"kind\":\"secret_source_failed\"", 3);
    rig.configure(&format!(
        "{config}[[projects]]\nid = \"more\"\nkeys = [ {{ id = \"m1\", secret = \"test-key-more-0001\" }} ]\n"
    ));
    let more = async || rig.api.acquire(of("more")).await.is_ok();
    while !more().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(leased(&rig).await, texts(2), "what they were before stands");
    for why in ["has whitespace in it", "exit code 4", "sealed or in maintenance"] {
        assert!(rig.broker.log().contains(why), "{why}");
    }

    // They come back with something new. Each was told of once.
    change(3);
    said(&rig.broker, "\"kind\":\"secret_source_recovered\"", 3);
    comes_to_lease(&rig, &texts(3)).await;
    let log = rig.broker.log();
    assert_eq!(log.matches("\"kind\":\"secret_source_failed\"").count(), 3);
    for secret in ["test-key-of", TOKEN, "half of a k", "told: team-c"] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_gives_nothing_at_the_start_is_named_and_nothing_starts() {
    let folder = TempDir::with_prefix("keybroker-sources").unwrap();
    let vault = Vault::default();
    vault.holds("test-key-of-v-0001");
    let address = vault.serve().await;
    let start = |vault: &str, secret: &str, status: Option<StatusCode>, of_vault: &Vault| {
        if let Some(status) = status {
            of_vault.answers(status);
        } else {
            of_vault.holds("test-key-of-v-0001");
        }
        let file = folder.path().join("keybroker.toml");
        fs::write(
            &file,
            format!(
                "{vault}\n[[projects]]\nid = \"a\"\nkeys = [ {{ id = \"a1\", secret = \"{secret}\" }} ]\n"
            ),
        )
        .unwrap();
        let options = BrokerOptions::default()
            .arg("--config", file.display().to_string())
            .arg("--data-dir", folder.path().join("data").display().to_string());
        let (code, said) = BrokerProcess::run_to_end(&options, PATIENCE).unwrap();
        assert_eq!(code, Some(2), "{said}");
        assert!(!said.contains("test-key") && !said.contains("fake-vault"), "{said}");
        said
    };
    let known = format!("[vault]\naddress = \"{address}\"\nnamespace = \"team\"\ntoken = \"{TOKEN}\"");
    let wrong = format!("[vault]\naddress = \"{address}\"\ntoken = \"fake-vault-token-0002\"");
    let in_vault = "vault:secret/gemini/team-v#api_key";
    for (vault_section, secret, status, why) in [
        ("", "command:/bin/false", None, "exit code 1"),
        ("", "command:/no/such/program", None, "cannot be started"),
        ("", "command:'", None, "a quote that does not end"),
        ("", "command:/bin/echo test-key with space", None, "has whitespace in it"),
        ("[secrets]\ncommand_timeout = \"200ms\"", "command:/bin/sleep 60", None, "did not end within 200ms"),
        ("", "valut:secret/gemini/team-v#api_key", None, "a scheme that is not known"),
        ("", "FILE:/etc/keybroker/test-key", None, "a scheme that is not known"),
        ("", in_vault, None, "which cannot be asked by what [vault] says"),
        (&wrong, in_vault, None, "may not read it"),
        (&known, "vault:secret/gemini/other#api_key", None, "no secret at that path"),
        (&known, "vault:secret/gemini/team-v#other", None, "no such field"),
        (&known, "vault:secret/gemini/team-v#number", None, "holds no text"),
        (&known, "vault:secret/gemini/team-v", None, "names no field"),
        (&known, in_vault, Some(StatusCode::INTERNAL_SERVER_ERROR), "status 500"),
        ("[vault]\naddress = \"http://127.0.0.1:9\"\ntoken = \"t\"", in_vault, None, "cannot be reached"),
        ("[vault]\naddress = \"http://vault.internal:8200\"\ntoken = \"t\"", in_vault, None, "is not https"),
        ("[vault]\ntoken = \"t\"", in_vault, None, "has no `address`"),
        (&format!("[vault]\naddress = \"{address}\""), in_vault, None, "VAULT_TOKEN is not set"),
        (
            &format!(
                "[vault]\naddress = \"{address}\"\nkubernetes = {{ role = \"broker\", token_file = \"none\" }}"
            ),
            in_vault,
            None,
            "the file cannot be read",
        ),
    ] {
        let said = start(vault_section, secret, status, &vault);
        assert!(said.contains(why), "{vault_section} {secret}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_of_kubernetes_is_let_into_vault() {
    let folder = TempDir::with_prefix("keybroker-sources").unwrap();
    let vault = Vault::default();
    let address = vault.serve().await;
    mount(folder.path(), 1, "test-key-of-f-0001\n");
    fs::write(folder.path().join("printed"), "test-key-of-c-0001\n").unwrap();
    vault.holds("test-key-of-v-0001");
    let token = folder.path().join("service-account");
    fs::write(&token, "fake-service-account-token\n").unwrap();
    let login = format!(
        "address = \"{address}\"\nkubernetes = {{ role = \"broker\", mount = \"k8s\", token_file = \"{}\" }}",
        token.display()
    );
    let config = config(folder.path(), &program(folder.path()), &login);
    let rig = Rig::start(Backing::Embedded, &config).await;
    assert_eq!(leased(&rig).await, texts(1));
    assert!(!rig.broker.log().contains("fake-service-account-token"));
}
