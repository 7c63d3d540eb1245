//! The chaos harness in short: a few seeds keep every promise, and a known-bad fleet is caught.
//! `make chaos` runs as many seeds as one likes.

use std::{
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use keybroker_tests::{chaos::hosts::Hosts, harness::broker::binary};

/// Runs the harness, where it can on two hosts with a cable between them, else on loopback.
fn chaos(arguments: &[&str]) -> (Option<i32>, String) {
    let network = if Hosts::obstacle().is_none() { "namespaces" } else { "loopback" };
    let output =
        Command::new(binary("chaos")).args(["--network", network, "--jobs", "2"]).args(arguments).output();
    let output = output.expect("the harness runs");
    let told =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.code(), told)
}

/// A broker that is killed, a Redis that is killed alone, under Sentinel and in a cluster, and a partition.
const SEEDS: &str = "0,25,28,29,76";

/// What a host can do is tried out for each plan, and is not found out while another of these strains it.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_few_seeds_keep_every_promise() {
    let _alone = alone();
    let (code, told) = chaos(&["--seed", SEEDS, "--strikes", "1"]);
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn brokers_that_count_in_fixed_windows_are_caught() {
    let _alone = alone();
    let (code, told) = chaos(&["--control", "fixed-window", "--seed", "1"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("is caught"), "{told}");
}

#[test]
fn the_same_seed_gives_the_same_plan() {
    let _alone = alone();
    let plans = || chaos(&["--seeds", "60", "--plan"]);
    let (code, told) = plans();
    assert_eq!((code, plans()), (Some(0), (Some(0), told.clone())));
    assert_eq!(told.lines().filter(|line| line.starts_with("seed ")).count(), 60, "{told}");
}

/// Also after one that failed.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
