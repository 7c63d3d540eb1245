//! The Rust SDK plays every scenario of `client-sdk/contract`, as the SDKs of other languages do.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

mod player;

use std::path::{Path, PathBuf};

use futures_util::{StreamExt, stream};
use keybroker_tests::contract::{Scenario, Stage};

/// More would be too slow for windows of a second.
const AT_ONCE: usize = 3;

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client-sdk/contract/scenarios");
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    assert!(files.len() > 20, "{} holds the scenarios", folder.display());
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_sdk_plays_every_scenario() {
    let played = stream::iter(scenarios()).map(|file| {
        tokio::spawn(async move {
            let scenario = Scenario::read(&file).unwrap();
            assert_eq!(Some(scenario.name.as_str()), file.file_stem().and_then(|stem| stem.to_str()));
            let stage = Stage::start(&scenario).await.unwrap();
            player::play(&scenario, stage).await.map_err(|error| format!("{}: {error}", scenario.name))
        })
    });
    let wrong: Vec<String> =
        played.buffer_unordered(AT_ONCE).filter_map(async |played| played.unwrap().err()).collect().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
