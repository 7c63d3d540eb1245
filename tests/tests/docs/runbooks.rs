//! The commands of `docs/runbooks.md` are run in their order, and what is asked of a broker by `curl`, on any page, is asked.

use std::{fs, process::Command};

use keybroker_tests::harness::broker::{BrokerOptions, BrokerProcess, binary};
use tempfile::TempDir;

use super::{
    commands::{pages, shown, words_of},
    root,
};

/// A folder with the files that runbooks speak of, and a broker with a key of its own and one made at run time.
fn a_fleet_of_one() -> (TempDir, BrokerProcess, impl Fn(&[String]) -> std::process::Output) {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a1.key"), "fake-key-0001\n").unwrap();
    fs::write(folder.path().join("a1.new"), "fake-key-0002\n").unwrap();
    let config = "[[projects]]\nid = \"team-a\"\nkeys = [{ id = \"a0\", secret = \"fake-key-0003\" }]\n";
    fs::write(folder.path().join("keybroker.toml"), config).unwrap();
    let master = Command::new(binary("keybroker")).arg("generate-master-key").output().unwrap();
    let options = BrokerOptions::default()
        .arg("--data-dir", folder.path().join("data").display().to_string())
        .env("GEMINI_API_KEY", "fake-key-0000")
        .env("KEYBROKER_MASTER_KEY", str::from_utf8(&master.stdout).unwrap().trim());
    let broker = BrokerProcess::start(&options).unwrap();
    let (address, inside) = (broker.grpc.clone(), folder.path().to_owned());
    let run = move |words: &[String]| {
        let mut command = Command::new(binary("keybroker"));
        command.args(&words[1..]).env("KEYBROKER_BROKER", &address).current_dir(&inside).output().unwrap()
    };
    (folder, broker, run)
}

#[test]
fn the_commands_of_the_runbooks_do_what_they_say() {
    let (_folder, _broker, run) = a_fleet_of_one();
    let words = |line: &str| words_of(line, "keybroker").concat();
    let added = run(&words("keybroker keys add a1 --project team-a --secret-file a1.key"));
    assert!(added.status.success(), "{added:?}");
    let page = fs::read_to_string(root().join("docs/runbooks.md")).unwrap();
    let mut seen = 0;
    // Those for another broker than this one name it.
    for line in shown(&page).iter().filter(|line| !line.contains("KEYBROKER_BROKER=")) {
        let mut words = words(line);
        if words.is_empty() {
            continue;
        }
        // No test asks Google.
        if words[1] == "doctor" && !words.contains(&"--offline".to_owned()) {
            words.push("--offline".to_owned());
        }
        seen += 1;
        let output = run(&words);
        match words[1].as_str() {
            "accept-loss" => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(said.contains("there is nothing to accept"), "{line}: {output:?}");
            }
            // What it finds depends on the host.
            "doctor" => {
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(
                    said.contains("configuration") && !said.contains("config-fault"),
                    "{line}: {output:?}"
                );
            }
            _ => assert!(output.status.success(), "{line}: {output:?}"),
        }
    }
    assert!(seen >= 10, "only {seen} commands were found");
}

#[tokio::test]
async fn a_broker_answers_all_that_is_asked_of_it_by_curl() {
    let (_folder, broker, _) = a_fleet_of_one();
    let http = reqwest::Client::new();
    let mut seen = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for words in shown(&page).iter().flat_map(|line| words_of(line, "curl")) {
            let asked = words.iter().find_map(|word| word.strip_prefix("localhost:8080"));
            let (Some(asked), false) = (asked, words.iter().any(|word| word == "-d")) else { continue };
            // A stream answers at once too, and is not read to its end.
            let answer = http.get(format!("http://{}{asked}", broker.http)).send().await.unwrap();
            assert!(answer.status().is_success(), "{}: {words:?}: {}", path.display(), answer.status());
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} were found");
}
