use crate::ledger::Order;
use crate::ledger::shard::{CLASS_SPAN, CLASSES, Candidate, Place, SCALE, Shard};

fn shard(candidates: &[(&str, i64, i64)]) -> Shard {
    let candidate = |&(name, class, weight): &(&str, i64, i64)| Candidate {
        name: name.into(),
        class,
        step: SCALE / weight,
        limited: vec![],
        sparse: vec![],
        tag: "".into(),
        place: Place::Ready(class * CLASS_SPAN),
    };
    Shard::new(candidates.iter().map(candidate).collect(), [0; CLASSES], 0, Order::Share)
}

/// Grants to the first in order; who it was.
fn grant(shard: &mut Shard) -> String {
    let (_, index) = shard.next_ready(None).expect("one is ready");
    shard.advance(index, 0, 100, 0.0);
    shard.get(index).name.to_string()
}

fn grants(shard: &mut Shard, count: usize) -> Vec<String> {
    (0..count).map(|_| grant(shard)).collect()
}

fn park(shard: &mut Shard, name: &str) {
    shard.park(shard.find(name).expect("it is a candidate"), 1_000);
}

fn unpark(shard: &mut Shard, name: &str) {
    shard.unpark(shard.find(name).expect("it is a candidate"));
}

#[test]
fn equal_candidates_take_turns_exactly() {
    let mut shard = shard(&[("a", 0, 1), ("b", 0, 1), ("c", 0, 1)]);
    assert_eq!(grants(&mut shard, 300), ["a", "b", "c"].repeat(100));
}

#[test]
fn weights_of_three_to_one_give_exactly_300_and_100_of_400() {
    let mut shard = shard(&[("heavy", 0, 3), ("light", 0, 1)]);
    let granted = grants(&mut shard, 400);
    assert_eq!(granted.iter().filter(|name| *name == "heavy").count(), 300);
    // It is even on the way too: in any eight in a row, six.
    for eight in granted[2..].chunks_exact(8) {
        assert_eq!(eight.iter().filter(|name| *name == "heavy").count(), 6, "{eight:?}");
    }
}

#[test]
fn a_backup_is_used_only_while_every_primary_is_parked() {
    let mut shard = shard(&[("backup", 1, 1000), ("first", 0, 1), ("second", 0, 1)]);
    assert_eq!(grants(&mut shard, 4), ["first", "second", "first", "second"]);
    park(&mut shard, "first");
    assert_eq!(grants(&mut shard, 2), ["second", "second"]);
    park(&mut shard, "second");
    assert_eq!(grants(&mut shard, 3), ["backup", "backup", "backup"]);
    unpark(&mut shard, "first");
    assert_eq!(grants(&mut shard, 2), ["first", "first"]);
}

#[test]
fn who_comes_back_from_parking_is_owed_at_most_one_turn_for_its_absence() {
    let mut shard = shard(&[("a", 0, 1), ("b", 0, 1)]);
    park(&mut shard, "a");
    assert_eq!(grants(&mut shard, 50), ["b"; 50]);
    unpark(&mut shard, "a");
    assert_eq!(grants(&mut shard, 5), ["a", "a", "b", "a", "b"]);
}

#[test]
fn who_was_ahead_when_it_was_parked_owes_at_most_one_turn() {
    let mut shard = shard(&[("a", 0, 1), ("b", 0, 1)]);
    park(&mut shard, "b");
    assert_eq!(grants(&mut shard, 50), ["a"; 50]);
    park(&mut shard, "a");
    unpark(&mut shard, "b");
    unpark(&mut shard, "a");
    let granted = grants(&mut shard, 20);
    assert_eq!(granted.iter().filter(|name| *name == "a").count(), 10, "{granted:?}");
}

#[test]
fn a_rebase_keeps_the_order() {
    let candidates = [("a", 0, 1), ("b", 0, 3), ("c", 0, 7), ("d", 0, 2), ("e", 2, 3), ("f", 2, 1)];
    let (mut rebased, mut left) = (shard(&candidates), shard(&candidates));
    for shard in [&mut rebased, &mut left] {
        grants(shard, 37);
        for name in ["a", "b", "c", "d"] {
            park(shard, name);
        }
        grants(shard, 11);
        for name in ["a", "b", "c", "d"] {
            unpark(shard, name);
        }
        grants(shard, 3);
    }
    assert!(!rebased.rebase(SCALE).is_empty());
    assert_eq!(rebased.virtual_time, [0; CLASSES]);
    assert!(rebased.candidates().iter().all(|candidate| match candidate.place {
        Place::Ready(rank) =>
            (candidate.class * CLASS_SPAN..(candidate.class + 1) * CLASS_SPAN).contains(&rank),
        Place::Parked(..) => false,
    }));
    assert_eq!(grants(&mut rebased, 60), grants(&mut left, 60));
}

#[test]
fn a_rebase_before_its_time_moves_nobody() {
    let mut shard = shard(&[("a", 0, 1), ("b", 0, 1)]);
    grants(&mut shard, 10);
    assert!(shard.rebase(100 * SCALE).is_empty());
}
