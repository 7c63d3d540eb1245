//! The six strategies, with real brokers on both ledgers: exact counts, one order for the whole fleet,
//! and an order that outlives its brokers.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use keybroker_proto::v1::{AcquireRequest, Constraints, Lease};
use keybroker_tests::{
    fake_gemini::bodies,
    harness::{
        api::{Api, MODEL, answered, ask, not_sent, succeeded},
        broker::BrokerProcess,
        refused::refused,
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};

on_both_ledgers!(
    each_strategy_hands_out_exact_shares_of_hundreds_of_leases,
    the_next_key_after_a_restart_is_the_one_that_was_due,
    a_key_that_was_pinned_is_owed_nothing_by_turns_and_goes_last_by_recency,
    backups_are_leased_only_while_the_primaries_are_at_their_limit,
    free_keys_go_first_and_come_back_at_once_and_paid_ones_fill_the_gaps,
    the_share_of_a_key_follows_its_health,
    keys_are_used_up_evenly_whatever_their_limits,
);

/// Pools by strategy, each with keys `x`, `y` and `z` of projects of their own. What comes of one round
/// of each strategy.
const STRATEGIES: [(&str, &str, [&str; 3]); 6] = [
    ("round_robin", "xyz", ["", "", ""]),
    ("weighted", "xyzzzyzz", ["weight = 1", "weight = 2", "weight = 5"]),
    ("priority", "xyy", ["weight = 1", "weight = 2", "priority = 1"]),
    ("least_recently_used", "xyz", ["", "", ""]),
    ("health_aware", "xyzzyzz", ["weight = 1", "weight = 2", "weight = 4"]),
    ("least_utilized", "xyzz", ["100", "100", "200"]),
];

fn config() -> String {
    let mut text = String::new();
    for (strategy, _, of_keys) in STRATEGIES {
        text += &format!("[[pools]]\nname = \"{strategy}\"\nstrategy = \"{strategy}\"\n");
        for (key, setting) in ["x", "y", "z"].into_iter().zip(of_keys) {
            let (limits, setting) = match setting.parse::<u32>() {
                Ok(limit) => (format!("limits = [ {{ requests_per_day = {} }} ]\n", limit * 10), ""),
                Err(_) => (String::new(), setting),
            };
            let comma = if setting.is_empty() { "" } else { ", " };
            text += &format!(
                "[[projects]]\nid = \"{strategy}-{key}\"\npool = \"{strategy}\"\n{limits}\
                 keys = [ {{ id = \"{strategy}-{key}\", secret = \"test-key-{strategy}-{key}\"{comma}{setting} }} ]\n"
            );
        }
    }
    text
}

/// A broker, and a second one beside it where the ledger can be shared: whoever asks takes turns.
struct Fleet {
    rig: Rig,
    second: Option<(BrokerProcess, Api)>,
    turn: usize,
}

impl Fleet {
    async fn start(backing: Backing, config: &str) -> Self {
        let rig = Rig::start(backing, config).await;
        let second = match backing {
            Backing::Redis => Some(rig.beside("second.toml", config).await),
            Backing::Embedded => None,
        };
        Self { rig, second, turn: 0 }
    }

    fn api(&mut self) -> Api {
        // Not strictly in turn: the order must not depend on who is asked.
        self.turn += 1;
        let second = self.second.as_ref().filter(|_| !self.turn.is_multiple_of(3));
        second.map_or_else(|| self.rig.api.clone(), |(_, api)| api.clone())
    }

    async fn lease(&mut self, pool: &str) -> Lease {
        self.api().acquire(of_pool(pool)).await.unwrap()
    }

    /// The last letters of the ids of the next keys.
    async fn next(&mut self, pool: &str, count: usize) -> String {
        let mut keys = String::new();
        for _ in 0..count {
            keys.extend(self.lease(pool).await.key_id.chars().last());
        }
        keys
    }

    /// How often each key is leased when so many ask at once.
    async fn at_once(&mut self, pool: &str, count: usize) -> BTreeMap<char, usize> {
        let calls: Vec<_> = (0..count)
            .map(|_| {
                let api = self.api();
                let pool = pool.to_owned();
                tokio::spawn(async move { api.acquire(of_pool(&pool)).await.unwrap().key_id })
            })
            .collect();
        let mut counts = BTreeMap::new();
        for call in calls {
            *counts.entry(call.await.unwrap().chars().last().unwrap()).or_default() += 1;
        }
        counts
    }
}

fn of_pool(pool: &str) -> AcquireRequest {
    AcquireRequest { pool: pool.to_owned(), ..ask(MODEL) }
}

fn pinned(pool: &str, project: &str) -> AcquireRequest {
    let constraints = Constraints { project: project.to_owned(), ..Constraints::default() };
    AcquireRequest { constraints: Some(constraints), ..of_pool(pool) }
}

fn counts(keys: &str) -> BTreeMap<char, usize> {
    let mut counts = BTreeMap::new();
    keys.chars().for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

/// How often each key comes in so many rounds.
fn shares(round: &str, rounds: usize) -> BTreeMap<char, usize> {
    counts(round).into_iter().map(|(key, count)| (key, count * rounds)).collect()
}

async fn each_strategy_hands_out_exact_shares_of_hundreds_of_leases(backing: Backing) {
    let mut fleet = Fleet::start(backing, &config()).await;
    for (strategy, round, _) in STRATEGIES {
        // One after the other, in the very order of a round; then all at once.
        let in_turn = fleet.next(strategy, round.len() * 2).await;
        assert_eq!(in_turn, round.repeat(2), "{strategy}");
        let rounds = 240 / round.len();
        assert_eq!(fleet.at_once(strategy, rounds * round.len()).await, shares(round, rounds), "{strategy}");
    }
}

async fn the_next_key_after_a_restart_is_the_one_that_was_due(backing: Backing) {
    let mut fleet = Fleet::start(backing, &config()).await;
    for (strategy, round, _) in STRATEGIES {
        let begun = round.len() + 2;
        let taken = fleet.next(strategy, begun).await;
        assert_eq!(taken, round.repeat(2)[..begun], "{strategy}");
    }
    fleet.rig.restart().await;
    for (strategy, round, _) in STRATEGIES {
        let due = &round.repeat(3)[round.len() + 2..];
        assert_eq!(fleet.next(strategy, due.len()).await, due, "{strategy}");
    }
}

/// One turn more for `z`, which is not its own: by turns it has had its next one, by recency it goes last.
async fn a_key_that_was_pinned_is_owed_nothing_by_turns_and_goes_last_by_recency(backing: Backing) {
    let mut fleet = Fleet::start(backing, &config()).await;
    for (strategy, next) in [("round_robin", "xyxyz"), ("least_recently_used", "xyzxy")] {
        assert_eq!(fleet.next(strategy, 3).await, "xyz");
        fleet.api().acquire(pinned(strategy, &format!("{strategy}-z"))).await.unwrap();
        assert_eq!(fleet.next(strategy, 5).await, next, "{strategy}");
    }
}

const BACKUPS: &str = r#"
[[pools]]
strategy = "priority"
[[projects]]
id = "first"
limits = [ { requests_per_day = 5 } ]
keys = [ { id = "a", secret = "test-key-primary-a" } ]
[[projects]]
id = "second"
limits = [ { requests_per_day = 5 } ]
keys = [ { id = "b", secret = "test-key-primary-b" } ]
[[projects]]
id = "third"
limits = [ { requests_per_day = 4 } ]
keys = [ { id = "c", secret = "test-key-backup-c", priority = 1 } ]
[[projects]]
id = "last"
limits = [ { requests_per_day = 2 } ]
keys = [ { id = "d", secret = "test-key-backup-d", priority = 15 } ]
"#;

async fn backups_are_leased_only_while_the_primaries_are_at_their_limit(backing: Backing) {
    let mut fleet = Fleet::start(backing, BACKUPS).await;
    assert_eq!(fleet.next("", 9).await, "ababababa");
    let primary = fleet.lease("").await;
    assert_eq!(primary.key_id, "b");
    assert_eq!(fleet.next("", 3).await, "ccc");
    fleet.api().report(not_sent(&primary.lease_id)).await.unwrap();
    assert_eq!(fleet.next("", 4).await, "bcdd", "a primary that can serve again goes first at once");
    let api = fleet.api();
    let refusal = refused(&api, of_pool("")).await;
    assert!(refusal.description.contains("the limit of requests per Pacific day is reached"), "{refusal:?}");
}

const FREE_FIRST: &str = r#"
[[pools]]
strategy = "priority"
send_within = "100ms"
[[projects]]
id = "free-one"
tier = "free"
limits = [ { requests_per_second = 2 } ]
keys = [ { id = "f", secret = "test-key-free-one-f" } ]
[[projects]]
id = "free-two"
tier = "free"
limits = [ { requests_per_day = 3 } ]
keys = [ { id = "g", secret = "test-key-free-two-g" } ]
[[projects]]
id = "paid"
tier = "paid"
keys = [ { id = "p", secret = "test-key-paid-p" } ]
"#;

async fn free_keys_go_first_and_come_back_at_once_and_paid_ones_fill_the_gaps(backing: Backing) {
    let mut fleet = Fleet::start(backing, FREE_FIRST).await;
    let started = Instant::now();
    let taken = fleet.next("", 5).await;
    let (mut paid, mut free) = (0, taken);
    // A free key comes back within a second and a sub-bucket; until then it is the paid one's turn.
    while started.elapsed() < Duration::from_secs(4) && free.len() < 9 {
        match fleet.next("", 1).await.as_str() {
            "p" => paid += 1,
            key => free += key,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(counts(&free), BTreeMap::from([('f', 6), ('g', 3)]), "in {:?}", started.elapsed());
    assert_eq!(counts(&free[..5]), BTreeMap::from([('f', 2), ('g', 3)]), "all free keys before any paid one");
    assert!(paid > 20, "the paid key serves in between: {paid}");
    assert!(started.elapsed() >= Duration::from_millis(2200), "twice a second and the time to send");
}

async fn the_share_of_a_key_follows_its_health(backing: Backing) {
    const PAIR: &str = r#"
[[pools]]
strategy = "health_aware"
[[projects]]
id = "alpha"
keys = [ { id = "a", secret = "test-key-health-a" }, { id = "b", secret = "test-key-health-b" } ]
"#;
    let mut fleet = Fleet::start(backing, PAIR).await;
    let first = fleet.lease("").await;
    assert_eq!((first.key_id.as_str(), fleet.lease("").await.key_id.as_str()), ("a", "b"));
    // A step grows as health falls: 5 of b to 4 of a, then 5 to 3.
    let mut faulted = first;
    for (health, round, rounds) in [(80, [4, 5], 20), (60, [3, 5], 20)] {
        let report = answered(&faulted.lease_id, 403, bodies::caller_forbidden().text);
        fleet.api().report(report).await.unwrap();
        assert_eq!(health_of(&fleet.rig.api, "a").await, health);
        faulted = fleet.lease("").await;
        assert_eq!(faulted.key_id, "a");
        let mut keys = fleet.at_once("", (round[0] + round[1]) * rounds - 1).await;
        *keys.get_mut(&'a').unwrap() += 1;
        assert_eq!(keys, BTreeMap::from([('a', round[0] * rounds), ('b', round[1] * rounds)]), "{health}");
    }
    // Eight successes make up for two faults, and there is no more than full health.
    for success in 1..=9 {
        let lease = pinned_to_a(&fleet.api()).await;
        fleet.api().report(succeeded(&lease.lease_id, 1)).await.unwrap();
        assert_eq!(health_of(&fleet.rig.api, "a").await, (60 + 5 * success).min(100));
    }
    let keys = fleet.next("", 200).await;
    // b is owed what a was leased alone; from then on they take turns.
    assert_eq!(counts(&keys[keys.len() - 100..]), BTreeMap::from([('a', 50), ('b', 50)]));
}

async fn pinned_to_a(api: &Api) -> Lease {
    let constraints = Constraints { exclude_key_ids: vec!["b".to_owned()], ..Constraints::default() };
    api.acquire(AcquireRequest { constraints: Some(constraints), ..ask(MODEL) }).await.unwrap()
}

async fn health_of(api: &Api, key: &str) -> i32 {
    api.inspect().await.keys.into_iter().find(|status| status.key_id == key).unwrap().health
}

async fn keys_are_used_up_evenly_whatever_their_limits(backing: Backing) {
    const UNEQUAL: &str = r#"
[[pools]]
strategy = "least_utilized"
[[projects]]
id = "small"
limits = [ { requests_per_day = 50 } ]
keys = [ { id = "s", secret = "test-key-small-s" } ]
[[projects]]
id = "large"
limits = [ { requests_per_day = 200 } ]
keys = [ { id = "l", secret = "test-key-large-l" }, { id = "m", secret = "test-key-large-m" } ]
"#;
    let mut fleet = Fleet::start(backing, UNEQUAL).await;
    for _ in 0..5 {
        let counts = fleet.at_once("", 50).await;
        assert_eq!(counts, BTreeMap::from([('s', 10), ('l', 20), ('m', 20)]));
    }
    let api = fleet.api();
    let refusal = refused(&api, of_pool("")).await;
    assert!(refusal.description.contains("requests per Pacific day"), "all are used up at once: {refusal:?}");
}
