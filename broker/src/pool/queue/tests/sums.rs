//! Lengths and rates, from which waits are estimated.

use tokio::time::{Duration, Instant};

use super::super::{lane::Lengths, rate::Rate};

fn lengths(of: &[usize]) -> Lengths {
    let mut lengths = Lengths::default();
    of.iter().for_each(|length| lengths.change(0, *length));
    lengths
}

#[test]
fn ahead_of_a_waiter_are_as_many_of_each_other_consumer_as_of_its_own() {
    let lengths = lengths(&[5000, 1000, 10]);
    assert_eq!(lengths.ahead(0, 10), 2);
    assert_eq!(lengths.ahead(9, 10), 9 + 10 + 10);
    assert_eq!(lengths.ahead(999, 1000), 999 + 1000 + 10);
    assert_eq!(lengths.ahead(4999, 5000), 4999 + 1000 + 10);
}

#[test]
fn ahead_of_a_newcomer_are_all_of_its_own_and_one_more_of_each_other_that_has_them() {
    let mut lengths = lengths(&[3, 1]);
    assert_eq!(lengths.ahead(0, 0), 2);
    assert_eq!(lengths.ahead(3, 3), 3 + 1);
    lengths.change(1, 0);
    assert_eq!(lengths.ahead(0, 0), 1);
}

#[test]
fn the_rate_is_that_of_the_last_minute() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut rate = Rate::new(start);
    assert_eq!(rate.time_for(5, start), None);
    (0..10).for_each(|second| rate.add(at(second)));
    assert_eq!(rate.time_for(5, at(9)), Some(Duration::from_secs(5)));
    assert_eq!(rate.time_for(0, at(9)), Some(Duration::ZERO));
    assert_eq!(rate.time_for(1, at(19)), Some(Duration::from_secs(2)));
    assert_eq!(rate.time_for(1, at(69)), None, "what was longer ago says nothing");
}
