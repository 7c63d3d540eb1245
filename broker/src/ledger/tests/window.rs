use proptest::{collection::vec, prelude::*};

use crate::ledger::{
    Dimension, FOREVER, Span,
    calendar::Calendar,
    window::{Charged, Window},
};

/// 2026-03-09 00:00 PDT.
const MIDNIGHT: i64 = 1_773_039_600_000;
const DAY: i64 = 86_400_000;

fn requests(span: Span, limit: i64) -> Window {
    Window::new(Dimension::Requests, span, limit, 0)
}

fn charged(granted_at: i64, send_within: i64) -> Charged {
    Charged { granted_at, send_within, expires_at: granted_at + 60_000 }
}

#[test]
fn a_charge_near_midnight_counts_for_both_days() {
    let now = MIDNIGHT - 500;
    let mut window = requests(Span::Day, 1);
    let end = window.end_of(charged(now, 1_000), &Calendar::around(now));
    assert_eq!(end, MIDNIGHT + DAY);
    window.add(now, end, 1);
    assert_eq!(window.used(MIDNIGHT - 1), 1);
    assert_eq!(window.used(MIDNIGHT + DAY - 1), 1);
    assert_eq!(window.ready_at(now, 1, 0), MIDNIGHT + DAY);
}

#[test]
fn a_charge_that_arrives_before_midnight_counts_for_its_day_alone() {
    let now = MIDNIGHT - 1_001;
    let window = requests(Span::Day, 1);
    assert_eq!(window.end_of(charged(now, 1_000), &Calendar::around(now)), MIDNIGHT);
}

#[test]
fn a_request_larger_than_the_limit_never_fits() {
    assert_eq!(requests(Span::Day, 3).ready_at(MIDNIGHT, 4, 0), FOREVER);
    assert_eq!(requests(Span::Day, 0).ready_at(MIDNIGHT, 1, 0), FOREVER);
}

#[test]
fn nothing_asked_always_fits() {
    let mut window = requests(Span::Day, 1);
    window.add(MIDNIGHT, MIDNIGHT + DAY, 5);
    assert_eq!(window.ready_at(MIDNIGHT, 0, 0), MIDNIGHT);
}

#[test]
fn what_is_taken_back_is_never_more_than_what_counts() {
    let mut window = requests(Span::Held, 5);
    window.add(MIDNIGHT, MIDNIGHT + 10, 2);
    window.add(MIDNIGHT, MIDNIGHT + 20, 2);
    window.subtract(MIDNIGHT, MIDNIGHT + 10, 7);
    window.subtract(MIDNIGHT, MIDNIGHT + 15, 7);
    assert_eq!(window.used(MIDNIGHT), 2);
}

#[test]
fn a_charge_that_has_ended_is_not_counted_again() {
    let mut window = requests(Span::Held, 5);
    window.add(MIDNIGHT, MIDNIGHT, 2);
    assert_eq!(window, requests(Span::Held, 5));
}

fn spans() -> impl Strategy<Value = i64> {
    prop_oneof![1..200_i64, Just(1_000), Just(60_000), Just(600_000), 200..100_000_i64]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a request's way to Google takes, no window of the span's length, however aligned,
    /// sees more than the limit; and what is told when it does not fit is exact.
    #[test]
    fn no_trailing_window_however_aligned_exceeds_the_limit(
        start in 0..1_000_000_i64,
        span in spans(),
        limit in 1..8_i64,
        send_within in 0..3_000_i64,
        tries in vec((0..100_i64, 1..4_i64), 1..80),
    ) {
        let calendar = Calendar::around(0);
        let mut window = requests(Span::Trailing(span), limit);
        let mut granted: Vec<(i64, i64)> = Vec::new();
        let mut now = start;
        for (percent, amount) in tries {
            now += percent * (span + send_within) / 200;
            let ready = window.ready_at(now, amount, 0);
            if ready == now {
                window.add(now, window.end_of(charged(now, send_within), &calendar), amount);
                granted.push((now, amount));
            } else if ready < FOREVER {
                prop_assert!(ready > now);
                prop_assert_eq!(window.ready_at(ready, amount, 0), ready);
                prop_assert_eq!(window.ready_at(ready - 1, amount, 0), ready);
            }
        }
        for (first, _) in &granted {
            // The worst window begins when the request of this grant arrives as late as it may.
            let begins = first + send_within;
            let in_window = |at: i64| at + send_within >= begins && at < begins + span;
            let seen: i64 = granted.iter().filter(|(at, _)| in_window(*at)).map(|(_, amount)| amount).sum();
            prop_assert!(seen <= limit, "{} of {} from {}", seen, limit, begins);
        }
    }
}
