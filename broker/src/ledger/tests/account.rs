use crate::ledger::{Block, Dimension, FOREVER, LimitSpec, Mode, Span, account::Account};

const NOW: i64 = 1_784_012_345_678;
const DAY_END: i64 = NOW + 3_600_000;

fn block(steps: &[i64], probe: bool) -> Block {
    Block {
        role: "k".to_owned(),
        steps: steps.to_vec(),
        until_day_end: false,
        probe,
        reason: format!("{steps:?}"),
    }
}

#[test]
fn a_block_only_lengthens() {
    let mut account = Account::default();
    account.block(NOW, NOW, DAY_END, &block(&[34_000], false));
    account.block(NOW, NOW, DAY_END, &block(&[1_000], false));
    assert_eq!((account.blocked_until, account.reason.as_str()), (NOW + 34_000, "[34000]"));
    account.block(NOW + 1, NOW, DAY_END, &block(&[34_000], false));
    assert_eq!(account.blocked_until, NOW + 34_001);
    account.block(NOW, NOW, DAY_END, &Block { until_day_end: true, ..block(&[], false) });
    assert_eq!(account.blocked_until, DAY_END);
}

#[test]
fn a_block_for_good_has_no_end_and_no_later_one_ends_it() {
    let mut account = Account::default();
    account.block(NOW, NOW, DAY_END, &block(&[FOREVER], false));
    account.block(NOW, NOW, DAY_END, &block(&[1_000], false));
    assert_eq!(account.blocked_until, FOREVER);
}

#[test]
fn steps_escalate_only_by_leases_granted_after_the_block() {
    let steps = block(&[2_000, 4_000, 8_000], false);
    let mut account = Account::default();
    account.block(NOW, NOW - 10, DAY_END, &steps);
    assert_eq!((account.blocked_until, account.streak), (NOW + 2_000, 1));
    // Three more that were under way already: they lengthen nothing but the wait from now.
    for late in 1..4 {
        account.block(NOW + late, NOW - 5, DAY_END, &steps);
        assert_eq!((account.blocked_until, account.streak), (NOW + late + 2_000, 1));
    }
    let after = account.blocked_until;
    account.block(after + 100, after, DAY_END, &steps);
    assert_eq!((account.blocked_until, account.streak), (after + 4_100, 2));
    for _ in 0..5 {
        let after = account.blocked_until;
        account.block(after, after, DAY_END, &steps);
        assert_eq!(account.blocked_until, after + 8_000, "the last step repeats");
    }
}

#[test]
fn a_single_step_is_not_counted_as_one_of_a_row() {
    let mut account = Account::default();
    account.block(NOW, NOW, DAY_END, &block(&[2_000], false));
    assert_eq!(account.streak, 0);
}

#[test]
fn a_success_of_a_lease_granted_after_the_block_ends_the_row() {
    let mut account = Account::default();
    account.block(NOW, NOW, DAY_END, &block(&[2_000, 4_000], false));
    account.lease_ended("early", NOW, NOW, true);
    assert_eq!(account.streak, 1);
    account.lease_ended("later", NOW + 2_000, NOW + 2_000, true);
    assert_eq!(account.streak, 0);
}

#[test]
fn a_raised_limit_forgets_nothing_and_an_older_catalogue_changes_nothing() {
    let limit = |most| [LimitSpec(Dimension::Requests, Span::Trailing(60_000), most)];
    let mut account = Account::default();
    account.set_limits(1, &limit(2), Mode::Hard, 1);
    account.windows[0].add(NOW, NOW + 60_000, 2);
    account.set_limits(3, &limit(3), Mode::Hard, 2);
    assert_eq!((account.windows[0].used(NOW), account.windows[0].limit), (2, 3));
    account.set_limits(2, &limit(100), Mode::Hard, 3);
    assert_eq!(account.windows[0].limit, 3);
    account.set_limits(4, &limit(1), Mode::Hard, 4);
    assert_eq!((account.windows[0].limit, account.smallest_at(NOW)), (1, NOW + 60_000));
}

#[test]
fn an_account_that_no_catalogue_knows_is_empty_once_its_block_is_over() {
    let mut account = Account::default();
    account.block(NOW, NOW, DAY_END, &block(&[2_000], false));
    assert!(!account.is_empty(NOW + 1_999));
    assert!(account.is_empty(NOW + 2_000));
    account.block(NOW, NOW, DAY_END, &block(&[2_000], true));
    assert!(!account.is_empty(NOW + 2_000), "a probe is still owed");
}
