//! The simulation: thousands of seeds hold every rule, a seed is the same run every time, and the checker finds
//! ledgers that are wrong.

use clap::Parser;
use keybroker_tests::sim::{
    Args, Counts, Options, Outcome, Rule, Variant, failure, first_difference, first_to_find,
    scale::{Plan, fair_shares, jain, simulate_pool, slot_of},
    simulate, simulate_all,
};

/// How many seeds hold every rule here; `make sim SEEDS=from..to` runs others.
const SEEDS: u64 = 2_000;
/// Within how many seeds a wrong ledger is found.
const FOUND_WITHIN: u64 = 20;

#[test]
fn a_seed_gives_the_same_bytes_every_time() {
    for seed in 1..=20 {
        let options = Options { whole_log: true, ..Options::of(seed) };
        let (one, other) = (simulate(options), simulate(options));
        let difference = first_difference(&one.log.whole, &other.log.whole);
        assert_eq!(difference, None, "seed {seed} differs from itself: line, first and second run");
        assert_eq!(one.log.hash, other.log.hash, "seed {seed}");
        assert_eq!(one.counts, other.counts, "seed {seed}");
    }
}

#[test]
fn two_seeds_give_two_runs() {
    assert_ne!(simulate(Options::of(1)).log.hash, simulate(Options::of(2)).log.hash);
}

#[test]
fn a_log_that_differs_is_told_by_its_first_line() {
    let log = |lines: &[&str]| -> Vec<String> { lines.iter().map(|line| (*line).to_owned()).collect() };
    let difference = first_difference(&log(&["a", "b", "c"]), &log(&["a", "x"]));
    assert_eq!(difference, Some((2, "b".to_owned(), "x".to_owned())));
    let difference = first_difference(&log(&["a"]), &log(&["a", "b"]));
    assert_eq!(difference, Some((2, "(no line)".to_owned(), "b".to_owned())));
    assert_eq!(first_difference(&log(&["a"]), &log(&["a"])), None);
}

#[test]
fn every_rule_holds_for_thousands_of_seeds() {
    let outcomes = simulate_all(1..=SEEDS);
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.violations.is_empty()).collect();
    assert!(
        failed.is_empty(),
        "{} of {SEEDS} seeds break a rule; the first:\n{}",
        failed.len(),
        failure(failed[0])
    );
    let mut total = Counts::default();
    outcomes.iter().for_each(|outcome| total.add(&outcome.counts));
    // The seeds are seen to reach what they are for.
    assert!(total.granted as u64 > 50 * SEEDS, "only {} leases", total.granted);
    assert!(total.settled < total.granted, "something dies with a lease: {total:?}");
    assert!(total.leases < total.granted, "some answer is lost: {total:?}");
    assert!(total.checked_refusals as u64 > SEEDS, "{total:?}");
    assert!(total.utilisations as u64 > SEEDS / 20, "{total:?}");
    assert!(total.operations > total.calls, "some call carries more than one operation: {total:?}");
}

#[test]
fn every_wrong_ledger_is_found() {
    for (variant, rules) in Variant::WRONG {
        for rule in rules {
            let found = first_to_find(variant, *rule, FOUND_WITHIN);
            assert!(found.is_some(), "no seed up to {FOUND_WITHIN} finds {variant:?} by {rule:?}");
        }
    }
}

#[test]
fn a_failing_seed_is_told_with_its_cause_and_how_to_replay_it() {
    let wrong = |seed| simulate(Options { variant: Variant::SendWithinNotCounted, ..Options::of(seed) });
    let broken = |outcome: &Outcome| outcome.violations.iter().any(|found| found.rule == Rule::NoOverSpend);
    let outcome = (1..=FOUND_WITHIN).map(wrong).find(broken).expect("some seed finds it");
    let text = failure(&outcome);
    assert!(text.contains(&format!("seed {} breaks", outcome.seed)), "{text}");
    assert!(text.contains(Rule::NoOverSpend.sentence()), "{text}");
    assert!(text.contains(&format!("make sim SEED={}", outcome.seed)), "{text}");
    assert!(text.contains("at Google: "), "the last events are there: {text}");
}

#[test]
fn a_range_of_seeds_that_is_none_is_told_how_to_write_it() {
    let error = |seeds: &str| Args::try_parse_from(["sim", "--seeds", seeds]).unwrap_err().to_string();
    assert!(error("seven").contains("write it as 1..1000"), "{}", error("seven"));
    assert!(error("9..3").contains("the smaller seed goes first"), "{}", error("9..3"));
    let args = Args::try_parse_from(["sim", "--seeds", "3..9"]).unwrap();
    assert_eq!(args.seeds, Some(3..=9));
}

#[test]
fn a_day_of_a_pool_is_full_fair_and_within_its_limits() {
    let plan = Plan { projects: 20, workers: 2_000, pools: 1, rpm: 5, from: 0, length: 24 * 3_600_000 };
    let day = simulate_pool(&plan, 0);
    assert_eq!(day.over_limit, 0, "no trailing minute at Google is over the limit");
    let full = |minute: &usize| day.waited[minute - 2..=*minute].iter().all(|waited| *waited >= 60_000);
    let busy: Vec<usize> = (2..day.waited.len()).filter(full).collect();
    assert!(busy.len() > 120, "somebody waits for hours: {}", busy.len());
    let granted: u64 = busy.iter().map(|minute| day.granted[*minute]).sum();
    let used = granted as f64 / (100 * busy.len()) as f64;
    assert!(used > 0.95, "{used} of what there is gets used");
    let sum = |by: &[[u64; 16]]| -> Vec<f64> {
        (0..16).map(|consumer| by[13..17].iter().map(|hour| hour[consumer]).sum::<u64>() as f64).collect()
    };
    let (wanted, got) = (sum(&day.wanted_by), sum(&day.granted_by));
    let index = jain(&got, &fair_shares(&wanted, got.iter().sum()));
    assert!(index > 0.99, "{index} is not fair");
}

#[test]
fn a_pool_of_a_large_fleet_is_the_same_every_time() {
    let plan =
        Plan { projects: 20, workers: 2_000, pools: 2, rpm: 30, from: 15 * 3_600_000, length: 600_000 };
    let (one, other, next) = (simulate_pool(&plan, 0), simulate_pool(&plan, 0), simulate_pool(&plan, 1));
    assert_eq!((&one.granted, &one.batches), (&other.granted, &other.batches));
    assert_ne!(one.wanted, next.wanted);
}

#[test]
fn fair_shares_give_nobody_more_than_it_wants_and_split_the_rest_evenly() {
    assert_eq!(fair_shares(&[1.0, 10.0, 10.0], 9.0), vec![1.0, 4.0, 4.0]);
    assert_eq!(fair_shares(&[1.0, 2.0], 9.0), vec![1.0, 2.0]);
    assert!((jain(&[2.0, 2.0], &[2.0, 2.0]) - 1.0).abs() < 1e-9);
    assert!((jain(&[4.0, 0.0], &[2.0, 2.0]) - 0.5).abs() < 1e-9);
}

/// The check value of CRC-16/XMODEM, and a slot that the Redis Cluster specification's checksum gives.
#[test]
fn a_pool_lies_in_the_slot_of_its_hash_tag() {
    assert_eq!(slot_of("123456789"), 0x31c3);
    assert_eq!(slot_of("foo"), 12_182);
}
