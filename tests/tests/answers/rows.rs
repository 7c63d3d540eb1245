//! One test for each row of the table, on each ledger.

use keybroker_tests::{
    answers::{
        beyond::check,
        table::{ROWS, row},
    },
    harness::rig::Backing,
};

macro_rules! rows {
    ($($number:literal: $name:ident),+ $(,)?) => {
        $(async fn $name(backing: Backing) {
            check(row($number), backing).await;
        })+

        keybroker_tests::on_both_ledgers!($($name),+);

        #[test]
        fn every_row_of_the_table_has_its_test() {
            assert_eq!(ROWS.each_ref().map(|row| row.number), [$($number),+]);
        }
    };
}

rows! {
    1: a_spent_minute_cools_that_model_of_that_project_for_the_time_named_and_another_project_serves,
    2: a_spent_day_cools_that_model_of_that_project_to_pacific_midnight_whatever_the_hint,
    3: a_limit_of_zero_takes_that_model_of_that_project_out_for_a_day_and_alerts,
    4: a_429_that_names_no_quota_cools_that_model_of_that_project_for_two_seconds_at_first,
    5: a_spend_rate_cools_every_project_of_the_billing_account_and_another_account_serves,
    6: a_monthly_cap_takes_the_project_out_with_a_probe_a_day_and_alerts,
    7: spent_credit_takes_the_billing_account_out_and_alerts,
    8: an_invalid_key_is_out_until_it_is_checked_again_and_the_other_key_of_its_project_serves,
    9: a_key_of_the_wrong_binding_is_quarantined,
    10: a_leaked_key_is_out_until_an_operator_acts_who_is_told_so,
    11: a_suspended_key_is_out_and_a_second_one_takes_its_project_along,
    12: a_disabled_project_is_out_with_all_its_keys_and_probed_slowly,
    13: a_restricted_key_is_quarantined_and_the_other_key_of_its_project_serves,
    14: a_file_of_another_project_penalises_nobody_and_is_not_tried_elsewhere,
    15: a_denial_without_a_reason_is_tried_with_one_other_key_and_acted_on_when_it_repeats,
    16: several_credentials_in_one_request_penalise_nobody,
    17: an_unsupported_location_penalises_nobody,
    18: a_bad_request_penalises_nobody_and_is_not_sent_again,
    19: a_model_closed_to_new_users_is_out_for_that_project_alone,
    20: an_overloaded_model_opens_a_breaker_of_that_model_and_no_key_is_blamed,
    21: a_server_or_a_network_that_fails_is_tried_again_later_and_nobody_is_blamed,
    22: a_caller_that_is_gone_frees_its_slot_and_keeps_its_charge,
    23: a_request_that_was_never_sent_is_refunded,
}
