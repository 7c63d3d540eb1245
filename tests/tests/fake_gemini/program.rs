//! The fake as a program of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use keybroker_tests::fake_gemini::{ControlClient, Dimension};
use serde_json::Value;

use crate::support::prompt;

/// Kills the program when the test is over, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program and waits for the line that says where it listens.
fn run(args: &[&str]) -> (Running, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fake-gemini"));
    let mut running = Running(command.args(args).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    (running, format!("http://{}", ready["listening"].as_str().unwrap()))
}

async fn call(base_url: &str, key: &str) -> u16 {
    let url = format!("{base_url}/v1/models/gemini-fake:generateContent");
    let request = reqwest::Client::new().post(url).header("x-goog-api-key", key).json(&prompt("x"));
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn it_says_where_it_listens_and_makes_projects_by_number() {
    let (_running, url) = run(&["--projects", "2", "--rpm", "1", "--key-prefix", "fake-demo-"]);
    assert_eq!(call(&url, "fake-demo-0000").await, 200);
    assert_eq!(call(&url, "fake-demo-0001").await, 200);
    assert_eq!(call(&url, "fake-demo-0001").await, 429);
    let verdict = ControlClient::new(&url).verdict().await.unwrap();
    let offered = |project| verdict.line(project, "gemini-fake", Dimension::Rpm).unwrap().worst_offered;
    assert_eq!((offered("project-0000"), offered("project-0001")), (1, 2));
}

#[tokio::test]
async fn it_reads_toml_and_json_files() {
    let toml = "[keys]\nfake-key-a = 'p'\n[limits.'*'.'*']\nrpm = 1\n";
    let json = r#"{"keys": {"fake-key-a": "p"}, "limits": {"*": {"*": {"rpm": 1}}}}"#;
    for (suffix, text) in [(".toml", toml), (".json", json)] {
        let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let (_running, url) = run(&["--config", file.path().to_str().unwrap()]);
        assert_eq!(call(&url, "fake-key-a").await, 200);
        assert_eq!(call(&url, "fake-key-a").await, 429);
    }
}
