//! Deficit round robin, as a pure data structure.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{
    super::scheduler::{LARGEST_WINDOW, Scheduler},
    world::{Line, need},
};

#[test]
fn within_one_consumer_first_come_is_first_served() {
    let mut line = Line::default();
    let tickets: Vec<u64> = (0..20).map(|_| line.join("a", need(1))).collect();
    assert_eq!(line.serve(20), tickets);
}

#[test]
fn a_small_request_does_not_overtake_a_large_one_of_its_consumer() {
    let mut line = Line::default();
    let tickets: Vec<u64> = [3, 1, 1, 2].into_iter().map(|permits| line.join("a", need(permits))).collect();
    assert_eq!(line.serve(4), tickets);
}

#[test]
fn who_arrived_earlier_goes_first_also_if_it_joins_later() {
    let mut line = Line::default();
    line.join_as(7, "a", need(1));
    line.join_as(3, "a", need(1));
    line.join_as(5, "a", need(1));
    assert_eq!(line.serve(3), [3, 5, 7]);
}

#[test]
fn consumers_take_turns_however_many_wait_for_each() {
    let mut line = Line::default();
    for (consumer, waiters) in [("many", 900), ("some", 90), ("few", 30)] {
        line.join_all(waiters, consumer, &need(1));
    }
    let served = line.serve_consumers(90);
    for consumer in ["many", "some", "few"] {
        assert_eq!(served.iter().filter(|name| **name == consumer).count(), 30, "{consumer}");
    }
    // The few are served; the others share what is left.
    let served = line.serve_consumers(100);
    assert_eq!(served.iter().filter(|name| **name == "many").count(), 50);
    assert_eq!(served.iter().filter(|name| **name == "some").count(), 50);
}

#[test]
fn the_cost_of_a_turn_is_its_permits() {
    let mut line = Line::default();
    line.join_all(100, "single", &need(1));
    line.join_all(100, "double", &need(2));
    line.join_all(100, "five", &need(5));
    // Ten rounds of one permit each: ten singles, five doubles and two fives.
    let served = line.serve_consumers(17);
    for (consumer, turns) in [("single", 10), ("double", 5), ("five", 2)] {
        assert_eq!(served.iter().filter(|name| **name == consumer).count(), turns, "{consumer}");
    }
}

#[test]
fn a_request_of_a_thousand_permits_is_served_after_a_thousand_of_the_others() {
    let mut line = Line::default();
    let large = line.join("large", need(1000));
    line.join_all(1500, "small", &need(1));
    let served = line.serve(1001);
    assert_eq!(served.iter().position(|ticket| *ticket == large), Some(999));
}

#[test]
fn whoever_comes_back_again_and_again_gets_no_more_than_its_turn() {
    let mut line = Line::default();
    line.join_all(100, "steady", &need(1));
    line.join("comes-back", need(1));
    let mut served = Vec::new();
    for _ in 0..60 {
        served.extend(line.serve_consumers(1));
        if served.last() == Some(&"comes-back") {
            line.join("comes-back", need(1));
        }
    }
    assert_eq!(served.iter().filter(|name| **name == "comes-back").count(), 30);
}

#[test]
fn a_consumer_without_waiters_keeps_no_deficit() {
    let mut line = Line::default();
    let large = line.join("a", need(500));
    line.join_all(300, "b", &need(1));
    line.serve(100);
    line.scheduler.leave(large).unwrap();
    line.join_all(100, "a", &need(1));
    let served = line.serve_consumers(100);
    assert_eq!(served.iter().filter(|name| **name == "a").count(), 50);
}

#[test]
fn who_left_is_not_asked_for() {
    let mut line = Line::default();
    let tickets: Vec<u64> = (0..6).map(|_| line.join("a", need(1))).collect();
    for left in [tickets[0], tickets[3], tickets[5]] {
        assert!(line.scheduler.leave(left).is_some());
        assert!(line.scheduler.leave(left).is_none(), "it left before");
    }
    assert_eq!(line.serve(3), [tickets[1], tickets[2], tickets[4]]);
    assert!(line.scheduler.is_empty());
    assert!(line.scheduler.next(line.now).is_empty());
}

#[test]
fn more_are_asked_for_at_once_only_as_leases_are_granted() {
    let mut line = Line::default();
    line.join_all(2000, "a", &need(1));
    let (mut asked, mut granted) = (0, 0);
    while !line.scheduler.is_empty() {
        let asks = line.scheduler.next(line.now);
        assert!(asks.len() <= LARGEST_WINDOW && asks.len() <= 1 + granted / 4, "{} asks", asks.len());
        asked += asks.len();
        for ask in asks {
            line.scheduler.granted(ask.ticket).unwrap();
            granted += 1;
        }
    }
    assert_eq!((asked, granted), (2000, 2000));
}

#[test]
fn the_rest_of_a_window_that_was_refused_is_as_if_it_had_not_been_asked() {
    let mut line = Line::default();
    line.join_all(40, "a", &need(1));
    line.join_all(40, "b", &need(1));
    line.join_all(40, "c", &need(1));
    let mut served = Vec::new();
    while served.len() < 120 {
        let asks = line.scheduler.next(line.now);
        // Of each window but the smallest, only the first is granted.
        for (index, ask) in asks.iter().enumerate() {
            if index == 0 || asks.len() < 4 {
                served.push(line.consumer(ask.ticket));
                line.scheduler.granted(ask.ticket).unwrap();
            } else {
                line.refuse(ask, 1000);
            }
        }
        line.advance(1000);
    }
    for (index, consumer) in served.iter().enumerate() {
        assert_eq!(*consumer, ["a", "b", "c"][index % 3], "turn {index}");
    }
}

/// Deficit round robin by the book: rounds are walked, each visit brings a quantum of one.
fn by_the_book(demands: &BTreeMap<usize, Vec<i64>>) -> Vec<usize> {
    let mut lanes: Vec<(usize, VecDeque<i64>, i64)> =
        demands.iter().map(|(id, permits)| (*id, permits.iter().copied().collect(), 0)).collect();
    let mut served = Vec::new();
    while lanes.iter().any(|(_, waiting, _)| !waiting.is_empty()) {
        for (id, waiting, deficit) in &mut lanes {
            let Some(_) = waiting.front() else { continue };
            *deficit += 1;
            while let Some(cost) = waiting.front().copied()
                && *deficit >= cost
            {
                *deficit -= cost;
                waiting.pop_front();
                served.push(*id);
            }
        }
    }
    served
}

proptest! {
    #[test]
    fn the_order_is_that_of_deficit_round_robin_by_the_book(
        demands in prop::collection::btree_map(0..8_usize, prop::collection::vec(1..40_i64, 1..30), 1..8)
    ) {
        let names = ["0", "1", "2", "3", "4", "5", "6", "7"];
        let mut line = Line::default();
        for (id, permits) in &demands {
            for permits in permits {
                line.join(names[*id], need(*permits));
            }
        }
        let expected: Vec<&str> = by_the_book(&demands).into_iter().map(|id| names[id]).collect();
        prop_assert_eq!(line.serve_consumers(expected.len()), expected);
        prop_assert!(line.scheduler.is_empty());
    }

    #[test]
    fn whatever_is_refused_and_whoever_leaves_each_is_served_once_or_left(
        steps in prop::collection::vec((0..5_u8, 0..4_usize, 1..5_i64), 1..300)
    ) {
        let names = ["a", "b", "c", "d"];
        let mut line = Line::default();
        let (mut present, mut gone) = (Vec::new(), Vec::new());
        for (step, who, permits) in steps {
            match step {
                0 | 1 => present.push(line.join(names[who], need(permits))),
                2 if !present.is_empty() => {
                    let ticket = present.remove(who % present.len());
                    prop_assert!(line.scheduler.leave(ticket).is_some());
                    gone.push(ticket);
                }
                3 => line.advance(100 * permits as u64),
                _ => {
                    for (index, ask) in line.scheduler.next(line.now).into_iter().enumerate() {
                        prop_assert!(present.contains(&ask.ticket), "{} is asked for and not there", ask.ticket);
                        if (index as i64 + permits) % 2 == 0 {
                            line.scheduler.granted(ask.ticket).unwrap();
                            present.retain(|ticket| *ticket != ask.ticket);
                        } else {
                            line.refuse(&ask, 300);
                        }
                    }
                }
            }
            prop_assert_eq!(line.scheduler.len(), present.len());
        }
        // Once there is plenty, all who stayed are served.
        line.advance(1000);
        let mut served = line.serve(present.len());
        served.sort_unstable();
        present.sort_unstable();
        prop_assert_eq!(served, present);
    }
}

#[test]
fn an_empty_queue_asks_for_nobody() {
    let mut scheduler: Scheduler<()> = Scheduler::default();
    let now = tokio::time::Instant::now();
    assert!(scheduler.next(now).is_empty());
    assert_eq!(scheduler.rest_until(), None);
}
