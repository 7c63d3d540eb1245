//! What was used, by name.

use super::world::{World, keep, per_minute, success, tokens_of};
use crate::ledger::{Acquire, Charge, Settle, Used, calendar::Calendar, kernel::REMEMBER_EXPIRED};

fn leased(world: &mut World) -> String {
    let request = Acquire { amounts: tokens_of(100), usage: "alice\u{1f}m1".to_owned(), ..world.request() };
    world.ask(request.clone());
    request.lease
}

fn used(world: &mut World, outcome: &str) -> Option<Used> {
    let day_end = Calendar::around(world.now).day_end(world.now);
    world.kernel.changes.usage.get(&(day_end, format!("alice\u{1f}m1\u{1f}p\u{1f}a\u{1f}{outcome}"))).copied()
}

#[test]
fn a_success_counts_what_was_used_and_an_unclear_end_what_was_charged() {
    let mut world = World::new(&[("a", "p")], &[per_minute(9)]);
    for _ in 0..2 {
        let lease = leased(&mut world);
        let settle = Settle { input_tokens: 90, total_tokens: 140, spend: 7, ..success(&lease) };
        world.settle(Settle { outcome: "ok".to_owned(), ..settle.clone() });
        // Reporting again counts nothing.
        world.settle(settle);
    }
    assert_eq!(used(&mut world, "ok"), Some(Used(2, 2, 180, 280, 14, 0)));
    let lease = leased(&mut world);
    world.settle(keep(&lease));
    assert_eq!(used(&mut world, "kept"), Some(Used(1, 1, 100, 100, 0, 0)));
}

#[test]
fn what_was_never_sent_is_a_lease_and_no_request() {
    let mut world = World::new(&[("a", "p")], &[per_minute(9)]);
    let lease = leased(&mut world);
    world.settle(Settle { charge: Charge::Refund, outcome: "not_sent".to_owned(), ..keep(&lease) });
    assert_eq!(used(&mut world, "not_sent"), Some(Used(1, 0, 0, 0, 0, 0)));
}

#[test]
fn a_lease_of_which_no_report_came_is_counted_when_it_is_forgotten() {
    let mut world = World::new(&[("a", "p")], &[per_minute(9)]);
    leased(&mut world);
    world.now += 60_000 + REMEMBER_EXPIRED - 1;
    world.run(&[], &[], &[]);
    assert_eq!(used(&mut world, "unreported"), None);
    world.now += 1_000;
    world.run(&[], &[], &[]);
    assert_eq!(used(&mut world, "unreported"), Some(Used(1, 1, 100, 100, 0, 0)));
}
