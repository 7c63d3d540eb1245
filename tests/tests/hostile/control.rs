//! What is planted is found: by the same driver that every target goes through.

use std::time::Duration;

use super::{
    answers::{LEASE_IDS, QUOTA_IDS},
    driver::{PLANTED, Target, all},
    sockets::HTTP,
};

fn found(target: Target, check: impl Fn(&[u8]) -> Result<(), String>) -> String {
    target.search(200_000, &check).expect_err("what was planted is found").why
}

#[test]
fn a_reader_that_panics_at_something_in_an_example_is_found_in_every_target() {
    for target in all() {
        // Not in any example: it takes a byte that was changed.
        let why = found(target, |input| {
            assert!(!input.contains(&0xF7), "{PLANTED}");
            Ok(())
        });
        assert_eq!(why, "it panics", "{}", target.name);
    }
}

#[test]
fn what_is_found_is_made_small() {
    let check =
        |input: &[u8]| if input.len() > 4 && input.contains(&b'Z') { Err("Z".to_owned()) } else { Ok(()) };
    let finding = QUOTA_IDS.search(200_000, &check).unwrap_err();
    assert!(finding.input.contains(&b'Z') && finding.input.len() < 100, "{finding:?}");
}

#[test]
fn a_reader_that_answers_wrongly_is_found() {
    let why = found(LEASE_IDS, |input| {
        if input.starts_with(b"default") { Ok(()) } else { Err("not of the default pool".to_owned()) }
    });
    assert_eq!(why, "not of the default pool");
}

#[test]
fn a_reader_that_takes_too_long_is_found() {
    let why = found(HTTP, |input| {
        if !input.starts_with(b"GET") {
            std::thread::sleep(Duration::from_millis(10_200));
        }
        Ok(())
    });
    assert!(why.starts_with("it takes"), "{why}");
}
