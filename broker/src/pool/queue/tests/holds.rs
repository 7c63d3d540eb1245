//! Who is refused keeps its turn; others go on with what it could not use.

use std::time::Duration;

use super::{
    super::{
        hold::{MOST_PASSED_OVER, Obstacle},
        scheduler::LOOK_AGAIN,
    },
    world::{Line, charging, need, pinned},
};

fn keys(names: &[&str]) -> Obstacle {
    Obstacle::Keys(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn one_refusal_answers_for_all_who_need_as_much() {
    let mut line = Line::default();
    for consumer in ["a", "b", "c"] {
        line.join_all(1000, consumer, &need(1));
    }
    let first = line.scheduler.next(line.now);
    assert_eq!(first.len(), 1);
    line.refuse(&first[0], 60_000);
    assert!(line.scheduler.next(line.now).is_empty(), "nobody else is asked for");
    line.advance(10_000);
    let again: Vec<_> = line.scheduler.next(line.now).iter().map(|ask| ask.ticket).collect();
    assert_eq!(again, [first[0].ticket], "a look at whether something came back");
}

#[test]
fn who_was_refused_is_the_first_at_its_instant() {
    let mut line = Line::default();
    line.join_all(3, "a", &need(1));
    let newcomer = line.join("b", need(1));
    let ask = line.scheduler.next(line.now).remove(0);
    line.refuse(&ask, 700);
    assert_eq!(line.scheduler.rest_until(), Some(line.now + Duration::from_millis(700)));
    line.advance(700);
    assert_eq!(line.serve(4), [ask.ticket, newcomer, 2, 3]);
}

#[test]
fn a_pinned_request_is_passed_over_also_by_its_own_consumer_and_its_project_is_kept_for_it() {
    let mut line = Line::default();
    let first = line.join("a", pinned(1, &["k1", "k2"]));
    let second = line.join("a", need(1));
    let ask = line.scheduler.next(line.now).remove(0);
    assert_eq!(ask.ticket, first);
    line.refuse_by(&ask, 30_000, keys(&["k1", "k2"]));
    let ask = line.scheduler.next(line.now).remove(0);
    assert_eq!((ask.ticket, ask.kept.clone()), (second, vec!["k1".to_owned(), "k2".to_owned()]));
    line.scheduler.granted(second).unwrap();
    line.advance(30_000);
    let ask = line.scheduler.next(line.now).remove(0);
    assert_eq!((ask.ticket, ask.kept.len()), (first, 0), "its own keys are not kept from it");
}

#[test]
fn a_large_request_is_not_starved_by_small_ones_of_others() {
    let mut line = Line::default();
    let large = line.join("large", need(10));
    line.join_all(500, "small", &need(1));
    line.serve(9);
    let ask = line.scheduler.next(line.now).remove(0);
    assert_eq!(ask.ticket, large);
    line.refuse_by(&ask, 20_000, keys(&["k3"]));
    // Small ones go on, never with the key that the large one waits for.
    for _ in 0..12 {
        let asks = line.scheduler.next(line.now);
        assert!(!asks.is_empty() && asks.iter().all(|ask| ask.kept == ["k3"]), "{asks:?}");
        for ask in asks {
            line.scheduler.granted(ask.ticket).unwrap();
        }
    }
    line.advance(20_000);
    assert_eq!(line.scheduler.next(line.now).remove(0).ticket, large);
}

#[test]
fn those_who_were_passed_over_do_not_make_up_for_it_at_the_cost_of_the_others() {
    let mut line = Line::default();
    line.join_all(50, "two", &need(2));
    line.join_all(500, "one", &need(1));
    line.serve(1);
    let ask = line.scheduler.next(line.now).remove(0);
    assert_eq!(line.consumer(ask.ticket), "two");
    line.refuse_by(&ask, 900, keys(&["k"]));
    assert_eq!(line.serve_consumers(100), ["one"; 100]);
    line.advance(900);
    assert_eq!(line.serve_consumers(1), ["two"], "it kept its turn");
    let served = line.serve_consumers(30);
    assert_eq!(served.iter().filter(|name| **name == "two").count(), 10, "{served:?}");
}

#[test]
fn a_consumer_at_its_own_limit_does_not_block_the_others() {
    let mut line = Line::default();
    line.join_all(100, "greedy", &charging("c/greedy"));
    let others: Vec<u64> = (0..20).map(|_| line.join("modest", charging("c/modest"))).collect();
    let ask = line.scheduler.next(line.now).remove(0);
    line.refuse_by(&ask, 40_000, Obstacle::Shared("c/greedy".to_owned()));
    assert_eq!(line.serve(20), others, "and nothing is kept from them");
    assert!(line.scheduler.next(line.now).is_empty(), "the others of the consumer stand still");
    line.advance(40_000);
    assert_eq!(line.serve(1), [ask.ticket]);
}

#[test]
fn a_limit_of_the_whole_pool_holds_everybody_and_the_order_stays() {
    let mut line = Line::default();
    let tickets: Vec<u64> = ["a", "b", "a"].iter().map(|name| line.join(name, charging("P"))).collect();
    let ask = line.scheduler.next(line.now).remove(0);
    line.refuse_by(&ask, 5000, Obstacle::Shared("P".to_owned()));
    assert!(line.scheduler.next(line.now).is_empty());
    line.advance(5000);
    assert_eq!(line.serve(3), tickets);
}

#[test]
fn of_a_thousand_consumers_at_their_limits_a_report_asks_for_a_few_and_all_in_turn() {
    let mut line = Line::default();
    let names: Vec<String> = (0..1000).map(|index| format!("c/{index}")).collect();
    let mut tickets: Vec<u64> = names.iter().map(|name| line.join(name, charging(name))).collect();
    for _ in 0..names.len() {
        let ask = line.scheduler.next(line.now).remove(0);
        let account = line.consumer(ask.ticket).to_owned();
        line.refuse_by(&ask, 60_000, Obstacle::Shared(account));
    }
    assert!(line.scheduler.next(line.now).is_empty());
    let mut asked = Vec::new();
    for _ in 0..250 {
        line.scheduler.freed();
        let asks = line.scheduler.next(line.now);
        assert!((1..=4).contains(&asks.len()), "{} asks", asks.len());
        for ask in asks {
            asked.push(ask.ticket);
            let account = line.consumer(ask.ticket).to_owned();
            line.refuse_by(&ask, 60_000, Obstacle::Shared(account));
        }
    }
    asked.sort_unstable();
    tickets.sort_unstable();
    assert_eq!(asked, tickets);
}

#[test]
fn only_a_few_are_passed_over_at_a_time() {
    let mut line = Line::default();
    let names: Vec<String> = (0..100).map(|index| format!("k{index}")).collect();
    for name in &names {
        line.join(name, pinned(1, &[name]));
    }
    line.join("plain", need(1));
    let mut refused = 0;
    while let Some(ask) = line.scheduler.next(line.now).first().cloned() {
        let key = line.consumer(ask.ticket).to_owned();
        line.refuse_by(&ask, 60_000, keys(&[&key]));
        refused += 1;
        assert!(refused <= MOST_PASSED_OVER, "more are passed over");
    }
    assert_eq!(refused, MOST_PASSED_OVER);
}

#[test]
fn who_finds_all_its_keys_kept_for_others_is_asked_for_when_they_are_served() {
    let mut line = Line::default();
    let large = line.join("a", need(10));
    line.join_all(9, "b", &need(1));
    line.serve(9);
    let ask = line.scheduler.next(line.now).remove(0);
    assert_eq!(ask.ticket, large);
    line.refuse_by(&ask, 9000, keys(&["only"]));
    let small = line.join("b", need(1));
    let ask = line.scheduler.next(line.now).remove(0);
    assert_eq!((ask.ticket, ask.kept.as_slice()), (small, &["only".to_owned()][..]));
    line.refuse_for_good(&ask, keys(&[]), true);
    assert!(line.scheduler.next(line.now).is_empty(), "it is not told that it is never served");
    line.scheduler.leave(large).unwrap();
    let ask = line.scheduler.next(line.now).remove(0);
    assert_eq!((ask.ticket, ask.kept.len()), (small, 0));
}

#[test]
fn a_lapse_of_a_second_asks_again_because_others_may_have_reported() {
    let mut line = Line::default();
    line.join("a", need(1));
    let ask = line.scheduler.next(line.now).remove(0);
    line.refuse(&ask, 600_000);
    assert_eq!(line.scheduler.rest_until(), Some(line.now + LOOK_AGAIN));
    line.advance(999);
    assert!(line.scheduler.next(line.now).is_empty());
    line.advance(1);
    assert_eq!(line.scheduler.next(line.now).len(), 1);
}

#[test]
fn whoever_asked_by_itself_and_was_refused_is_not_asked_for_again_at_once() {
    let mut line = Line::default();
    line.join_refused("a", need(1), 500);
    line.join_refused("a", need(1), 500);
    assert!(line.scheduler.next(line.now).is_empty());
    line.scheduler.freed();
    assert_eq!(line.scheduler.next(line.now).len(), 1, "but when something came back");
}
