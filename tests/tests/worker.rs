//! `keybroker exec` and `keybroker proxy`, as someone would use them from a shell.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

use keybroker_tests::{
    contract::{Stage, StageStep},
    harness::{broker::binary, process::Process},
};
use serde_json::{Value, json};

const MODEL: &str = "gemini-2.5-flash";

async fn stage(scenario: Value) -> Stage {
    Stage::of(&scenario).await.unwrap()
}

async fn sees(stage: &mut Stage, expect: Value) {
    stage.sees(&expect).await.unwrap();
}

fn keybroker(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("keybroker"));
    for variable in ["GEMINI_API_KEY", "GOOGLE_API_KEY", "KEYBROKER_BROKER"] {
        command.env_remove(variable);
    }
    command.args(arguments);
    command
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Runs a shell script with a leased key.
async fn exec(stage: &Stage, more: &[&str], script: &str) -> Output {
    let address = stage.addresses()[0];
    let mut arguments = vec!["exec", "--broker", address, "--model", MODEL];
    arguments.extend(more);
    arguments.extend(["--", "sh", "-c", script]);
    run(keybroker(&arguments)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_with_a_leased_key_and_its_exit_code_is_passed_on() {
    let mut stage = stage(json!({})).await;
    let script = r#"[ "$GEMINI_API_KEY" = fake-key-0000 ] && [ "$GOOGLE_API_KEY" = fake-key-0000 ]"#;
    let output = exec(&stage, &[], script).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    sees(&mut stage, json!({ "in_flight": 0, "granted": 1, "settled": 1 })).await;
    let output = exec(&stage, &["--permits", "3"], "exit 7").await;
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("fake-key"), "{output:?}");
    let output = exec(&stage, &[], "kill -TERM $$").await;
    assert_eq!(output.status.code(), Some(128 + 15), "{output:?}");
    sees(&mut stage, json!({ "in_flight": 0, "granted": 3, "settled": 3 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_while_the_program_runs() {
    let mut stage = stage(json!({})).await;
    let output = exec(&stage, &["--ttl", "2"], "sleep 4").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // Had it expired, its report would have been late; either way it is settled once.
    sees(&mut stage, json!({ "in_flight": 0, "granted": 1, "settled": 1 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_costs_nothing() {
    let mut stage =
        stage(json!({ "pool": { "limits": [{ "requests_per_minute": 1, "in_flight": 1 }] } })).await;
    let address = stage.addresses()[0].to_owned();
    let arguments = ["exec", "--broker", &address, "--model", MODEL, "--", "no-such-program"];
    let output = run(keybroker(&arguments)).await;
    assert_eq!(output.status.code(), Some(127), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-program was not found"), "{output:?}");
    // The one request of the minute is there again.
    assert_eq!(exec(&stage, &[], "true").await.status.code(), Some(0));
    sees(&mut stage, json!({ "in_flight": 0, "granted": 2, "settled": 2 })).await;
    let output = exec(&stage, &["--wait", "0"], "true").await;
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("try again in"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named_with_their_fix() {
    let nobody = keybroker_tests::harness::process::free_port().unwrap();
    let address = format!("127.0.0.1:{nobody}");
    let output = run(keybroker(&["exec", "--broker", &address, "--model", MODEL, "--", "true"])).await;
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address), "{output:?}");
    for (arguments, word) in [
        (&["exec", "--model", MODEL][..], "COMMAND"),
        (&["exec", "--", "true"], "--model"),
        (&["exec", "--model", MODEL, "--permits", "0", "--", "true"], "--permits"),
        (&["exec", "--model", MODEL, "--ttl", "1", "--", "true"], "from 2 to 3600"),
        (&["proxy", "--listen", "0.0.0.0:0"], "--allow-remote"),
        (&["proxy", "--upstream", "no url"], "--upstream"),
        (&["proxy", "--deadline", "0"], "from 1 to 3600"),
    ] {
        let output = run(keybroker(arguments)).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_its_place_until_its_lease_expires() {
    let mut stage = stage(json!({ "pool": { "limits": [{ "in_flight": 1 }] } })).await;
    let address = stage.addresses()[0].to_owned();
    let arguments = ["exec", "--broker", &address, "--model", MODEL, "--ttl", "2", "--", "sleep", "60"];
    let mut killed = Process::start("exec", keybroker(&arguments).stdout(Stdio::null())).unwrap();
    sees(&mut stage, json!({ "in_flight": 1 })).await;
    killed.kill();
    sees(&mut stage, json!({ "in_flight": 0, "granted": 1 })).await;
    assert_eq!(exec(&stage, &[], "true").await.status.code(), Some(0));
}

struct Proxy {
    url: String,
    _process: Process,
}

impl Proxy {
    fn start(stage: &Stage, more: &[&str]) -> Self {
        let broker = stage.addresses().join(",");
        let mut arguments = vec![
            "proxy",
            "--broker",
            &broker,
            "--upstream",
            &stage.gemini.base_url,
            "--listen",
            "127.0.0.1:0",
        ];
        arguments.extend(more);
        let mut command = keybroker(&arguments);
        let mut process = Process::start("proxy", command.stderr(Stdio::piped())).unwrap();
        let mut said = String::new();
        BufReader::new(process.child().stderr.take().unwrap()).read_line(&mut said).unwrap();
        let url = said.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
        Self { url: url.trim_end_matches(';').to_owned(), _process: process }
    }

    /// Asks with curl: the status, the headers and the body.
    async fn curl(&self, path: &str, arguments: &[&str]) -> (u16, String, String) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--include", "--max-time", "30"]);
        command.args(arguments).arg(format!("{}{path}", self.url));
        let output = run(command).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {output:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn ask(&self, path: &str, body: &Value) -> (u16, String, String) {
        self.curl(path, &["-H", "content-type: application/json", "-d", &body.to_string()]).await
    }
}

fn question() -> Value {
    json!({ "contents": [{ "parts": [{ "text": "Name three rivers." }] }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_serves_both_versions_streams_and_batches_without_the_client_holding_a_key() {
    let mut stage = stage(json!({})).await;
    let proxy = Proxy::start(&stage, &[]);
    for version in ["v1", "v1beta"] {
        let path = format!("/{version}/models/{MODEL}:generateContent?key=any-text");
        let (status, head, body) = proxy.ask(&path, &question()).await;
        assert!(status == 200 && body.contains("echo: Name three rivers."), "{status} {body}");
        assert!(!head.contains("fake-key") && !body.contains("fake-key"));
    }
    let (status, head, body) =
        proxy.ask(&format!("/v1beta/models/{MODEL}:streamGenerateContent?alt=sse"), &question()).await;
    assert!(status == 200 && head.contains("text/event-stream"), "{status} {head}");
    assert_eq!(body.matches("data: ").count(), 3, "{body}");
    let (status, _, body) =
        proxy.ask(&format!("/v1beta/models/{MODEL}:streamGenerateContent"), &question()).await;
    assert!(status == 200 && serde_json::from_str::<Vec<Value>>(&body).unwrap().len() == 3, "{body}");
    let text = json!({ "content": { "parts": [{ "text": "a river" }] } });
    let batch = json!({ "requests": [text, text, text] });
    let (status, _, body) = proxy.ask("/v1beta/models/gemini-embedding-001:batchEmbedContents", &batch).await;
    assert_eq!((status, body.matches("values").count()), (200, 3), "{body}");
    let (status, _, body) =
        proxy.ask("/v1/interactions", &json!({ "model": MODEL, "input": "Hello." })).await;
    assert!(status == 200 && body.contains("echo: Hello."), "{status} {body}");
    let (status, _, _) = proxy.curl("/v1beta/models", &[]).await;
    assert_eq!(status, 200);
    sees(&mut stage, json!({ "in_flight": 0, "granted": 7, "settled": 7, "keys_in_url": 0 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_goes_on_with_another_key_and_passes_on_what_nobody_can_mend() {
    let fault =
        |name: &str, count: u32| json!({ "fault": { "kind": "error", "name": name }, "count": count });
    let mut stage =
        stage(json!({ "projects": 2, "faults": [fault("invalid", 1), fault("bad_request", 1)] })).await;
    let proxy = Proxy::start(&stage, &[]);
    let path = format!("/v1beta/models/{MODEL}:generateContent");
    // The first key is answered with an error, and so is the second one, whose error is the request's own.
    let (status, _, body) = proxy.ask(&path, &question()).await;
    assert!(status == 400 && body.contains("Request contains an invalid argument."), "{status} {body}");
    let (status, _, _) = proxy.ask(&path, &question()).await;
    assert_eq!(status, 200);
    sees(&mut stage, json!({ "in_flight": 0, "granted": 3, "settled": 3, "calls": 3 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_says_in_googles_words_that_all_keys_are_at_their_limit_or_no_broker_is_there() {
    let mut stage =
        stage(json!({ "pool": { "limits": [{ "requests_per_minute": 1, "in_flight": 5 }] } })).await;
    let proxy = Proxy::start(&stage, &["--deadline", "2"]);
    let path = format!("/v1beta/models/{MODEL}:generateContent");
    assert_eq!(proxy.ask(&path, &question()).await.0, 200);
    let (status, head, body) = proxy.ask(&path, &question()).await;
    assert!(status == 429 && head.contains("retry-after: "), "{status} {head}");
    assert!(body.contains("RESOURCE_EXHAUSTED") && body.contains("retryDelay"), "{body}");
    stage.take(StageStep::StopBroker { number: 0 }).await.unwrap();
    let (status, _, body) = proxy.ask(&path, &question()).await;
    assert!(status == 503 && body.contains("UNAVAILABLE"), "{status} {body}");
    let (status, _, body) = proxy.curl("/healthz", &[]).await;
    assert_eq!((status, body.trim()), (200, "ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_nothing_in_flight() {
    let mut stage = stage(json!({ "faults": [{ "fault": { "kind": "hang" }, "count": 1 }] })).await;
    let proxy = Proxy::start(&stage, &[]);
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "1", "-H", "content-type: application/json", "-d"]);
    command.arg(question().to_string()).arg(format!("{}/v1beta/models/{MODEL}:generateContent", proxy.url));
    assert!(!run(command).await.status.success());
    sees(&mut stage, json!({ "in_flight": 0, "granted": 1, "settled": 1, "calls": 1 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_through_the_proxy_and_its_file_is_used_with_the_project_that_has_it() {
    let mut stage = stage(json!({ "projects": 4 })).await;
    let proxy = Proxy::start(&stage, &[]);
    let start = [
        "-H",
        "content-type: application/json",
        "-H",
        "x-goog-upload-protocol: resumable",
        "-H",
        "x-goog-upload-command: start",
        "-H",
        "x-goog-upload-header-content-type: text/plain",
        "-d",
        r#"{"file":{"displayName":"rivers"}}"#,
    ];
    let (status, head, _) = proxy.curl("/upload/v1beta/files", &start).await;
    assert_eq!(status, 200);
    let url =
        head.lines().find_map(|line| line.strip_prefix("x-goog-upload-url: ")).unwrap().trim().to_owned();
    let path = url.strip_prefix(&proxy.url).expect("the upload goes on at the proxy");
    let bring = [
        "-H",
        "x-goog-upload-command: upload, finalize",
        "-H",
        "x-goog-upload-offset: 0",
        "--data-binary",
        "Nile, Amazon",
    ];
    let (status, _, body) = proxy.curl(path, &bring).await;
    assert_eq!(status, 200, "{body}");
    let file: Value = serde_json::from_str(&body).unwrap();
    let ask = json!({ "contents": [{ "parts": [
        { "text": "What is in it?" }, { "fileData": { "fileUri": file["file"]["uri"], "mimeType": "text/plain" } },
    ] }] });
    // The strategy goes round four projects; only one of them may use the file.
    for _ in 0..8 {
        let (status, _, body) = proxy.ask(&format!("/v1beta/models/{MODEL}:generateContent"), &ask).await;
        assert_eq!(status, 200, "{body}");
    }
    let name = file["file"]["name"].as_str().unwrap();
    let (status, _, _) = proxy.curl(&format!("/v1beta/{name}"), &["-X", "DELETE"]).await;
    assert_eq!(status, 200);
    sees(&mut stage, json!({ "in_flight": 0, "granted": 11, "settled": 11 })).await;
}
