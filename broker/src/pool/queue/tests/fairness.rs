//! Ten thousand waiters: what they cost the ledger, when they are served, and in whose turn.

use std::collections::BTreeMap;

use super::{
    super::MOST_DIRECT,
    ledger::{Outcome, Setting, wish},
};
use crate::{catalogue::Limit, ledger::steady::CLOCK_MARGIN, pool::AcquireError};

/// What a request counts in a trailing minute: the minute, the time to send within, the margin, and the sub-bucket.
const REFILL: u64 = 62_000 + CLOCK_MARGIN.unsigned_abs();

fn served(outcomes: &[(&str, Outcome)]) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for (consumer, (_, answer)) in outcomes {
        *served.entry((*consumer).to_owned()).or_default() += usize::from(answer.is_ok());
    }
    served
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_for_ten_keys_cost_what_is_granted_and_a_little_each_second() {
    let setting = Setting::new(10, vec![Limit::requests_per_minute(10)]).await;
    let tasks: Vec<_> =
        (0..10_000).map(|index| setting.ask(wish(["a", "b", "c", "d"][index % 4], 600_000))).collect();
    let mut granted = BTreeMap::<u64, usize>::new();
    let mut refused = BTreeMap::<u64, usize>::new();
    for task in tasks {
        match task.await.unwrap() {
            (at, Ok(_)) => *granted.entry(at).or_default() += 1,
            (at, Err(AcquireError::Refused(_))) => *refused.entry(at).or_default() += 1,
            (at, Err(other)) => panic!("{other:?} at {at}"),
        }
    }
    // Each at the exact instant: all hundred at each of them.
    // From the second time on a grant stands the margin inside of its sub-bucket, of which a whole one is counted.
    let instant = |turn: u64| if turn == 0 { 0 } else { REFILL + (turn - 1) * 62_000 };
    let instants: Vec<_> = (0..10).map(|turn| (instant(turn), 100)).collect();
    assert_eq!(granted.into_iter().collect::<Vec<_>>(), instants);
    // At the last of those the next one is known to lie beyond all deadlines.
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), [(instant(9), 9000)]);
    for (second, (acquires, grants)) in setting.ledger.asked.lock().unwrap().iter() {
        let bound = if *second == 0 { grants * 5 / 4 + MOST_DIRECT } else { grants * 5 / 4 + 2 };
        assert!(*acquires <= bound, "{acquires} acquires for {grants} grants in second {second}");
    }
    assert_eq!((setting.stats.view().waiting, setting.stats.view().granted), (0, 1000));
}

#[tokio::test(start_paused = true)]
async fn consumers_with_very_unequal_numbers_of_waiters_get_equal_shares_within_one() {
    let setting = Setting::new(10, vec![Limit::requests_per_minute(10)]).await;
    setting.exhaust().await;
    let mut tasks = Vec::new();
    for (consumer, waiters) in [("many", 5000), ("some", 500), ("few", 120)] {
        tasks.extend((0..waiters).map(|_| (consumer, setting.ask(wish(consumer, 3 * REFILL + 1000)))));
    }
    setting.settle().await;
    assert_eq!(setting.stats.view().waiting, 5620);
    let mut outcomes = Vec::new();
    for (consumer, task) in tasks {
        outcomes.push((consumer, task.await.unwrap()));
    }
    for turns in 1..=3 {
        let until: Vec<_> = outcomes.iter().filter(|(_, (at, _))| *at <= turns * REFILL).cloned().collect();
        let served = served(&until);
        let share = usize::try_from(turns).unwrap() * 100 / 3;
        assert!(served.values().all(|count| (share..=share + 1).contains(count)), "{served:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_that_gives_nothing_back_asks_for_nobody() {
    let setting = Setting::new(1, vec![Limit::requests_per_minute(200)]).await;
    let grants = setting.exhaust().await;
    let _waiters: Vec<_> = (0..100).map(|_| setting.ask(wish("a", 600_000))).collect();
    setting.settle().await;
    let before = setting.ledger.totals().0;
    for grant in grants {
        setting.report(&grant, crate::gemini::Outcome::Success).await;
    }
    setting.settle().await;
    assert_eq!(setting.ledger.totals().0, before);
}

#[tokio::test(start_paused = true)]
async fn each_refund_is_granted_at_once_and_costs_two_calls() {
    let setting = Setting::new(1, vec![Limit::requests_per_minute(50)]).await;
    let grants = setting.exhaust().await;
    let waiters: Vec<_> = (0..1000).map(|_| setting.ask(wish("a", 600_000))).collect();
    setting.settle().await;
    let (before, at) = (setting.ledger.totals().0, setting.millis());
    for grant in &grants {
        setting.report_not_sent(grant).await;
        setting.settle().await;
    }
    assert!(setting.ledger.totals().0 - before <= 2 * grants.len(), "{:?}", setting.ledger.totals());
    for waiter in waiters.into_iter().take(grants.len()) {
        let (when, answer) = waiter.await.unwrap();
        assert!(answer.is_ok() && when == at, "{answer:?} at {when}");
    }
}
