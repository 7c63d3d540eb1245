//! In which order keys are leased, by exact counts.

use std::collections::BTreeMap;

use super::world::{START, World, keep, per_minute, spec, success, tokens_of};
use crate::ledger::{
    Acquire, Dimension, LimitSpec, Order, Settle, ShardSpec, Span, kernel::Kernel, shard::SCALE,
};

/// A world whose first shard leases these keys, each of a project of its own, in that order.
fn world(order: Order, keys: &[(&str, i64, LimitSpec)]) -> World {
    let mut world = World::new(&[], &[]);
    world.kernel = Kernel::default();
    let mut all = ShardSpec { order, ..spec("m1", &[], &[]) };
    for (name, step, limit) in keys {
        let one = spec("m1", &[(name, name)], &[*limit]);
        all.accounts.extend(one.accounts);
        all.candidates.extend(one.candidates.into_iter().map(|mut candidate| {
            candidate.step = *step;
            candidate
        }));
    }
    world.kernel.apply(&all);
    world
}

fn counts(world: &mut World, leases: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..leases {
        *counts.entry(world.grant().1).or_default() += 1;
    }
    counts
}

fn of(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect()
}

const MANY: LimitSpec = LimitSpec(Dimension::Requests, Span::Trailing(60_000), 1_000_000);

#[test]
fn equal_steps_give_each_key_the_same_number_of_leases() {
    let mut world = world(Order::Share, &[("a", SCALE, MANY), ("b", SCALE, MANY), ("c", SCALE, MANY)]);
    assert_eq!(counts(&mut world, 300), of(&[("a", 100), ("b", 100), ("c", 100)]));
}

#[test]
fn weights_of_one_two_and_five_give_shares_of_one_two_and_five() {
    let keys = [("a", SCALE, MANY), ("b", SCALE / 2, MANY), ("c", SCALE / 5, MANY)];
    assert_eq!(counts(&mut world(Order::Share, &keys), 800), of(&[("a", 100), ("b", 200), ("c", 500)]));
}

#[test]
fn the_least_recently_used_key_goes_first_also_after_one_was_asked_for_by_name() {
    let mut world = world(Order::LeastRecent, &[("a", SCALE, MANY), ("b", SCALE, MANY), ("c", SCALE, MANY)]);
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(world.grant().1);
    }
    let named = Acquire { only: vec!["a".to_owned()], ..world.request() };
    keys.push(world.ask(named).2);
    world.now += 5;
    for _ in 0..3 {
        keys.push(world.grant().1);
    }
    assert_eq!(keys, ["a", "b", "c", "a", "b", "c", "a"]);
}

#[test]
fn keys_are_utilized_alike_whatever_their_limits() {
    let keys = [("a", SCALE, per_minute(10)), ("b", SCALE, per_minute(20)), ("c", SCALE, per_minute(30))];
    let mut world = world(Order::LeastUtilized, &keys);
    assert_eq!(counts(&mut world, 30), of(&[("a", 5), ("b", 10), ("c", 15)]));
}

#[test]
fn a_large_request_counts_by_what_it_takes_of_the_limit() {
    let tokens = LimitSpec(Dimension::InputTokens, Span::Trailing(60_000), 1_000);
    let mut world = world(Order::LeastUtilized, &[("a", SCALE, tokens), ("b", SCALE, tokens)]);
    let mut keys = Vec::new();
    for amount in [300, 100, 100, 100, 100] {
        let request = Acquire { amounts: tokens_of(amount), ..world.request() };
        keys.push(world.ask(request).2);
    }
    assert_eq!(keys, ["a", "b", "b", "b", "a"]);
}

#[test]
fn the_share_of_leases_follows_the_health() {
    let mut world = world(Order::Health, &[("a", SCALE, MANY), ("b", SCALE, MANY)]);
    // Three faults of the key itself leave it a health of 40, a success adds 5.
    for health in [-20, -20, -20] {
        let request = Acquire { only: vec!["a".to_owned()], ..world.request() };
        world.ask(request.clone());
        world.settle(Settle { health, ..keep(&request.lease) });
    }
    let damage = |world: &World| world.kernel.account("k/a").map_or(0, |account| account.damage);
    assert_eq!(damage(&world), 60);
    // Whoever was ahead catches up first: a stands behind by what it was given.
    counts(&mut world, 100);
    assert_eq!(counts(&mut world, 140), of(&[("a", 40), ("b", 100)]));
    let (lease, _) = world.grant();
    world.settle(Settle { health: 5, ..success(&lease) });
    let (lease, key) = world.grant();
    world.settle(Settle { health: 5, ..success(&lease) });
    assert!(damage(&world) <= 60 && key.len() == 1);
}

#[test]
fn health_stays_within_nought_and_a_hundred_and_a_healthy_key_has_no_row() {
    let mut world = world(Order::Health, &[("a", SCALE, MANY)]);
    for (health, damage) in [(-90, Some(90)), (-90, Some(100)), (5, Some(95)), (95, None), (5, None)] {
        let (lease, _) = world.grant();
        world.settle(Settle { health, ..keep(&lease) });
        assert_eq!(world.kernel.account("k/a").map(|account| account.damage), damage);
    }
    assert!(world.now >= START);
}
