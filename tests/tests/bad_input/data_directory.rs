//! A data directory that cannot be used ends the broker with code 1 and says why.

use std::time::Duration;

use keybroker_tests::harness::{
    broker::{BrokerOptions, BrokerProcess},
    rig::{Backing, Rig},
};
use tempfile::TempDir;

use super::CONFIG;

fn refused(data_dir: &std::path::Path) -> String {
    let options = BrokerOptions::default()
        .env("GEMINI_API_KEYS", "test-key-good-1111")
        .arg("--data-dir", data_dir.display().to_string());
    let (code, text) =
        BrokerProcess::run_to_end(&options, Duration::from_secs(10)).expect("it ends by itself");
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn a_data_directory_that_is_not_writable_is_named() {
    let folder = TempDir::with_prefix("keybroker-bad-input").expect("a folder can be made");
    let file = folder.path().join("a-file");
    std::fs::write(&file, "no folder").expect("the folder can be written");
    // Below a file not even root can make a folder.
    let below = file.join("data");
    let text = refused(&below);
    assert!(text.contains(&below.display().to_string()) && text.contains("cannot be made"), "{text}");
}

#[tokio::test]
async fn a_data_directory_that_another_broker_uses_is_refused_and_the_other_goes_on() {
    let mut rig = Rig::start(Backing::Embedded, CONFIG).await;
    let text = refused(&rig.data_dir());
    assert!(text.contains("in use by another broker"), "{text}");
    assert!(text.contains(&rig.data_dir().display().to_string()), "{text}");
    rig.still_serves().await;
}

#[test]
fn a_damaged_ledger_is_refused_and_left_as_it_is() {
    let folder = TempDir::with_prefix("keybroker-bad-input").expect("a folder can be made");
    let ledger = folder.path().join("ledger.redb");
    std::fs::write(&ledger, "this is no ledger".repeat(500)).expect("the folder can be written");
    let text = refused(folder.path());
    assert!(text.contains("ledger.redb"), "{text}");
    let after = std::fs::read_to_string(&ledger).expect("the file is still text");
    assert!(after == "this is no ledger".repeat(500), "the file was changed");
}
