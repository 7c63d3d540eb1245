use super::world::{START, World, block, blocking, per_minute, spec, tokens_of};
use crate::ledger::{
    Acquire, AcquireState, Amounts, Batch, CommonSpec, Dimension, FOREVER, LimitSpec, Mode, Span,
    kernel::{Kernel, MAX_TRIES},
    shard::REBASE_AT,
};

/// When a request of the first instant has left a trailing minute.
const NEXT: i64 = START + 62_000;

#[test]
fn two_keys_of_one_project_share_one_budget() {
    let mut world = World::new(&[("a", "p"), ("b", "p")], &[per_minute(3)]);
    let keys: Vec<String> = (0..3).map(|_| world.grant().1).collect();
    assert_eq!(keys, ["a", "b", "a"]);
    assert_eq!(world.refusal(), (NEXT, "q/p/m1".to_owned(), "r60000".to_owned()));
    world.now = NEXT - 1;
    world.refusal();
    world.now = NEXT;
    world.grant();
}

#[test]
fn keys_of_two_projects_have_a_budget_each() {
    let mut world = World::new(&[("a", "p"), ("b", "o")], &[per_minute(2)]);
    let keys: Vec<String> = (0..4).map(|_| world.grant().1).collect();
    assert_eq!(keys, ["a", "b", "a", "b"]);
    world.refusal();
}

#[test]
fn a_block_on_one_model_of_a_project_leaves_its_other_models_free() {
    let mut world = World::new(&[("a", "p"), ("b", "p")], &[per_minute(10)]);
    let (lease, _) = world.grant();
    world.settle(blocking(&lease, vec![block("q", 30_000, false)]));
    assert_eq!(world.refusal(), (START + 30_000, "q/p/m1".to_owned(), "block:reason".to_owned()));
    let other = Acquire { shard: 1, ..world.request() };
    assert_eq!(world.ask(other).0, AcquireState::Granted);
}

#[test]
fn a_request_larger_than_a_limit_is_refused_for_good_and_says_so() {
    let tokens = LimitSpec(Dimension::InputTokens, Span::Trailing(60_000), 500);
    let mut world = World::new(&[("a", "p")], &[per_minute(3), tokens]);
    let large = Acquire { amounts: Amounts { permits: 4, ..Amounts::default() }, ..world.request() };
    let answer = world.ask(large);
    assert_eq!((answer.1, answer.2.as_str(), answer.3.as_str()), (FOREVER, "q/p/m1", "exceeds:r60000"));
    let large = Acquire { amounts: tokens_of(501), ..world.request() };
    let answer = world.ask(large);
    assert_eq!((answer.0, answer.1, answer.3.as_str()), (AcquireState::Refused, FOREVER, "exceeds:i60000"));
    world.grant();
}

#[test]
fn a_request_too_large_for_one_key_says_so_though_another_is_blocked_for_good() {
    let mut world = World::new(&[("a", "p"), ("b", "o")], &[per_minute(3)]);
    let (lease, _) = world.grant();
    world.settle(blocking(&lease, vec![block("k", FOREVER, false)]));
    let large = Acquire { amounts: Amounts { permits: 4, ..Amounts::default() }, ..world.request() };
    assert_eq!(world.ask(large).3, "exceeds:r60000");
}

#[test]
fn when_all_keys_are_blocked_for_good_the_refusal_is_for_good_and_names_the_block() {
    let mut world = World::new(&[("a", "p"), ("b", "p")], &[per_minute(9)]);
    for _ in 0..2 {
        let (lease, _) = world.grant();
        world.settle(blocking(&lease, vec![block("k", FOREVER, false)]));
    }
    let (at, account, why) = world.refusal();
    assert_eq!((at, why.as_str()), (FOREVER, "block:reason"));
    assert!(account.starts_with("k/"), "{account}");
}

#[test]
fn a_refusal_charges_nothing() {
    let tokens = LimitSpec(Dimension::InputTokens, Span::Trailing(60_000), 100);
    let mut world = World::new(&[("a", "p")], &[per_minute(9), tokens]);
    let before = world.kernel.account("q/p/m1").cloned();
    let large = Acquire { amounts: tokens_of(101), ..world.request() };
    world.ask(large);
    assert_eq!(world.kernel.account("q/p/m1").cloned(), before);
}

fn common(id: &str, limits: &[LimitSpec], passing: bool) -> CommonSpec {
    CommonSpec { id: id.to_owned(), generation: 1, limits: limits.to_vec(), mode: Mode::Hard, passing }
}

#[test]
fn a_common_account_that_is_spent_refuses_and_one_that_is_not_brought_along_is_missing() {
    let mut world = World::new(&[("a", "p")], &[per_minute(9)]);
    world.commons = vec![common("w/pool", &[per_minute(1)], false), common("m/m1", &[], false)];
    let with = |world: &mut World, common: &[usize]| Acquire { common: common.to_vec(), ..world.request() };
    let request = with(&mut world, &[0, 1]);
    assert_eq!(world.ask(request).0, AcquireState::Granted);
    let request = with(&mut world, &[0]);
    let answer = world.ask(request);
    assert_eq!((answer.0, answer.1, answer.2.as_str()), (AcquireState::Refused, NEXT, "w/pool"));
    // One without limits only ever holds a block.
    let request = with(&mut world, &[1]);
    assert_eq!(world.ask(request).0, AcquireState::Granted);
    assert_eq!(world.kernel.account("m/m1"), None);
    let request = with(&mut world, &[2]);
    assert_eq!(world.ask(request).0, AcquireState::Missing);
}

#[test]
fn a_passing_account_is_forgotten_once_all_that_it_counts_has_ended() {
    let mut world = World::new(&[("a", "p")], &[per_minute(9)]);
    world.commons = vec![common("c/a", &[per_minute(1)], true)];
    let request = Acquire { common: vec![0], ..world.request() };
    world.ask(request);
    let windows = |world: &World| world.kernel.account("c/a").map(|account| account.windows.len());
    assert_eq!(windows(&world), Some(1));
    world.commons.clear();
    world.now = NEXT - 1;
    world.grant();
    assert_eq!(windows(&world), Some(1));
    world.now = NEXT;
    world.grant();
    assert_eq!(windows(&world), None);
}

#[test]
fn a_soft_limit_refuses_nothing_and_says_which_limit_is_exceeded() {
    let mut world = World::new(&[("a", "p")], &[per_minute(9)]);
    world.commons = vec![CommonSpec { mode: Mode::Soft, ..common("c/a", &[per_minute(1)], true) }];
    let mut said = Vec::new();
    for _ in 0..3 {
        let request = Acquire { common: vec![0], ..world.request() };
        let answer = world.ask(request);
        assert_eq!(answer.0, AcquireState::Granted);
        said.push(answer.3);
    }
    assert_eq!(said, ["", "over:r60000", "over:r60000"]);
}

#[test]
fn a_key_whose_limits_were_never_applied_is_missing_and_not_free() {
    let mut kernel = Kernel::default();
    let mut unlimited = spec("m1", &[("a", "p")], &[per_minute(1)]);
    unlimited.accounts.clear();
    kernel.apply(&unlimited);
    let mut world = World::new(&[], &[]);
    world.kernel = kernel;
    let request = world.request();
    assert_eq!(world.ask(request.clone()).0, AcquireState::Missing);
    world.kernel.apply(&spec("m1", &[("a", "p")], &[per_minute(1)]));
    assert_eq!(world.ask(request).0, AcquireState::Granted);
    world.refusal();
}

#[test]
fn keys_that_are_named_or_excluded_are_heeded() {
    let mut world = World::new(&[("a", "p"), ("b", "p"), ("c", "p")], &[]);
    let name = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let request = Acquire { only: name(&["c", "none", "c"]), ..world.request() };
    assert_eq!(world.ask(request).2, "c");
    let request = Acquire { exclude: name(&["a", "a", "none", "c"]), ..world.request() };
    assert_eq!(world.ask(request).2, "b");
    for (only, exclude) in [(&["none"][..], &[][..]), (&["a"], &["a"]), (&[], &["a", "b", "c"])] {
        let request = Acquire { only: name(only), exclude: name(exclude), ..world.request() };
        let answer = world.ask(request);
        assert_eq!((answer.0, answer.1, answer.3.as_str()), (AcquireState::Refused, FOREVER, "none"));
    }
}

#[test]
fn a_clock_outside_of_the_calendar_runs_nothing() {
    let mut world = World::new(&[("a", "p")], &[]);
    world.grant();
    let batch = Batch {
        ledger_id: String::new(),
        clock: 0,
        day_ends: vec![START, START + 1, START + 2],
        month_ends: vec![START, START + 100],
        rebase_at: REBASE_AT,
        shards: vec![],
        settles: vec![],
        renews: vec![],
        acquires: vec![],
        commons: vec![],
        edits: vec![],
    };
    assert!(world.kernel.execute(START + 1, &batch).is_none());
    assert_eq!(world.kernel.now, START);
}

#[test]
fn time_never_runs_backwards() {
    let mut world = World::new(&[("a", "p")], &[per_minute(1)]);
    world.grant();
    world.now -= 30_000;
    assert_eq!(world.run(&[], &[], &[]).now, START);
    assert_eq!(world.refusal().0, NEXT);
}

#[test]
fn of_300_keys_more_than_an_acquire_tries_every_one_is_reached() {
    let names: Vec<String> = (0..300).map(|number| format!("key{number:03}")).collect();
    let keys: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    assert!(keys.len() > MAX_TRIES);
    let mut world = World::new(&keys, &[per_minute(1)]);
    let mut granted: Vec<String> = (0..300).map(|_| world.grant().1).collect();
    granted.sort();
    granted.dedup();
    assert_eq!(granted.len(), 300);
    // Each refusal tries a bounded number and parks it, so that the next one tries others.
    assert_eq!(world.refusal().0, NEXT);
    assert_eq!(world.refusal().0, NEXT);
    let shard = world.kernel.shard_named("m1").expect("it was applied");
    assert_eq!(shard.next_ready(None), None);
    world.now = NEXT;
    for _ in 0..300 {
        world.grant();
    }
    world.refusal();
}

#[test]
fn a_key_behind_more_blocked_ones_than_an_acquire_tries_is_found_at_the_second_ask() {
    let names: Vec<String> = (0..300).map(|number| format!("key{number:03}")).collect();
    let project = |number: usize| if number < 299 { "p" } else { "o" };
    let keys: Vec<(&str, &str)> =
        names.iter().enumerate().map(|(number, name)| (name.as_str(), project(number))).collect();
    let mut world = World::new(&keys, &[per_minute(100)]);
    let (lease, _) = world.grant();
    world.settle(blocking(&lease, vec![block("p", 600_000, false)]));
    assert_eq!(world.refusal().0, START + 600_000);
    assert_eq!(world.grant().1, "key299");
}
