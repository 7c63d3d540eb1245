//! A pool whose waiters come, go and are told.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use super::{
    super::MOST_WAITERS,
    ledger::{Outcome, Setting, config, in_flight, per_second, wish},
};
use crate::{
    catalogue::{Catalogue, Limit, Plan},
    ledger::steady::CLOCK_MARGIN,
    pool::{AcquireError, Refusal, RefusalReason, Wish},
};

const REFILL: u64 = 62_000 + CLOCK_MARGIN.unsigned_abs();

fn refusal(outcome: &Outcome) -> &Refusal {
    match &outcome.1 {
        Err(AcquireError::Refused(refusal)) => refusal,
        other => panic!("not refused but {other:?}"),
    }
}

async fn one_a_minute() -> Setting {
    let setting = Setting::new(1, vec![Limit::requests_per_minute(1)]).await;
    assert_eq!(setting.exhaust().await.len(), 1);
    setting
}

/// Asks one after the other, so that they arrive in this order.
async fn in_order(setting: &Setting, wishes: Vec<Wish>) -> Vec<JoinHandle<Outcome>> {
    let mut tasks = Vec::new();
    for wish in wishes {
        tasks.push(setting.ask(wish));
        setting.settle().await;
    }
    tasks
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_frees_is_granted_at_once_and_in_order() {
    let setting = Setting::new(1, vec![in_flight(1)]).await;
    let mut grant = setting.ask(wish("", 0)).await.unwrap().1.unwrap();
    let waiters = in_order(&setting, vec![wish("a", 50_000); 5]).await;
    for (index, waiter) in waiters.into_iter().enumerate() {
        tokio::time::sleep(Duration::from_millis(137)).await;
        setting.report(&grant, crate::gemini::Outcome::Success).await;
        let (at, answer) = waiter.await.unwrap();
        grant = answer.unwrap();
        assert_eq!(at, 137 * (index as u64 + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_after_waiting_may_be_sent_within_as_much_longer_and_no_more() {
    let setting = one_a_minute().await;
    tokio::time::sleep(Duration::from_millis(1234)).await;
    let (at, grant) = setting.ask(wish("a", 600_000)).await.unwrap();
    assert_eq!(at, REFILL);
    assert_eq!(grant.unwrap().send_within, Duration::from_millis(REFILL - 1234 + 1000));
    tokio::time::sleep(Duration::from_secs(100)).await;
    let (_, grant) = setting.ask(wish("a", 600_000)).await.unwrap();
    assert_eq!(grant.unwrap().send_within, Duration::from_secs(1), "nothing was waited for");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_cancelled_is_never_granted() {
    let setting = one_a_minute().await;
    let waiters = in_order(&setting, vec![wish("a", 600_000); 10]).await;
    for waiter in &waiters[..9] {
        waiter.abort();
    }
    setting.settle().await;
    assert_eq!(setting.stats.view().waiting, 1);
    let last = waiters.into_iter().next_back().unwrap().await.unwrap();
    assert!(last.1.is_ok() && last.0 == REFILL, "{last:?}");
    assert_eq!(setting.ledger.totals().1, 2, "nothing was granted to be given back");
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_while_its_waiter_leaves_goes_to_the_next_one() {
    let latency = Duration::from_millis(10);
    let setting = Setting::with_latency(1, vec![in_flight(1)], latency).await;
    let held = setting.ask(wish("", 0)).await.unwrap().1.unwrap();
    let (first, second) = (setting.ask(wish("a", 50_000)), setting.ask(wish("a", 50_000)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    setting.report(&held, crate::gemini::Outcome::Success).await;
    // The ledger has granted it, and the answer is on its way.
    tokio::time::sleep(Duration::from_millis(5)).await;
    first.abort();
    let (at, answer) = second.await.unwrap();
    assert!(answer.is_ok() && at < 200, "{answer:?} at {at}");
    assert_eq!(setting.ledger.totals().1, 3);
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_kept_to_the_millisecond() {
    let setting = Setting::new(1, vec![in_flight(1)]).await;
    assert_eq!(setting.exhaust().await.len(), 1);
    let (first, second) = (setting.ask(wish("a", 5123)), setting.ask(wish("a", 4567)));
    for (waiter, deadline) in [(second, 4567), (first, 5123)] {
        let outcome = waiter.await.unwrap();
        assert_eq!(outcome.0, deadline);
        assert_eq!(refusal(&outcome).reason, RefusalReason::QuotaExhausted);
        assert_eq!(refusal(&outcome).retry_after, Duration::from_millis(60_000 - deadline));
    }
}

#[tokio::test(start_paused = true)]
async fn the_estimate_is_the_time_for_those_ahead_at_the_rate_of_late() {
    let setting = Setting::new(1, vec![per_second(1)]).await;
    let tasks = in_order(&setting, vec![wish("a", 600_000); 50]).await;
    let hasty = [setting.ask(wish("b", 0)).await.unwrap(), setting.ask(wish("a", 2200)).await.unwrap()];
    assert!(hasty[0].0 == 0 && refusal(&hasty[0]).retry_after > Duration::from_secs(2), "{hasty:?}");
    // The next instant is in time for it, and goes to another; the one after that is not.
    assert!((2100..2200).contains(&hasty[1].0), "{hasty:?}");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let newcomer = setting.ask(wish("a", 0)).await.unwrap();
    let refusal = refusal(&newcomer);
    // About one lease in two seconds.
    assert!((35..=40).contains(&refusal.queue_length), "{refusal:?}");
    let seconds = refusal.estimated_wait.as_secs_f64() / refusal.queue_length as f64;
    assert!((1.9..2.1).contains(&seconds), "{refusal:?}");
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn whoever_could_only_be_served_after_its_deadline_is_refused_at_once() {
    let setting = one_a_minute().await;
    let direct = setting.ask(wish("a", REFILL - 1)).await.unwrap();
    assert_eq!((direct.0, refusal(&direct).retry_after), (0, Duration::from_millis(REFILL)));
    let _waits = in_order(&setting, vec![wish("a", REFILL)]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = setting.ledger.totals().0;
    let queued = setting.ask(wish("b", REFILL - 501)).await.unwrap();
    assert_eq!((queued.0, refusal(&queued).retry_after), (500, Duration::from_millis(REFILL - 500)));
    assert_eq!(setting.ledger.totals().0, before, "the ledger was not asked");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_at_the_instant_of_the_grant_is_in_time() {
    let setting = one_a_minute().await;
    let (at, answer) = setting.ask(wish("a", REFILL)).await.unwrap();
    assert!(answer.is_ok() && at == REFILL, "{answer:?} at {at}");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_wait_takes_nothing_from_those_who_do_and_is_told_how_long_it_would_be() {
    let setting = Setting::new(1, vec![per_second(1)]).await;
    let waiters = in_order(&setting, vec![wish("a", 600_000); 20]).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(777)).await;
        let hasty = setting.ask(wish("b", 0)).await.unwrap();
        assert!(refusal(&hasty).queue_length >= 14, "{hasty:?}");
    }
    assert_eq!(setting.ledger.asked_by("b"), 0, "the ledger was not asked for them");
    tokio::time::sleep(Duration::from_secs(60)).await;
    for waiter in waiters {
        assert!(waiter.await.unwrap().1.is_ok());
    }
    assert!(setting.ask(wish("b", 0)).await.unwrap().1.is_ok(), "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_wait_is_served_by_keys_that_nobody_waits_for() {
    let setting = Setting::new(2, vec![per_second(5)]).await;
    let pinned = Wish { project: "p0".to_owned(), wait: Duration::from_secs(60), ..wish("a", 0) };
    let waiters = in_order(&setting, vec![pinned; 7]).await;
    assert_eq!(setting.stats.view().waiting, 2);
    for _ in 0..5 {
        let grant = setting.ask(wish("b", 0)).await.unwrap().1.unwrap();
        assert_eq!(grant.project, "p1");
    }
    assert!(setting.ask(wish("b", 0)).await.unwrap().1.is_err());
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().1.unwrap().project, "p0");
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_served_is_told_so_also_while_others_wait() {
    let setting = one_a_minute().await;
    let _waits = in_order(&setting, vec![wish("a", 600_000)]).await;
    let never = setting.ask(Wish { permits: 2, ..wish("b", 600_000) }).await.unwrap();
    let Err(AcquireError::Never(refusal)) = &never.1 else { panic!("{never:?}") };
    assert_eq!((never.0, refusal.reason), (0, RefusalReason::RequestExceedsLimit));
    let none = Wish { exclude_key_ids: vec!["k0".to_owned()], ..wish("b", 0) };
    let none = setting.ask(none).await.unwrap();
    assert!(matches!(&none.1, Err(AcquireError::Never(_))), "{none:?}");
}

#[tokio::test(start_paused = true)]
async fn small_requests_go_on_while_a_large_one_waits_and_it_is_served_at_its_instant() {
    let setting = Setting::new(2, vec![Limit::requests_per_minute(10)]).await;
    for _ in 0..8 {
        setting.ask(wish("", 0)).await.unwrap().1.unwrap();
    }
    let large = in_order(&setting, vec![Wish { permits: 10, ..wish("large", 600_000) }]).await.remove(0);
    let small = in_order(&setting, vec![wish("small", 600_000); 40]).await;
    let (at, answer) = large.await.unwrap();
    assert_eq!(at, REFILL);
    let project = answer.unwrap().project;
    let mut early = 0;
    for task in small {
        let (at, answer) = task.await.unwrap();
        let grant = answer.unwrap();
        if at < REFILL {
            early += 1;
            assert_ne!(grant.project, project, "its key was kept for the large one");
        }
    }
    assert_eq!(early, 6, "all that the other key had left");
}

#[tokio::test(start_paused = true)]
async fn draining_ends_all_who_wait() {
    let setting = one_a_minute().await;
    let waiters = in_order(&setting, vec![wish("a", 600_000); 20]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    setting.draining.cancel();
    for waiter in waiters {
        let (at, answer) = waiter.await.unwrap();
        assert!(matches!(answer, Err(AcquireError::ShuttingDown)) && at == 3000, "{answer:?} at {at}");
    }
    assert_eq!(setting.stats.view().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_catalogue_serves_those_who_wait_at_once() {
    let mut setting = one_a_minute().await;
    let waiters = in_order(&setting, vec![wish("a", 600_000); 3]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    setting.change(config(3, vec![Limit::requests_per_minute(1)])).await;
    let mut served = Vec::new();
    for waiter in waiters {
        served.push(waiter.await.unwrap());
    }
    assert!(served[..2].iter().all(|(at, answer)| *at == 5000 && answer.is_ok()), "{served:?}");
    assert!(served[2].0 == REFILL && served[2].1.is_ok(), "{:?}", served[2]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_gone_leaves_nobody_waiting() {
    let setting = one_a_minute().await;
    let waiter = in_order(&setting, vec![wish("a", 600_000)]).await.remove(0);
    setting.queues.close();
    let (at, answer) = waiter.await.unwrap();
    assert!(matches!(answer, Err(AcquireError::PoolGone)) && at == 0, "{answer:?} at {at}");
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_fails_fails_all_who_wait_by_one_call() {
    let setting = one_a_minute().await;
    let waiters = in_order(&setting, vec![wish("a", 600_000); 100]).await;
    setting.ledger.set_down(true);
    for waiter in waiters {
        assert!(matches!(waiter.await.unwrap().1, Err(AcquireError::Ledger(_))));
    }
    assert_eq!(setting.stats.view().waiting, 0);
    setting.ledger.set_down(false);
    tokio::time::sleep(Duration::from_millis(REFILL)).await;
    assert!(setting.ask(wish("a", 0)).await.unwrap().1.is_ok());
}

#[tokio::test(start_paused = true)]
async fn more_than_the_most_are_refused_with_the_estimate() {
    let setting = one_a_minute().await;
    let waiters: Vec<_> = (0..MOST_WAITERS).map(|_| setting.ask(wish("a", 600_000))).collect();
    setting.settle().await;
    assert_eq!(setting.stats.view().waiting, i64::try_from(MOST_WAITERS).unwrap());
    let (at, answer) = setting.ask(wish("b", 600_000)).await.unwrap();
    let Err(AcquireError::Overloaded { retry_after, queue_length }) = answer else { panic!("{answer:?}") };
    assert_eq!((at, queue_length), (0, MOST_WAITERS));
    assert!(retry_after >= Duration::from_millis(REFILL), "{retry_after:?}");
    waiters.iter().for_each(JoinHandle::abort);
    setting.settle().await;
    let waits = setting.ask(wish("b", 600_000)).await.unwrap();
    assert!(waits.1.is_ok() && waits.0 == REFILL, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_report_to_another_broker_is_found_within_a_second() {
    let setting = Setting::new(1, vec![in_flight(1)]).await;
    let held = setting.ask(wish("", 0)).await.unwrap().1.unwrap();
    let waiter = in_order(&setting, vec![wish("a", 50_000)]).await.remove(0);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Another broker, with queues of its own.
    let mut other = setting.clone();
    other.queues = Arc::default();
    other.change(config(1, vec![in_flight(1)])).await;
    other.report(&held, crate::gemini::Outcome::Success).await;
    let (at, answer) = waiter.await.unwrap();
    assert!(answer.is_ok() && at == 1000, "{answer:?} at {at}");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_at_its_plan_blocks_nobody_else_and_is_served_at_its_own_instant() {
    let setting = Setting::new(2, vec![per_second(5)]).await;
    let mut catalogue = Catalogue::default();
    catalogue.plans.insert("three".to_owned(), Plan::built_in(3));
    catalogue.consumers.insert("limited".to_owned(), "three".to_owned());
    setting.pool.set_catalogue(Arc::new(catalogue));
    let limited = in_order(&setting, vec![wish("limited", 600_000); 7]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = setting.ledger.totals().0;
    for task in in_order(&setting, vec![wish("other", 600_000); 10]).await {
        let (at, answer) = task.await.unwrap();
        assert!(answer.is_ok() && at == 5000, "{answer:?} at {at}");
    }
    assert!(setting.ledger.totals().0 - before <= 11, "{} calls", setting.ledger.totals().0 - before);
    let hasty = setting.ask(wish("limited", 0)).await.unwrap();
    assert_eq!(refusal(&hasty).subject, "consumer limited");
    let mut served = Vec::new();
    for task in limited {
        let (at, answer) = task.await.unwrap();
        assert!(answer.is_ok(), "{answer:?}");
        served.push(at);
    }
    // The second time begins a tenth of a second into its sub-bucket, of which a whole one is counted.
    assert_eq!(served, [0, 0, 0, REFILL, REFILL, REFILL, REFILL + 62_000]);
}
