use super::world::{World, block, blocking, keep, per_minute, success};

/// A world whose one key was blocked for ten seconds, which are over.
fn after_a_block() -> World {
    let mut world = World::new(&[("key", "p")], &[per_minute(100)]);
    let (lease, _) = world.grant();
    world.settle(blocking(&lease, vec![block("q", 10_000, true)]));
    assert_eq!(world.refusal(), (world.now + 10_000, "q/p/m1".to_owned(), "block:reason".to_owned()));
    world.now += 10_000;
    world
}

#[test]
fn the_first_lease_after_a_block_goes_out_alone() {
    let mut world = after_a_block();
    world.grant();
    assert_eq!(world.refusal(), (world.now + 60_000, "q/p/m1".to_owned(), "probe".to_owned()));
}

#[test]
fn a_success_of_the_probe_opens_the_account() {
    let mut world = after_a_block();
    let (probe, _) = world.grant();
    world.settle(success(&probe));
    world.grant();
    world.grant();
}

#[test]
fn a_probe_that_says_nothing_definite_is_repeated() {
    let mut world = after_a_block();
    for _ in 0..3 {
        let (probe, _) = world.grant();
        assert_eq!(world.refusal().2, "probe");
        world.settle(keep(&probe));
    }
}

#[test]
fn a_probe_that_is_never_reported_is_repeated_when_it_expires() {
    let mut world = after_a_block();
    world.grant();
    world.now += 60_000;
    world.grant();
    assert_eq!(world.refusal().2, "probe");
}

#[test]
fn a_probe_that_is_renewed_stays_alone_for_as_long() {
    let mut world = after_a_block();
    let (probe, _) = world.grant();
    world.now += 30_000;
    world.renew(&probe, 60_000);
    assert_eq!(world.refusal().0, world.now + 60_000);
    world.now += 59_999;
    assert_eq!(world.refusal().2, "probe");
}

#[test]
fn a_success_that_was_under_way_before_the_block_ends_no_probing() {
    let mut world = World::new(&[("key", "p")], &[per_minute(100)]);
    let ((early, _), (failed, _)) = (world.grant(), world.grant());
    world.settle(blocking(&failed, vec![block("q", 10_000, true)]));
    world.settle(success(&early));
    assert_eq!(world.refusal().2, "block:reason");
    world.now += 10_000;
    world.grant();
    assert_eq!(world.refusal().2, "probe");
}

#[test]
fn a_probe_that_fails_blocks_again_and_is_followed_by_another_probe() {
    let mut world = after_a_block();
    let (probe, _) = world.grant();
    world.settle(blocking(&probe, vec![block("q", 5_000, true)]));
    assert_eq!(world.refusal().0, world.now + 5_000);
    world.now += 5_000;
    world.grant();
    assert_eq!(world.refusal().2, "probe");
}
