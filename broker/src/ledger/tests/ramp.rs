//! After a cooldown: one lease alone, then a quarter, half and all of the limits.

use super::world::{START, World, block, blocking, keep, per_minute, success};
use crate::ledger::{
    Acquire, AcquireState, CommonSpec, Edit, EditAction, Mode, SettleState,
    window::{RAMP, RAMP_STAGE},
};

fn edit(account: &str, action: EditAction) -> Edit {
    Edit { account: account.to_owned(), action, length: 90_000, reason: "checked".to_owned() }
}

/// A world of one key of 8 requests a minute, in which a cooldown of its own is over and its probe went well.
fn probed() -> World {
    let mut world = World::new(&[("key", "p")], &[per_minute(8)]);
    let (lease, _) = world.grant();
    world.settle(blocking(&lease, vec![block("k", 120_000, true)]));
    world.now = START + 120_000;
    let (probe, _) = world.grant();
    assert_eq!(world.refusal().2, "probe");
    world.settle(success(&probe));
    world
}

#[test]
fn a_quarter_then_half_then_all_of_the_limit_is_open() {
    let mut world = probed();
    let begun = world.now;
    // The probe is one of the two that a quarter is.
    world.grant();
    assert_eq!(world.refusal().0, begun + RAMP_STAGE);
    world.now = begun + RAMP_STAGE;
    world.grant();
    world.grant();
    assert_eq!(world.refusal().0, begun + RAMP);
    world.now = begun + RAMP - 1;
    assert_eq!(world.refusal().0, begun + RAMP);
    world.now = begun + RAMP;
    for _ in 0..4 {
        world.grant();
    }
    assert_eq!(world.refusal().2, "r60000");
}

#[test]
fn the_ramp_of_a_model_opens_a_quarter_then_half_then_all_of_every_keys_limit() {
    let mut world = World::new(&[("a", "p"), ("b", "q")], &[per_minute(8)]);
    let model = "m/m1".to_owned();
    world.commons =
        vec![CommonSpec { id: model, generation: 1, limits: vec![], mode: Mode::Hard, passing: false }];
    let ask = |world: &mut World| {
        let request = Acquire { common: vec![0], ..world.request() };
        world.ask(request)
    };
    let granted = |world: &mut World| {
        let answers = std::iter::repeat_with(|| ask(world)).take(20);
        answers.filter(|answer| answer.0 == AcquireState::Granted).count()
    };
    world.edits = vec![edit("m/m1", EditAction::Block)];
    assert_eq!(ask(&mut world).3, "block:checked");
    world.now += 90_000;
    let request = Acquire { common: vec![0], ..world.request() };
    let probe = request.lease.clone();
    assert_eq!(world.ask(request).0, AcquireState::Granted);
    assert_eq!(ask(&mut world).3, "probe");
    world.settle(success(&probe));
    let begun = world.now;
    // The probe is one of the two of its key.
    assert_eq!(granted(&mut world), 3);
    assert_eq!(ask(&mut world).1, begun + RAMP_STAGE);
    world.now = begun + RAMP_STAGE;
    assert_eq!(granted(&mut world), 4);
    world.now = begun + RAMP;
    assert_eq!(granted(&mut world), 8);
}

#[test]
fn a_probe_that_fails_begins_no_ramp() {
    let mut world = World::new(&[("key", "p")], &[per_minute(8)]);
    let (lease, _) = world.grant();
    world.settle(blocking(&lease, vec![block("k", 1_000, true)]));
    world.now += 1_000;
    let (probe, _) = world.grant();
    world.settle(keep(&probe));
    let account = world.kernel.account("k/key").expect("it is still probing");
    assert!(account.probing && account.ramp_from == 0);
}

#[test]
fn a_check_that_went_well_ends_a_cooldown_for_good_with_a_ramp_and_an_operator_without() {
    for (action, open) in [(EditAction::Recover, 2), (EditAction::Reset, 8)] {
        let mut world = World::new(&[("key", "p")], &[per_minute(8)]);
        let (lease, _) = world.grant();
        world.settle(blocking(&lease, vec![block("k", crate::ledger::FOREVER, true)]));
        assert!(world.refusal().2.starts_with("block:"));
        world.now += 90_000;
        world.edits = vec![edit("k/key", action)];
        for _ in 0..open {
            world.grant();
        }
        let request = world.request();
        assert_eq!(world.ask(request).0, AcquireState::Refused, "{action:?}");
    }
}

#[test]
fn an_edit_says_whether_it_changed_anything() {
    let mut world = World::new(&[("key", "p")], &[per_minute(8)]);
    let mut changed = Vec::new();
    for action in
        [EditAction::Reset, EditAction::Block, EditAction::Recover, EditAction::Reset, EditAction::Reset]
    {
        world.edits = vec![edit("k/key", action)];
        changed.extend(world.run(&[], &[], &[]).edits);
    }
    assert_eq!(changed, [false, true, true, true, false]);
}

#[test]
fn a_step_of_nothing_only_counts_and_the_next_one_blocks() {
    let mut world = World::new(&[("a", "p"), ("b", "p")], &[per_minute(8)]);
    let twice = |role: &str| crate::ledger::Block { steps: vec![0, 60_000], ..block(role, 0, true) };
    let (first, _) = world.grant();
    let (in_flight, _) = world.grant();
    world.now += 200;
    world.settle(blocking(&first, vec![twice("p")]));
    world.now += 10;
    // It was granted before the first one failed, so it says nothing new.
    let settled = world.settle(blocking(&in_flight, vec![twice("p")]));
    assert_eq!(settled.0, SettleState::Settled);
    let (second, _) = world.grant();
    world.settle(blocking(&second, vec![twice("p")]));
    assert_eq!((world.refusal().0, world.refusal().1.as_str()), (world.now + 60_000, "p/p"));
}

#[test]
fn a_block_for_another_reason_begins_the_count_anew() {
    let mut world = World::new(&[("a", "p"), ("b", "p")], &[per_minute(8)]);
    let once_then_long = |reason: &str| crate::ledger::Block {
        steps: vec![0, 60_000],
        reason: reason.to_owned(),
        ..block("k", 0, true)
    };
    let of_a = |world: &mut World| Acquire { only: vec!["a".to_owned()], ..world.request() };
    for reason in ["unclear", "invalid"] {
        let request = of_a(&mut world);
        let lease = request.lease.clone();
        assert_eq!(world.ask(request).0, AcquireState::Granted, "before {reason}");
        world.now += 200;
        world.settle(blocking(&lease, vec![once_then_long(reason)]));
    }
    let request = of_a(&mut world);
    let lease = request.lease.clone();
    assert_eq!(world.ask(request).0, AcquireState::Granted, "each happened once");
    world.now += 200;
    world.settle(blocking(&lease, vec![once_then_long("invalid")]));
    let request = of_a(&mut world);
    assert_eq!(world.ask(request).3, "block:invalid");
}
