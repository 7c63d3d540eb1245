//! What pages say is so: commands, errors, versions, and of `docs/migrate.md` the programs of the SDKs' examples,
//! shown as they are, and what `keybroker` prints. The programs in Rust run here, the others in the tests of their SDKs.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/errors.rs"]
mod errors;
#[path = "docs/runbooks.rs"]
mod runbooks;
#[path = "docs/versions.rs"]
mod versions;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use keybroker_tests::{
    contract::Stage,
    fake_gemini::fingerprint,
    harness::broker::{BrokerOptions, BrokerProcess, binary},
};
use serde_json::json;
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A block between fences.
struct Block {
    language: String,
    /// The last line before it that is not empty.
    above: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut above = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| *line != "```");
            let text = inside.flat_map(|line| [line, "\n"]).collect();
            blocks.push(Block { language: language.to_owned(), above: above.to_owned(), text });
        } else if !line.is_empty() {
            above = line;
        }
    }
    blocks
}

fn page() -> Vec<Block> {
    blocks(&fs::read_to_string(root().join("docs/migrate.md")).unwrap())
}

#[test]
fn the_page_shows_every_program_as_it_is() {
    let mut shown = BTreeSet::new();
    for block in page() {
        let Some(path) = block.above.split_once("](../").and_then(|(_, path)| path.strip_suffix(')')) else {
            continue;
        };
        assert_eq!(block.text, fs::read_to_string(root().join(path)).unwrap(), "{path} and the page differ");
        shown.insert(path.to_owned());
    }
    let folders = ["python", "go", "rust", "js"].map(|sdk| format!("client-sdk/{sdk}/examples/migrate"));
    let there: BTreeSet<_> = folders
        .iter()
        .flat_map(|folder| {
            fs::read_dir(root().join(folder))
                .unwrap()
                .map(move |file| format!("{folder}/{}", file.unwrap().file_name().display()))
        })
        .filter(|path| path.contains("_before.") || path.contains("_after."))
        .collect();
    assert_eq!(there.len(), 24);
    assert_eq!(shown, there);
}

#[test]
fn what_the_page_shows_of_keybroker_is_what_comes() {
    let folder = TempDir::new().unwrap();
    let config = page().into_iter().find(|block| block.language == "toml").unwrap();
    let file = folder.path().join("keybroker.toml");
    fs::write(&file, config.text).unwrap();
    fs::write(folder.path().join("keys.txt"), "fake-key-0003\nfake-key-0004\nfake-key-0004\n").unwrap();
    let master = Command::new(binary("keybroker")).arg("generate-master-key").output().unwrap();
    let env = BTreeMap::from([
        ("GEMINI_API_KEY", "fake-key-0000"),
        ("TEAM_B_KEY_1", "fake-key-0001"),
        ("TEAM_B_KEY_2", "fake-key-0002"),
        ("KEYBROKER_MASTER_KEY", str::from_utf8(&master.stdout).unwrap().trim()),
    ]);
    let options = BrokerOptions::default()
        .arg("--config", file.display().to_string())
        .arg("--data-dir", folder.path().join("data").display().to_string());
    let options = env.iter().fold(options, |options, (name, value)| options.env(name, *value));
    let broker = BrokerProcess::start(&options).unwrap();
    let mut commands = 0;
    for block in page().iter().filter(|block| block.text.starts_with("$ keybroker ")) {
        let mut comes = String::new();
        for command in block.text.lines().filter_map(|line| line.strip_prefix("$ keybroker ")) {
            let mut keybroker = Command::new(binary("keybroker"));
            keybroker.args(command.split(' ')).envs(&env).env("KEYBROKER_BROKER", &broker.grpc);
            let output = keybroker.current_dir(folder.path()).output().unwrap();
            assert!(output.status.success(), "{command}: {output:?}");
            comes += &format!("$ keybroker {command}\n{}", str::from_utf8(&output.stdout).unwrap());
            commands += 1;
        }
        assert_eq!(block.text, comes);
    }
    assert_eq!(commands, 2);
}

/// Runs a program in Rust, and checks what it printed, the broker's books and each key's calls.
async fn prints(name: &str, questions: &[&str]) {
    let leases = name.ends_with("_after");
    let count = questions.len();
    let keys: Vec<_> = (0..count).map(|number| format!("fake-key-{number:04}")).collect();
    // So little that each key has to take its turn.
    let scenario = json!({
        "projects": count, "quota": { "rpm": 1 }, "pool": { "limits": [{ "requests_per_minute": 1 }] },
    });
    let mut stage = Stage::of(&scenario).await.unwrap();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("keys.txt"), keys.join("\n") + "\n").unwrap();
    let mut program = Command::new(binary("examples/migrate"));
    program.arg(name).current_dir(folder.path()).env("GOOGLE_GEMINI_BASE_URL", &stage.gemini.base_url);
    if leases {
        program.env("KEYBROKER_BROKER", stage.addresses()[0]);
    } else {
        program.env("GEMINI_API_KEY", &keys[0]);
    }
    let output = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    let expected: String = questions.iter().map(|question| format!("echo: {question}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{name}: {output:?}");
    let granted = if leases { count } else { 0 };
    let expect =
        json!({ "calls": count, "refused": 0, "keys_in_url": 0, "granted": granted, "settled": granted });
    stage.sees(&expect).await.unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
    let verdict = stage.gemini.verdict();
    assert!(verdict.exact, "{name}: {verdict:?}");
    for key in &keys {
        assert_eq!(verdict.calls_with(&fingerprint(key), "generateContent"), 1, "{name}: {verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_and_after_the_programs_in_rust_print_the_same() {
    let rivers =
        ["Where does the Nile begin?", "Where does the Amazon begin?", "Where does the Yangtze begin?"];
    for (name, questions) in
        [("environment", &["Name three rivers."][..]), ("rotator", &rivers), ("file", &rivers)]
    {
        prints(&format!("{name}_before"), questions).await;
        prints(&format!("{name}_after"), questions).await;
    }
}
