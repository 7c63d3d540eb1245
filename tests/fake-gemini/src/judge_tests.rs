//! The judge is what a claim of exactness rests on, so it is itself checked against a computation that is
//! too simple to be wrong, and the check is checked with a judge that is wrong on purpose.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::clock::Moment;
use super::config::Limits;
use super::judge::{Cost, Excess, ModelJudge, Ruling};
use super::verdict::{Dimension, DimensionVerdict};
use super::window::WINDOW;

const ONE: Cost = Cost { requests: 1, input_tokens: 1 };
const NANO: Duration = Duration::from_nanos(1);
const MICRO: Duration = Duration::from_micros(1);

/// Noon in California, far from any midnight.
fn noon() -> Timestamp {
    "2026-01-15T20:00:00Z".parse().unwrap()
}

fn at(since_start: Duration) -> Moment {
    Moment::after(noon(), since_start)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn per_minute(rpm: u64) -> ModelJudge {
    ModelJudge::new(Limits { rpm: Some(rpm), ..Limits::default() })
}

fn admits(judge: &mut ModelJudge, since_start: Duration) -> bool {
    judge.rule(ONE, at(since_start)) == Ruling::Admitted
}

fn wait(ruling: Ruling) -> Option<Duration> {
    match ruling {
        Ruling::Admitted => panic!("it should have been refused"),
        Ruling::Refused(excesses) => excesses[0].wait,
    }
}

fn line(judge: &ModelJudge, dimension: Dimension, now: Duration) -> DimensionVerdict {
    let lines = judge.verdict("p", "m", at(now));
    lines.into_iter().find(|line| line.dimension == dimension).unwrap()
}

#[test]
fn after_a_full_burst_the_sixtieth_second_is_the_first_that_admits() {
    let start = secs(5);
    for (later, admitted) in [
        (Duration::ZERO, false),
        (WINDOW - MICRO, false),
        (WINDOW - NANO, false),
        (WINDOW, true),
        (WINDOW + NANO, true),
    ] {
        let mut judge = per_minute(60);
        assert!((0..60).all(|_| admits(&mut judge, start)));
        assert_eq!(admits(&mut judge, start + later), admitted, "{later:?} after the burst");
    }
}

#[test]
fn a_window_that_straddles_two_clock_minutes_is_held_too() {
    let mut judge = per_minute(60);
    assert!((0..60).all(|_| admits(&mut judge, secs(59))));
    assert!(!admits(&mut judge, secs(61)));
    assert!(!admits(&mut judge, secs(118)));
    assert!(admits(&mut judge, secs(119)));
}

#[test]
fn a_refusal_spends_nothing() {
    let mut judge = per_minute(1);
    assert!(admits(&mut judge, secs(0)));
    assert!((1..60).all(|second| !admits(&mut judge, secs(second))));
    assert!(admits(&mut judge, secs(60)));
}

#[test]
fn the_wait_told_is_the_first_instant_that_admits() {
    let mut judge = per_minute(2);
    assert!(admits(&mut judge, secs(0)));
    assert!(admits(&mut judge, secs(10)));
    assert_eq!(wait(judge.rule(ONE, at(secs(20)))), Some(secs(40)));
    let both = Cost { requests: 2, input_tokens: 1 };
    assert_eq!(wait(judge.rule(both, at(secs(20)))), Some(secs(50)));
    let never = Cost { requests: 3, input_tokens: 1 };
    assert_eq!(wait(judge.rule(never, at(secs(20)))), None);
    assert!(!admits(&mut judge, secs(60) - NANO));
    assert!(admits(&mut judge, secs(60)));
}

#[test]
fn tokens_are_held_like_requests_and_a_refusal_in_one_charges_neither() {
    let mut judge = ModelJudge::new(Limits { rpm: Some(2), input_tpm: Some(100), rpd: None });
    let tokens = |input_tokens| Cost { requests: 1, input_tokens };
    assert_eq!(judge.rule(tokens(60), at(secs(0))), Ruling::Admitted);
    let excess = Excess { dimension: Dimension::InputTpm, limit: 100, wait: Some(secs(59)) };
    assert_eq!(judge.rule(tokens(41), at(secs(1))), Ruling::Refused(vec![excess]));
    assert_eq!(judge.rule(tokens(40), at(secs(2))), Ruling::Admitted);
    let Ruling::Refused(excesses) = judge.rule(tokens(1), at(secs(3))) else { panic!("both are spent") };
    assert_eq!(
        excesses.iter().map(|excess| excess.dimension).collect::<Vec<_>>(),
        [Dimension::Rpm, Dimension::InputTpm]
    );
    let requests = line(&judge, Dimension::Rpm, secs(3));
    assert_eq!((requests.admitted, requests.refused, requests.refused_calls), (2, 2, 1));
    assert_eq!((requests.worst_admitted, requests.worst_offered), (2, 4));
    let spent = line(&judge, Dimension::InputTpm, secs(3));
    assert_eq!((spent.admitted, spent.refused, spent.refused_calls), (100, 42, 2));
    assert_eq!((spent.worst_admitted, spent.worst_offered), (100, 142));
}

#[test]
fn the_day_turns_at_midnight_in_california_in_winter_and_in_summer() {
    for midnight in
        ["2026-01-16T08:00:00Z", "2026-07-16T07:00:00Z", "2026-03-09T07:00:00Z", "2026-11-02T08:00:00Z"]
    {
        let midnight: Timestamp = midnight.parse().unwrap();
        let origin = midnight.checked_sub(jiff::SignedDuration::from_hours(2)).unwrap();
        let mut judge = ModelJudge::new(Limits { rpd: Some(1), ..Limits::default() });
        let mut rule = |since_start| judge.rule(ONE, Moment::after(origin, since_start));
        assert_eq!(rule(secs(0)), Ruling::Admitted);
        assert_eq!(wait(rule(secs(3600))), Some(secs(3600)), "{midnight}");
        assert_eq!(wait(rule(secs(7200) - NANO)), Some(NANO), "{midnight}");
        assert_eq!(rule(secs(7200)), Ruling::Admitted, "{midnight}");
        assert!(matches!(rule(secs(7201)), Ruling::Refused(_)), "{midnight}");
        let day = line(&judge, Dimension::Rpd, secs(7201));
        assert_eq!((day.worst_admitted, day.worst_offered, day.utilisation), (1, 3, Some(1.0)));
    }
}

#[test]
fn a_limit_of_zero_admits_nothing_and_no_limit_admits_all() {
    assert!(!admits(&mut per_minute(0), secs(0)));
    let mut free = ModelJudge::new(Limits::default());
    assert!((0..1000).all(|_| admits(&mut free, secs(0))));
    let requests = line(&free, Dimension::Rpm, secs(0));
    assert_eq!((requests.limit, requests.worst_offered, requests.utilisation), (None, 1000, None));
    assert!(requests.is_kept());
}

#[test]
fn the_worst_window_is_remembered_long_after_it_has_passed() {
    let mut judge = per_minute(3);
    (0..5).for_each(|_| drop(judge.rule(ONE, at(secs(0)))));
    assert!(admits(&mut judge, secs(1000)));
    let requests = line(&judge, Dimension::Rpm, secs(1000));
    assert_eq!((requests.worst_admitted, requests.worst_offered), (3, 5));
    assert!(!requests.is_kept());
}

#[test]
fn utilisation_is_what_was_admitted_out_of_what_could_have_been() {
    let mut judge = per_minute(10);
    (0..6).for_each(|second| drop(judge.rule(ONE, at(secs(100 + second)))));
    assert_eq!(line(&judge, Dimension::Rpm, secs(105)).utilisation, Some(0.6));
    assert_eq!(line(&judge, Dimension::Rpm, secs(220)).utilisation, Some(0.3));
}

#[test]
fn an_instant_that_goes_back_is_taken_as_the_last_one() {
    let mut judge = per_minute(1);
    assert!(admits(&mut judge, secs(100)));
    assert!(!admits(&mut judge, secs(10)));
    assert!(!admits(&mut judge, secs(160) - NANO));
    assert!(admits(&mut judge, secs(160)));
}

/// One arrival of a generated history: how long after the one before, and how much.
type Arrival = (Duration, u64);

/// Gaps that lean towards the edges of the window, where a judge goes wrong.
fn histories() -> impl Strategy<Value = (u64, Vec<Arrival>)> {
    let gap = prop_oneof![
        3 => Just(Duration::ZERO),
        1 => Just(NANO),
        2 => (0u64..20_000_000_000).prop_map(Duration::from_nanos),
        1 => Just(WINDOW - NANO),
        1 => Just(WINDOW),
        2 => Just(secs(10)),
        2 => Just(secs(20)),
    ];
    (0u64..8, prop::collection::vec((gap, 1u64..4), 1..80))
}

/// What a judge of one limit per minute made of a history.
struct Outcome {
    admitted: Vec<bool>,
    worst_admitted: u64,
    worst_offered: u64,
}

/// Everything the judge must get right, computed the slow way: for each arrival, add up all others.
fn check(limit: u64, history: &[Arrival], outcome: &Outcome) -> Result<(), TestCaseError> {
    let mut now = Duration::ZERO;
    let timed: Vec<Arrival> = history
        .iter()
        .map(|&(gap, amount)| {
            now += gap;
            (now, amount)
        })
        .collect();
    let sum_before = |index: usize, only_admitted: bool| -> u64 {
        (0..index)
            .filter(|&earlier| timed[index].0 - timed[earlier].0 < WINDOW)
            .filter(|&earlier| !only_admitted || outcome.admitted[earlier])
            .map(|earlier| timed[earlier].1)
            .sum()
    };
    let (mut worst_admitted, mut worst_offered) = (0, 0);
    for (index, &(_, amount)) in timed.iter().enumerate() {
        let with_this = sum_before(index, true) + amount;
        prop_assert_eq!(outcome.admitted[index], with_this <= limit, "arrival {}", index);
        if outcome.admitted[index] {
            worst_admitted = worst_admitted.max(with_this);
        }
        worst_offered = worst_offered.max(sum_before(index, false) + amount);
    }
    prop_assert_eq!(outcome.worst_admitted, worst_admitted);
    prop_assert_eq!(outcome.worst_offered, worst_offered);
    Ok(())
}

fn replay(limit: u64, history: &[Arrival]) -> Outcome {
    let mut judge = per_minute(limit);
    let mut now = Duration::ZERO;
    let mut admitted = Vec::new();
    for &(gap, amount) in history {
        now += gap;
        let cost = Cost { requests: amount, input_tokens: 1 };
        admitted.push(judge.rule(cost, at(now)) == Ruling::Admitted);
    }
    let line = line(&judge, Dimension::Rpm, now);
    Outcome { admitted, worst_admitted: line.worst_admitted, worst_offered: line.worst_offered }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, cases: 1000, ..Config::default() })]

    #[test]
    fn every_trailing_window_is_held_and_nothing_is_refused_for_less((limit, history) in histories()) {
        check(limit, &history, &replay(limit, &history))?;
    }

    #[test]
    fn the_limit_was_kept_exactly_when_nothing_was_refused((limit, history) in histories()) {
        let outcome = replay(limit, &history);
        prop_assert_eq!(outcome.worst_offered <= limit, outcome.admitted.iter().all(|&admitted| admitted));
    }
}

/// A judge that keeps every arrival for ever and adds up those that `counts(now, then)` says still count.
fn replay_naively(limit: u64, history: &[Arrival], counts: impl Fn(Duration, Duration) -> bool) -> Outcome {
    let mut now = Duration::ZERO;
    let mut kept: Vec<Arrival> = Vec::new();
    let mut admitted = Vec::new();
    for &(gap, amount) in history {
        now += gap;
        let sum: u64 = kept.iter().filter(|(then, _)| counts(now, *then)).map(|(_, amount)| amount).sum();
        let fits = sum + amount <= limit;
        if fits {
            kept.push((now, amount));
        }
        admitted.push(fits);
    }
    // The other numbers are right, so that the decisions alone can give a judge away.
    Outcome { admitted, ..replay(limit, history) }
}

fn is_found_out(counts: impl Fn(Duration, Duration) -> bool) -> bool {
    let found = TestRunner::deterministic().run(&histories(), |(limit, history)| {
        check(limit, &history, &replay_naively(limit, &history, &counts))
    });
    found.is_err()
}

#[test]
fn a_judge_by_clock_minutes_is_found_out() {
    assert!(is_found_out(|now, then| now.as_secs() / 60 == then.as_secs() / 60));
}

#[test]
fn a_judge_with_the_boundary_on_the_wrong_side_is_found_out() {
    assert!(is_found_out(|now, then| now - then <= WINDOW));
}

#[test]
fn a_judge_that_forgets_a_nanosecond_early_is_found_out() {
    assert!(is_found_out(|now, then| now - then < WINDOW - NANO));
}

#[test]
fn a_naive_judge_that_is_right_is_not_found_out() {
    assert!(!is_found_out(|now, then| now - then < WINDOW));
}
