//! Every dimension over every window: what fits is granted, and the refusal names the limit and the
//! exact instant of its end.

use futures_util::future::join_all;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use keybroker::ledger::steady::CLOCK_MARGIN;
use keybroker_proto::v1::{AcquireRequest, Lease};
use keybroker_tests::{
    harness::{
        api::wire,
        refused::{Refused, now},
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};
use tonic::Status;

use super::support::of_pool;

on_both_ledgers!(
    every_dimension_and_window_refuses_by_its_name_until_the_exact_instant,
    what_a_second_limits_is_granted_again_at_the_instant_that_was_told,
);

/// A pool's `send_within`, in milliseconds.
const SEND_WITHIN: i64 = 100;
/// For how much longer than its window a lease counts, beside a sub-bucket, in milliseconds.
const COUNTED_AFTER: i64 = SEND_WITHIN + CLOCK_MARGIN;
/// What is counted, how much of it two requests of [`request`] are, and how the limit is called.
const DIMENSIONS: [(&str, &str, &str); 4] = [
    ("requests", "2", "requests"),
    ("input_tokens", "8", "input tokens"),
    ("total_tokens", "20", "total tokens"),
    ("spend", "0.000032", "US dollars"),
];
/// Over which windows, and how they are called.
const WINDOWS: [(&str, &str); 5] = [
    ("second", "per second"),
    ("minute", "per minute"),
    ("10_minutes", "per 10 minutes"),
    ("day", "per Pacific day"),
    ("month", "per month"),
];

/// A pool for each limit, by the name of its field.
fn config() -> String {
    let mut text = "[[prices]]\ninput_per_million = 1\noutput_per_million = 2\n".to_owned();
    let mut pool = |field: &str, amount: &str| {
        text += &format!(
            "[[pools]]\nname = \"{field}\"\nsend_within = \"{SEND_WITHIN}ms\"\n\
             [[projects]]\nid = \"of-{field}\"\npool = \"{field}\"\nlimits = [ {{ {field} = {amount} }} ]\n\
             keys = [ {{ id = \"key-{field}\", secret = \"test-key-window-{field}\" }} ]\n"
        );
    };
    for (counted, amount, _) in DIMENSIONS {
        WINDOWS.iter().for_each(|(window, _)| pool(&format!("{counted}_per_{window}"), amount));
    }
    pool("in_flight", "2");
    text
}

/// 4 tokens in and 6 out: 10 in all, and 16 millionths of a dollar.
fn request(field: &str) -> AcquireRequest {
    AcquireRequest { input_tokens: 4, output_tokens: 6, ..of_pool(field) }
}

/// Asks three times at once, for what two may have: the leases, and the refusal.
async fn ask_for_three(rig: &Rig, field: &str) -> (Vec<Lease>, Refused) {
    let answers: Vec<Result<Lease, Status>> = join_all((0..3).map(|_| rig.api.acquire(request(field)))).await;
    let (granted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let refused: Vec<_> = refused.into_iter().map(|answer| Refused::of(&answer.unwrap_err())).collect();
    assert_eq!((granted.len(), refused.len()), (2, 1), "{field}: {refused:?}");
    (granted.into_iter().map(Result::unwrap).collect(), refused.into_iter().next().unwrap())
}

async fn every_dimension_and_window_refuses_by_its_name_until_the_exact_instant(backing: Backing) {
    let rig = Rig::start(backing, &config()).await;
    for (counted, _, name) in DIMENSIONS {
        for (window, window_name) in WINDOWS {
            let field = format!("{counted}_per_{window}");
            let before = now();
            let (_, refusal) = ask_for_three(&rig, &field).await;
            let after = now();
            refusal.is_of_limit(
                &format!("project of-{field}, model gemini-fake"),
                &format!("{name} {window_name}"),
            );
            let (earliest, latest) = (end_of(window, before), end_of(window, after));
            assert!(
                (earliest..=latest).contains(&refusal.retry_at),
                "{field}: {earliest}, {latest}, {refusal:?}"
            );
            assert_eq!(end_of(window, start_of(window, refusal.retry_at)), refusal.retry_at, "{field}");
            let told = refusal.retry_at - i64::try_from(refusal.retry_after.unwrap().as_millis()).unwrap();
            assert!((before..=after).contains(&told), "{field}: RetryInfo is the same instant");
        }
    }
    let (leases, refusal) = ask_for_three(&rig, "in_flight").await;
    refusal.is_of_limit("project of-in_flight, model gemini-fake", "requests in flight");
    let expires_at =
        |lease: &Lease| lease.expires_at.map(|at| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000);
    assert_eq!(Some(refusal.retry_at), leases.iter().filter_map(expires_at).min());
}

/// When what is charged at an instant ends to count.
fn end_of(window: &str, at: i64) -> i64 {
    let trailing = |span: i64| {
        let bucket = (span + 59) / 60;
        (at / bucket + 1) * bucket + span + COUNTED_AFTER
    };
    let instant = Timestamp::from_millisecond(at + COUNTED_AFTER).unwrap();
    let pacific = instant.to_zoned(TimeZone::get("America/Los_Angeles").unwrap());
    match window {
        "second" => trailing(1_000),
        "minute" => trailing(60_000),
        "10_minutes" => trailing(600_000),
        "day" => pacific.tomorrow().unwrap().start_of_day().unwrap().timestamp().as_millisecond(),
        "month" => {
            let next = pacific.first_of_month().unwrap().checked_add(1.month()).unwrap();
            next.start_of_day().unwrap().timestamp().as_millisecond()
        }
        other => panic!("{other}"),
    }
}

/// An instant whose charge ends then.
fn start_of(window: &str, end: i64) -> i64 {
    match window {
        "second" => end - COUNTED_AFTER - 1_000 - 1,
        "minute" => end - COUNTED_AFTER - 60_000 - 1,
        "10_minutes" => end - COUNTED_AFTER - 600_000 - 1,
        _ => end - COUNTED_AFTER - 1,
    }
}

async fn what_a_second_limits_is_granted_again_at_the_instant_that_was_told(backing: Backing) {
    let rig = Rig::start(backing, &config()).await;
    for (counted, ..) in DIMENSIONS {
        let field = format!("{counted}_per_second");
        let (_, refusal) = ask_for_three(&rig, &field).await;
        let waiting =
            AcquireRequest { wait: Some(wire(std::time::Duration::from_secs(5))), ..request(&field) };
        rig.api.acquire(waiting).await.unwrap();
        let late = now() - refusal.retry_at;
        assert!((0..500).contains(&late), "{field}: {late} ms after the instant that was told");
    }
}
