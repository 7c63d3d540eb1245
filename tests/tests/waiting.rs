//! Waiting, with a real broker on both ledgers: in whose turn and at which instant leases are given,
//! and what those are told who get none.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use keybroker::ledger::steady::CLOCK_MARGIN;
use keybroker_proto::v1::{AcquireRequest, Lease};
use keybroker_tests::{
    harness::{
        api::{Details, MODEL, ask, not_sent, reported, wire},
        broker::BrokerOptions,
        rig::{Backing, Rig, eventually},
    },
    on_both_ledgers,
};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

/// Twenty requests in any second, by two keys.
const CONFIG: &str = r#"
default_plan = "off"

[[pools]]
send_within = "100ms"
limits = [ { requests_per_second = 10 } ]

[[projects]]
id = "alpha"
keys = [ { id = "a", secret = "fake-key-for-tests-alpha-000000000000000" } ]

[[projects]]
id = "beta"
keys = [ { id = "b", secret = "fake-key-for-tests-beta-0000000000000000" } ]
"#;
const AT_ONCE: usize = 20;
/// A second, the time to send within with its margin, and a sub-bucket.
const REFILL: Duration = Duration::from_millis(1117 + CLOCK_MARGIN.unsigned_abs());
/// How late a grant may be seen on a busy machine.
const SLACK: Duration = Duration::from_millis(400);

const ONE_IN_FLIGHT: &str = r#"
[[projects]]
id = "alpha"
limits = [ { in_flight = 1 } ]
keys = [ { id = "a", secret = "fake-key-for-tests-alpha-000000000000000" } ]
"#;

on_both_ledgers!(
    two_hundred_waiters_of_three_consumers_are_served_in_fair_order_at_the_right_instants,
    a_slot_that_frees_goes_to_the_one_who_waits_for_longest,
    a_waiter_whose_call_is_dropped_takes_nothing,
    a_broker_that_shuts_down_sends_its_waiters_away,
    a_new_configuration_serves_those_who_wait,
);

fn waiting(consumer: &str, wait: Duration) -> AcquireRequest {
    AcquireRequest { consumer: consumer.to_owned(), wait: Some(wire(wait)), ..ask(MODEL) }
}

type Answered = (Instant, Result<Lease, Status>);

fn wait(rig: &Rig, consumer: &str, wait: Duration) -> JoinHandle<Answered> {
    let (api, request) = (rig.api.clone(), waiting(consumer, wait));
    tokio::spawn(async move {
        let answer = api.acquire(request).await;
        (Instant::now(), answer)
    })
}

async fn so_many_wait(rig: &Rig, count: i64) {
    let reached = eventually(async || rig.api.inspect().await.counters.unwrap().waiting == count).await;
    assert!(reached, "{count} should wait: {:?}", rig.api.inspect().await.counters);
}

/// In which order the broker asked the ledger for them: ids are numbered.
fn number(lease: &Lease) -> u64 {
    let (_, number) = lease.lease_id.rsplit_once('-').unwrap();
    u64::from_str_radix(number, 16).unwrap()
}

/// Two hundred who wait, all of them since before anything came back.
struct Crowd {
    rig: Rig,
    calls: Vec<(&'static str, JoinHandle<Answered>)>,
    /// When the next lease can be given, at the earliest.
    ready: Instant,
    /// How long it took to take all there was; it comes back over as long a time.
    spread: Duration,
}

impl Crowd {
    /// None if the machine was too slow for all to wait in time.
    async fn gather(backing: Backing) -> Option<Self> {
        let rig = Rig::start(backing, CONFIG).await;
        let emptying = Instant::now();
        let mut taken = 0;
        let (asked, status) = loop {
            let asked = Instant::now();
            match rig.api.acquire(ask(MODEL)).await {
                Ok(_) => taken += 1,
                Err(status) => break (asked, status),
            }
        };
        let (emptied, details) = (Instant::now(), Details::of(&status));
        let ready = asked + details.retry_after.unwrap();
        let consumers = [("many", 140), ("some", 40), ("few", 20)];
        let waits = |(consumer, count)| (0..count).map(move |_| consumer);
        let calls: Vec<_> = consumers.into_iter().flat_map(waits).collect();
        let calls: Vec<_> = calls
            .into_iter()
            .map(|consumer| (consumer, wait(&rig, consumer, Duration::from_secs(60))))
            .collect();
        while rig.api.inspect().await.counters.unwrap().waiting < 200 {
            if Instant::now() > ready {
                return None;
            }
        }
        let in_time = Instant::now() < ready;
        if in_time {
            assert_eq!(taken, AT_ONCE);
            assert_eq!(details.reason, "QUOTA_EXHAUSTED");
            assert_eq!(details.metadata["queue_length"], "0");
        }
        in_time.then_some(Self { rig, calls, ready, spread: emptied - emptying })
    }
}

async fn two_hundred_waiters_of_three_consumers_are_served_in_fair_order_at_the_right_instants(
    backing: Backing,
) {
    let mut crowd = Crowd::gather(backing).await;
    for _ in 0..5 {
        if crowd.is_none() {
            crowd = Crowd::gather(backing).await;
        }
    }
    let Crowd { rig, calls, ready, spread } = crowd.expect("a machine that makes 200 calls in a second");
    let hasty = rig.api.acquire(ask(MODEL)).await.unwrap_err();
    let told = Details::of(&hasty);
    let number_of = |name: &str| told.metadata[name].parse::<u128>().unwrap();
    assert_eq!((hasty.code(), told.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXHAUSTED"));
    assert!(number_of("queue_length") > 150, "{told:?}");
    assert!(number_of("estimated_wait_ms") >= told.retry_after.unwrap().as_millis(), "{told:?}");

    let mut served = Vec::new();
    for (consumer, call) in calls {
        let (at, answer) = call.await.unwrap();
        served.push((number(&answer.unwrap()), consumer, at));
    }
    served.sort_unstable();
    // Until the few and then the some are all served, each consumer gets as much as each other.
    // The last of the few may come one place later.
    for (first, last, waiting) in [(0, 60, &["many", "some", "few"][..]), (60, 100, &["many", "some"])] {
        let mut counts = BTreeMap::<&str, usize>::new();
        served[first..last].iter().for_each(|(_, consumer, _)| *counts.entry(consumer).or_default() += 1);
        let fair = (last - first) / waiting.len();
        for consumer in ["many", "some", "few"] {
            let due = if waiting.contains(&consumer) { fair } else { 0 };
            let count = counts.get(consumer).copied().unwrap_or(0);
            assert!(count.abs_diff(due) <= 1, "{consumer}: {counts:?}");
        }
    }
    // Twenty at each instant, never before it and right after it.
    for (index, (_, _, at)) in served.iter().enumerate() {
        let turns = u32::try_from(index / AT_ONCE).unwrap();
        assert!(*at >= ready + Duration::from_secs(1) * turns, "lease {index} came too early");
        let latest = ready + spread + REFILL * turns + SLACK;
        assert!(*at <= latest, "lease {index} came {:?} late", *at - latest);
    }
    let counters = rig.api.inspect().await.counters.unwrap();
    assert_eq!((counters.waiting, counters.granted, counters.refused), (0, 220, 2));
}

async fn a_slot_that_frees_goes_to_the_one_who_waits_for_longest(backing: Backing) {
    let rig = Rig::start(backing, ONE_IN_FLIGHT).await;
    let mut lease = rig.api.lease().await;
    let mut waiters = Vec::new();
    for _ in 0..3 {
        waiters.push(wait(&rig, "a", Duration::from_secs(30)));
        so_many_wait(&rig, waiters.len().try_into().unwrap()).await;
    }
    for waiter in waiters {
        let outcome = keybroker_proto::v1::lease_report::Outcome::Success(Default::default());
        let freed = Instant::now();
        rig.api.report(reported(&lease.lease_id, outcome)).await.unwrap();
        let (at, answer) = waiter.await.unwrap();
        lease = answer.unwrap();
        assert!(at - freed < SLACK, "{:?}", at - freed);
    }
}

async fn a_waiter_whose_call_is_dropped_takes_nothing(backing: Backing) {
    let rig = Rig::start(backing, ONE_IN_FLIGHT).await;
    let lease = rig.api.lease().await;
    let waiter = wait(&rig, "a", Duration::from_secs(30));
    so_many_wait(&rig, 1).await;
    waiter.abort();
    so_many_wait(&rig, 0).await;
    rig.api.report(not_sent(&lease.lease_id)).await.unwrap();
    rig.api.lease().await;
    assert_eq!(rig.api.inspect().await.counters.unwrap().granted, 2);
}

async fn a_broker_that_shuts_down_sends_its_waiters_away(backing: Backing) {
    let mut rig = Rig::start_with(backing, ONE_IN_FLIGHT, BrokerOptions::default()).await;
    rig.api.lease().await;
    let waiters: Vec<_> = (0..10).map(|_| wait(&rig, "a", Duration::from_secs(30))).collect();
    so_many_wait(&rig, 10).await;
    rig.broker.process().signal("TERM").unwrap();
    for waiter in waiters {
        let status = waiter.await.unwrap().1.unwrap_err();
        assert_eq!(
            (status.code(), Details::of(&status).reason.as_str()),
            (Code::Unavailable, "SHUTTING_DOWN")
        );
    }
}

async fn a_new_configuration_serves_those_who_wait(backing: Backing) {
    let rig = Rig::start(backing, ONE_IN_FLIGHT).await;
    rig.api.lease().await;
    let waiter = wait(&rig, "a", Duration::from_secs(30));
    so_many_wait(&rig, 1).await;
    rig.configure(&ONE_IN_FLIGHT.replace("in_flight = 1", "in_flight = 2"));
    let (_, answer) = tokio::time::timeout(Duration::from_secs(10), waiter).await.unwrap().unwrap();
    assert_eq!(answer.unwrap().key_id, "a");
}
