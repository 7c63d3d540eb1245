//! Limits that Google names.

use super::world::{World, keep, per_minute, spec};
use crate::ledger::{AccountSpec, Dimension, Edit, EditAction, LimitSpec, Mode, Settle, ShardSpec, Span};

fn taught(world: &mut World, limit: LimitSpec) -> bool {
    let (lease, _) = world.grant();
    world.settle(Settle { learned: vec![limit], ..keep(&lease) }).4
}

fn in_mode(mode: Mode, limits: &[LimitSpec]) -> World {
    let mut world = World::new(&[("a", "p")], limits);
    let shard = spec("m1", &[("a", "p")], limits);
    let accounts = shard.accounts.into_iter().map(|account| AccountSpec { mode, ..account }).collect();
    world.kernel.apply(&ShardSpec { accounts, ..shard });
    world
}

fn limits(world: &World) -> Vec<i64> {
    world.kernel.account("q/p/m1").expect("it has limits").windows.iter().map(|window| window.limit).collect()
}

#[test]
fn a_limit_that_is_lower_holds_and_is_news_once() {
    let mut world = in_mode(Mode::Hard, &[per_minute(9)]);
    assert!(taught(&mut world, per_minute(3)));
    assert!(!taught(&mut world, per_minute(3)));
    assert_eq!(limits(&world), [3]);
    world.grant();
    assert_eq!(world.refusal().2, "r60000");
}

#[test]
fn a_limit_that_is_higher_never_raises_what_was_configured_without_leave() {
    let mut world = in_mode(Mode::Hard, &[per_minute(5)]);
    taught(&mut world, per_minute(50));
    assert_eq!(limits(&world), [5]);
    let mut world = in_mode(Mode::Learning, &[per_minute(5)]);
    taught(&mut world, per_minute(50));
    assert_eq!(limits(&world), [50]);
}

#[test]
fn a_limit_of_which_nobody_knew_is_counted_from_then_on_and_outlives_a_new_catalogue() {
    let mut world = in_mode(Mode::Hard, &[per_minute(9)]);
    let daily = LimitSpec(Dimension::Requests, Span::Day, 2);
    taught(&mut world, daily);
    assert_eq!(limits(&world), [9, 2]);
    world.kernel.apply(&ShardSpec { generation: 2, ..spec("m1", &[("a", "p")], &[per_minute(7)]) });
    assert_eq!(limits(&world), [7, 2]);
    world.grant();
    world.grant();
    assert_eq!(world.refusal().2, "r-1");
}

#[test]
fn what_was_learned_can_be_forgotten() {
    let mut world = in_mode(Mode::Hard, &[per_minute(9)]);
    taught(&mut world, per_minute(1));
    world.refusal();
    let action = EditAction::Unlearn;
    world.edits = vec![Edit { account: "q/p/m1".to_owned(), action, length: 0, reason: String::new() }];
    world.grant();
    assert_eq!(limits(&world), [9]);
}

#[test]
fn what_was_not_counted_in_a_learned_limit_gives_nothing_back_to_it() {
    let mut world = in_mode(Mode::Hard, &[per_minute(9)]);
    let (uncounted, _) = world.grant();
    taught(&mut world, LimitSpec(Dimension::Requests, Span::Day, 1));
    world.grant();
    world.settle(Settle::not_sent(&uncounted));
    assert_eq!(world.refusal().2, "r-1");
}
