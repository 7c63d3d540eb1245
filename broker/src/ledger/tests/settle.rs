use super::world::{World, block, blocking, keep, per_minute, spec, success, tokens_of};
use crate::ledger::{
    Acquire, AcquireState, Charge, Dimension, LimitSpec, RenewState, Renewed, Settle, SettleState, Span,
    kernel::{FORGET_AT_ONCE, REMEMBER_EXPIRED, REMEMBER_SETTLED},
};

const ONE_KEY: [(&str, &str); 1] = [("key", "p")];

fn used(world: &World, account: &str) -> Vec<i64> {
    let account = world.kernel.account(account).expect("it has limits");
    account.windows.iter().map(|window| window.used(world.now)).collect()
}

fn limits() -> [LimitSpec; 3] {
    [
        per_minute(10),
        LimitSpec(Dimension::InputTokens, Span::Trailing(60_000), 1_000),
        LimitSpec(Dimension::InFlight, Span::Held, 10),
    ]
}

fn lease_of_100_tokens(world: &mut World) -> String {
    let mut request = world.request();
    (request.amounts.input, request.amounts.total) = (100, 100);
    request.amounts.permits = 2;
    let lease = request.lease.clone();
    assert_eq!(world.ask(request).0, AcquireState::Granted);
    assert_eq!(used(world, "q/p/m1"), [2, 100, 2]);
    lease
}

#[test]
fn what_was_not_sent_is_given_back_whole() {
    let mut world = World::new(&ONE_KEY, &limits());
    let lease = lease_of_100_tokens(&mut world);
    world.settle(Settle { charge: Charge::Refund, ..keep(&lease) });
    assert_eq!(used(&world, "q/p/m1"), [0, 0, 0]);
}

#[test]
fn an_unknown_outcome_keeps_the_charge_and_returns_the_slot() {
    let mut world = World::new(&ONE_KEY, &limits());
    let lease = lease_of_100_tokens(&mut world);
    world.settle(keep(&lease));
    assert_eq!(used(&world, "q/p/m1"), [2, 100, 0]);
}

#[test]
fn a_definite_answer_corrects_tokens_up_and_down() {
    for (input_tokens, counted) in [(7, 7), (700, 700), (0, 0), (-1, 100)] {
        let mut world = World::new(&ONE_KEY, &limits());
        let lease = lease_of_100_tokens(&mut world);
        world.settle(Settle { input_tokens, ..success(&lease) });
        assert_eq!(used(&world, "q/p/m1"), [2, counted, 0]);
    }
}

#[test]
fn an_expired_lease_returns_its_slot_and_keeps_its_charge() {
    let mut world = World::new(&ONE_KEY, &limits());
    lease_of_100_tokens(&mut world);
    world.now += 60_000;
    assert_eq!(used(&world, "q/p/m1"), [2, 100, 0]);
}

#[test]
fn a_late_report_still_corrects_and_still_teaches() {
    let mut world = World::new(&ONE_KEY, &[LimitSpec(Dimension::InputTokens, Span::Day, 1_000)]);
    let mut request = world.request();
    (request.amounts.input, request.amounts.total) = (100, 100);
    let lease = request.lease.clone();
    world.ask(request);
    world.now += 60_000;
    let late = Settle { input_tokens: 5, blocks: vec![block("k", 9_000, false)], ..success(&lease) };
    assert_eq!(world.settle(late).0, SettleState::Late);
    assert_eq!(used(&world, "q/p/m1"), [5]);
    assert_eq!(world.refusal(), (world.now + 9_000, "k/key".to_owned(), "block:reason".to_owned()));
}

#[test]
fn a_repeated_report_changes_nothing_and_is_told_what_the_first_one_was() {
    let mut world = World::new(&ONE_KEY, &limits());
    let lease = lease_of_100_tokens(&mut world);
    let first = world.settle(Settle { input_tokens: 40, memo: "first".to_owned(), ..success(&lease) });
    assert_eq!((first.0, first.1.as_str(), first.2.as_str()), (SettleState::Settled, "key", ""));
    let again = Settle { charge: Charge::Refund, memo: "second".to_owned(), ..keep(&lease) };
    let again = world.run(&[again.clone(), again], &[], &[]).settles;
    for again in again {
        assert_eq!((again.0, again.1.as_str(), again.2.as_str()), (SettleState::Already, "key", "first"));
    }
    assert_eq!(used(&world, "q/p/m1"), [2, 40, 0]);
}

#[test]
fn a_report_of_an_unknown_lease_changes_nothing() {
    let mut world = World::new(&ONE_KEY, &limits());
    lease_of_100_tokens(&mut world);
    let unknown = Settle { charge: Charge::Refund, blocks: vec![block("q", 1_000, false)], ..keep("other") };
    assert_eq!(world.settle(unknown).0, SettleState::Unknown);
    assert_eq!(used(&world, "q/p/m1"), [2, 100, 2]);
    world.grant();
}

#[test]
fn a_report_that_names_the_wrong_shard_changes_nothing() {
    let mut world = World::new(&ONE_KEY, &limits());
    let lease = lease_of_100_tokens(&mut world);
    // The second is a shard's number out of range.
    for shard in [1, 2] {
        let wrong = Settle { shard, charge: Charge::Refund, ..keep(&lease) };
        assert_eq!(world.settle(wrong).0, SettleState::Unknown);
    }
    assert_eq!(used(&world, "q/p/m1"), [2, 100, 2]);
    assert_eq!(world.settle(keep(&lease)).0, SettleState::Settled);
}

#[test]
fn an_acquire_that_names_a_shard_out_of_range_finds_it_missing() {
    let mut world = World::new(&ONE_KEY, &limits());
    let request = Acquire { shard: 7, ..world.request() };
    assert_eq!(world.ask(request).0, AcquireState::Missing);
}

#[test]
fn a_renewal_keeps_the_slot_and_never_shortens() {
    let mut world = World::new(&ONE_KEY, &[LimitSpec(Dimension::InFlight, Span::Held, 1)]);
    let (lease, _) = world.grant();
    let start = world.now;
    world.now += 50_000;
    assert_eq!(world.renew(&lease, 1_000), Renewed(RenewState::Renewed, start + 60_000));
    assert_eq!(world.renew(&lease, 30_000), Renewed(RenewState::Renewed, start + 80_000));
    assert_eq!(world.refusal(), (start + 80_000, "q/p/m1".to_owned(), "f0".to_owned()));
    world.now += 30_000;
    assert_eq!(world.renew(&lease, 30_000), Renewed(RenewState::Ended, 0));
    assert_eq!(world.renew("other", 30_000), Renewed(RenewState::Unknown, 0));
    world.grant();
}

#[test]
fn a_lease_of_before_the_limit_gives_nothing_back_to_it() {
    let mut world = World::new(&ONE_KEY, &[]);
    let (early, _) = world.grant();
    let mut limited = spec("m1", &ONE_KEY, &[per_minute(1)]);
    limited.generation = 2;
    world.kernel.apply(&limited);
    world.grant();
    world.settle(Settle { charge: Charge::Refund, ..keep(&early) });
    assert_eq!(world.refusal().2, "r60000");
}

#[test]
fn a_correction_that_leaves_an_account_full_may_still_bring_its_instant_forward() {
    let tokens = LimitSpec(Dimension::InputTokens, Span::Trailing(60_000), 100);
    let mut world = World::new(&ONE_KEY, &[tokens]);
    let lease = |world: &mut World, tokens| {
        let request = Acquire { amounts: tokens_of(tokens), ..world.request() };
        let lease = request.lease.clone();
        assert_eq!(world.ask(request).0, AcquireState::Granted);
        lease
    };
    let first_end = world.now + 62_000;
    lease(&mut world, 20);
    world.now += 20_000;
    let (more, less) = (lease(&mut world, 40), lease(&mut world, 31));
    world.settle(Settle { input_tokens: 99, ..success(&more) });
    // 20 and 130 of 100: the second part must end before one token fits.
    assert_eq!(world.refusal().0, first_end + 20_000);
    world.settle(Settle { input_tokens: 0, ..success(&less) });
    // 20 and 99 of 100: the first part is enough, though the account is full still.
    assert_eq!(world.refusal().0, first_end);
    let shard = world.kernel.shard_named("m1").expect("it was applied");
    assert_eq!(shard.next_parked(None).map(|(at, _)| at), Some(first_end));
}

#[test]
fn an_in_flight_limit_that_was_lowered_frees_its_key_when_enough_leases_have_ended() {
    let held = |most| LimitSpec(Dimension::InFlight, Span::Held, most);
    let mut world = World::new(&ONE_KEY, &[held(3)]);
    let start = world.now;
    let leases: Vec<String> = [10_000, 20_000, 30_000]
        .map(|ttl| {
            let mut request = world.request();
            request.ttl = ttl;
            let lease = request.lease.clone();
            assert_eq!(world.ask(request).0, AcquireState::Granted);
            lease
        })
        .to_vec();
    let mut lowered = spec("m1", &ONE_KEY, &[held(1)]);
    lowered.generation = 2;
    world.kernel.apply(&lowered);
    assert_eq!(world.refusal().0, start + 30_000);
    // It stays full, and can serve ten seconds earlier.
    world.settle(keep(&leases[2]));
    assert_eq!(world.refusal().0, start + 20_000);
    let shard = world.kernel.shard_named("m1").expect("it was applied");
    assert_eq!(shard.next_parked(None).map(|(at, _)| at), Some(start + 20_000));
}

#[test]
fn leases_are_forgotten_when_nobody_can_report_them_any_more() {
    let mut world = World::new(&ONE_KEY, &[]);
    let (settled, _) = world.grant();
    let (held, _) = world.grant();
    world.settle(keep(&settled));
    world.now += REMEMBER_SETTLED;
    assert_eq!(world.settle(keep(&settled)).0, SettleState::Already);
    assert_eq!(world.settle(keep(&settled)).0, SettleState::Unknown);
    world.now += REMEMBER_EXPIRED;
    world.run(&[], &[], &[]);
    assert_eq!(world.settle(keep(&held)).0, SettleState::Unknown);
    assert_eq!(world.kernel.leases(), 0);
}

#[test]
fn large_batches_leave_no_more_leases_behind_than_they_add() {
    let mut world = World::new(&ONE_KEY, &[]);
    let many = 4 * FORGET_AT_ONCE;
    for _ in 0..10 {
        let requests: Vec<_> = (0..many).map(|_| world.request()).collect();
        world.run(&[], &[], &requests);
        world.now += 60_000 + REMEMBER_EXPIRED;
    }
    assert!(world.kernel.leases() <= 2 * many, "{}", world.kernel.leases());
}

#[test]
fn a_block_reaches_the_accounts_of_its_role_alone() {
    let mut world = World::new(&[("a", "p"), ("b", "p"), ("c", "o")], &[]);
    let (lease, key) = world.grant();
    assert_eq!(key, "a");
    world.settle(blocking(&lease, vec![block("k", 5_000, false), block("p", 3_000, false)]));
    assert_eq!(world.grant().1, "c");
    world.now += 3_000;
    assert_eq!(world.grant().1, "b");
}
