//! A whole Pacific day goes by in virtual time, on the two days of the year that are not 24 hours long: free
//! and paid projects, several models, consumers with plans, rushes, faults. Google, who counts by himself,
//! refuses nothing because of us; every limit is held over every window; and where more is wanted than there
//! is, at least 95 % of what is possible is sent.

#![allow(clippy::print_stdout, reason = "a test shows its figures")]

mod demand;
mod events;
mod exact;
mod fate;
mod google;
mod holds;
mod lane;
mod ledgers;
mod possible;
mod run;
mod series;
mod setting;
mod supply;
mod usage;
mod verdict;

use keybroker::ledger::{calendar::Calendar, redis::Scripts};
use ledgers::{Both, Kernels, OnRedis};
use run::Stretch;
use setting::{AUTUMN, HOUR, PacificDay, SPRING};
use verdict::Verdict;

/// One is enough while building without optimisation, where a day takes ten times as long.
const SEEDS: &[u64] = if cfg!(debug_assertions) { &[1] } else { &[1, 2, 3] };

/// The rule of the trailing window, in Lua.
const RIGHT: &str = "return (math.floor(granted_at / width) + 1) * width + span + send_within";

#[track_caller]
fn expect_faultless(verdict: &Verdict) {
    println!("{verdict}");
    assert_eq!(verdict.faults(), Vec::<String>::new());
}

#[test]
fn on_the_day_of_23_hours_no_window_is_over_and_scarce_quota_is_used() {
    whole_day(&SPRING);
}

#[test]
fn on_the_day_of_25_hours_no_window_is_over_and_scarce_quota_is_used() {
    whole_day(&AUTUMN);
}

fn whole_day(day: &'static PacificDay) {
    for &seed in SEEDS {
        let started = std::time::Instant::now();
        let verdict = Stretch::whole(day, seed).run(&mut Kernels::default());
        println!("{}, seed {seed}, in {:?}", day.date, started.elapsed());
        expect_faultless(&verdict);
        // The day had what it is meant to have: scarcity of each kind, and refusals for others' requests.
        for kind in [
            "requests_per_minute",
            "input_tokens_per_minute",
            "spend_per_10_minutes",
            "requests_per_day",
            "in_flight",
        ] {
            assert!(verdict.telling().any(|name| name.contains(kind)), "{kind} bound nowhere");
        }
        for owner in ["billing account", "consumer", "pool batch, ", "pool chat:"] {
            assert!(verdict.telling().any(|name| name.starts_with(owner)), "no {owner} was bound");
        }
        for outcome in ["minute_quota", "daily_quota"] {
            assert!(verdict.refusals.contains_key(outcome), "Google refused nobody for {outcome}");
        }
    }
}

#[test]
fn around_midnight_redis_answers_every_operation_as_the_kernel_does() {
    for day in [&SPRING, &AUTUMN] {
        let mut both = Both::start(Scripts::default());
        let verdict = Stretch::around_dusk(day, 22, 4, 7).run(&mut both);
        println!("{}: {} batches are answered alike", day.date, both.agreed);
        expect_faultless(&verdict);
        assert!(both.agreed > 10_000);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let run = |seed| {
        let stretch = Stretch { traced: true, ..Stretch::around_dusk(&AUTUMN, 40, 20, seed) };
        stretch.run(&mut Kernels::default())
    };
    let (once, again, other) = (run(11), run(11), run(12));
    assert!(once.trace.len() > 1_000_000);
    assert!(once.trace == again.trace, "the same seed gave other bytes");
    assert_eq!(once, again);
    assert!(once.trace != other.trace);
}

/// A known-bad rule, by a change of the script that runs a batch.
fn with_wrong_rule(from: &str, to: &str) -> Verdict {
    let scripts = Scripts::default().changed(from, to);
    Stretch::around_dusk(&AUTUMN, 6, 2, 5).run(&mut OnRedis::start(scripts))
}

#[test]
fn a_fixed_window_is_found_by_google_and_by_the_limits() {
    let verdict = with_wrong_rule(RIGHT, "return (math.floor(granted_at / span) + 1) * span");
    assert!(!verdict.our_fault.is_empty(), "{verdict}");
    assert!(!verdict.over.is_empty(), "{verdict}");
}

#[test]
fn a_window_that_forgets_the_way_to_google_is_found() {
    let verdict = with_wrong_rule(RIGHT, "return (math.floor(granted_at / width) + 1) * width + span");
    assert!(!verdict.our_fault.is_empty(), "{verdict}");
}

#[test]
fn a_window_that_is_kept_for_too_long_is_found_to_be_badly_used() {
    let verdict = with_wrong_rule(RIGHT, &format!("{RIGHT} + 8000"));
    assert!(verdict.over.is_empty(), "{verdict}");
    assert!(!verdict.unused().is_empty(), "{verdict}");
}

#[test]
fn tokens_that_are_not_given_back_are_found_to_be_badly_used() {
    let verdict = with_wrong_rule("if used >= 0 then return used - amount end", "");
    assert!(verdict.unused().iter().any(|limit| limit.contains("input_tokens_per_minute")), "{verdict}");
}

#[test]
fn usage_that_is_not_trued_up_is_found() {
    let verdict = with_wrong_rule("known and op[4] >= 0 and op[4] or amounts[2]", "amounts[2]");
    assert!(!verdict.usage.is_empty(), "{verdict}");
    assert!(verdict.over.is_empty(), "{verdict}");
}

#[test]
fn a_slot_that_is_not_given_back_is_found_by_the_gauges() {
    let verdict =
        with_wrong_rule("if window[2] == 0 or op[3] == 'r' then", "if window[2] ~= 0 and op[3] == 'r' then");
    assert!(!verdict.gauges.is_empty(), "{verdict}");
}

/// Days of 24 hours, counted from the right beginning of the day.
fn of_24_hours(day: &PacificDay, now: i64) -> Calendar {
    Calendar { day_ends: (-2..=3).map(|days| day.dawn + days * 24 * HOUR).collect(), ..Calendar::around(now) }
}

#[test]
fn a_day_of_24_hours_where_there_are_25_is_found_to_be_over() {
    let stretch = Stretch::around_dusk(&AUTUMN, 150, 5, 3);
    let verdict = Stretch { calendar: of_24_hours, ..stretch }.run(&mut Kernels::default());
    let days: Vec<_> = verdict.our_fault.iter().filter(|fault| fault.contains("Rpd")).collect();
    assert!(!days.is_empty(), "{verdict}");
    assert!(verdict.over.iter().any(|limit| limit.contains("requests_per_day")), "{:?}", verdict.over);
    expect_faultless(&stretch.run(&mut Kernels::default()));
}

#[test]
fn a_day_of_24_hours_where_there_are_23_is_found_to_be_badly_used() {
    let stretch = Stretch::around_dusk(&SPRING, 60, 50, 3);
    let verdict = Stretch { calendar: of_24_hours, ..stretch }.run(&mut Kernels::default());
    assert!(verdict.our_fault.is_empty(), "{verdict}");
    assert!(verdict.unused().iter().any(|limit| limit.starts_with("project free-a")), "{verdict}");
    expect_faultless(&stretch.run(&mut Kernels::default()));
}
