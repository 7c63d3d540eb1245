//! The simulation: thousands of seeds hold every rule, a seed is the same run every time, and the checker finds
//! ledgers that are wrong.

use keybroker_tests::sim::{
    Counts, Options, Outcome, Rule, Variant, failure, first_difference, simulate, simulate_all,
};

/// How many seeds hold every rule here; `make sim SEEDS=from..to` runs others.
const SEEDS: u64 = 2_000;
/// Within how many seeds a wrong ledger is found.
const FOUND_WITHIN: u64 = 60;

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
            let found = (1..=FOUND_WITHIN).find(|seed| {
                let outcome = simulate(Options { variant, ..Options::of(*seed) });
                outcome.violations.iter().any(|violation| violation.rule == *rule)
            });
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
