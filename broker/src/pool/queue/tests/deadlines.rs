//! Deadlines, as the pure data structure keeps them.

use std::time::Duration;

use super::{
    super::hold::Obstacle,
    world::{Line, charging, need},
};

fn after(line: &Line, millis: u64) -> tokio::time::Instant {
    line.now + Duration::from_millis(millis)
}

#[test]
fn whoever_cannot_be_served_before_its_deadline_is_refused_at_once_without_being_asked_for() {
    let mut line = Line::default();
    let deadline = after(&line, 10_000);
    let hasty: Vec<u64> = (0..500).map(|_| line.join_until("a", need(1), deadline)).collect();
    let patient = line.join("b", need(1));
    let ask = line.scheduler.next(line.now).remove(0);
    let mut ended = line.refuse(&ask, 30_000);
    ended.sort_unstable();
    assert_eq!(ended, hasty);
    assert_eq!(line.scheduler.next(line.now).remove(0).ticket, patient);
}

#[test]
fn what_is_never_possible_is_told_to_all_for_whom_it_holds() {
    let mut line = Line::default();
    let larger: Vec<u64> = [60, 70, 55].iter().map(|permits| line.join("a", need(*permits))).collect();
    let smaller = line.join("a", need(5));
    let ask = line.scheduler.next(line.now).remove(0);
    let mut ended = line.refuse_for_good(&ask, Obstacle::Keys(Vec::new()), false);
    ended.sort_unstable();
    assert_eq!(ended, larger[..2], "60 permits are too many, and so are 70");
    assert_eq!(line.serve(2), [larger[2], smaller]);
}

#[test]
fn a_consumers_limit_ends_only_its_own_waiters() {
    let mut line = Line::default();
    let deadline = after(&line, 1000);
    let own: Vec<u64> = (0..3).map(|_| line.join_until("a", charging("c/a"), deadline)).collect();
    let other = line.join_until("b", charging("c/b"), deadline);
    let ask = line.scheduler.next(line.now).remove(0);
    let mut ended = line.refuse_by(&ask, 2000, Obstacle::Shared("c/a".to_owned()));
    ended.sort_unstable();
    assert_eq!(ended, own);
    assert_eq!(line.serve(1), [other]);
}

#[test]
fn deadlines_end_those_who_wait_and_those_who_hold_a_turn_in_time() {
    let mut line = Line::default();
    let first = line.join_until("a", need(1), after(&line, 800));
    let second = line.join_until("a", need(1), after(&line, 500));
    let ask = line.scheduler.next(line.now).remove(0);
    assert_eq!(ask.ticket, first);
    assert!(line.refuse(&ask, 400).is_empty());
    line.advance(400);
    let ask = line.scheduler.next(line.now).remove(0);
    assert_eq!(ask.ticket, first);
    assert_eq!(line.refuse(&ask, 390), [second], "790 is beyond its deadline");
    assert_eq!(line.expire(after(&line, 399)), Vec::<u64>::new());
    assert_eq!(line.expire(after(&line, 400)), [first]);
}

#[test]
fn nobody_is_ended_while_the_ledger_is_asked_for_it() {
    let mut line = Line::default();
    let ticket = line.join_until("a", need(1), after(&line, 10));
    let ask = line.scheduler.next(line.now).remove(0);
    line.advance(50);
    assert_eq!(line.expire(line.now), Vec::<u64>::new());
    assert_eq!(line.scheduler.next_deadline(), None);
    assert_eq!(ask.ticket, ticket);
    line.scheduler.granted(ticket).unwrap();
}
