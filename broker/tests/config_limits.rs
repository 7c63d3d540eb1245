//! Margins, smoothed bursts, totals, limits of money and the prices they are counted by.

mod config_support;

use config_support::{assert_faults, key, pool, project, with_key};
use keybroker::catalogue::{
    Dimension, Dollars, Key, LearnLimits, Limit, LimitRule, NamePattern, Pool, Price, Project, Window,
};
use keybroker::secret::Secret;
use proptest::prelude::*;

const SECOND: Window = Window::Trailing(1);
const MINUTE: Window = Window::Trailing(60);

fn requests(window: Window, amount: u64) -> Limit {
    Limit::new(Dimension::Requests, window, amount)
}

fn rule(limits: Vec<Limit>) -> Vec<LimitRule> {
    vec![LimitRule::new(NamePattern::Any, limits)]
}

#[test]
fn a_margin_lowers_every_limit_of_the_pool_and_none_of_the_plans() {
    let catalogue = with_key(
        r#"
[[pools]]
margin_percent = 10
limits = [ { requests_per_minute = 15 } ]
totals = { requests_per_day = 99 }
model_totals = [ { model = "flash", in_flight = 3 } ]
[[projects]]
id = "a"
billing_account = "acct"
totals = { input_tokens_per_day = 1000 }
keys = [ { secret = "test-key-aaaaaaaa-0002", limits = [ { requests_per_minute = 9 } ], totals = { in_flight = 1 } } ]
[[billing_accounts]]
id = "acct"
totals = { requests_per_month = 10 }
[[plans]]
name = "team"
requests_per_minute = 15
"#,
    )
    .loaded()
    .catalogue;
    let default = pool(&catalogue, "default");
    let a = project(&catalogue, "a");
    assert_eq!(default.limits_for(a, "flash"), [requests(MINUTE, 13)]);
    assert_eq!(default.key_limits_for(a, &a.keys[0], "flash"), [requests(MINUTE, 8)]);
    assert_eq!(default.key_totals(a, &a.keys[0]), [Limit::new(Dimension::InFlight, Window::None, 1)]);
    let tokens = Limit::new(Dimension::InputTokens, Window::PacificDay, 900);
    assert_eq!(default.project_totals(a), [tokens]);
    assert_eq!(default.account_totals("acct"), [requests(Window::Month, 9)]);
    assert_eq!(default.account_totals("another"), []);
    assert_eq!(default.pool_totals(), [requests(Window::PacificDay, 89)]);
    assert_eq!(default.model_totals_for("flash"), [Limit::new(Dimension::InFlight, Window::None, 2)]);
    assert_eq!(default.model_totals_for("pro"), []);
    assert_eq!(catalogue.plans["team"].limits, [requests(MINUTE, 15)]);
}

#[test]
fn a_projects_margin_and_smoothing_stand_before_its_pools() {
    let catalogue = with_key(
        r#"
[[pools]]
margin_percent = 50
smooth_bursts = true
limits = [ { requests_per_minute = 600 } ]
[[projects]]
id = "own"
margin_percent = 0
smooth_bursts = false
keys = [ { secret = "test-key-aaaaaaaa-0002" } ]
"#,
    )
    .loaded()
    .catalogue;
    let default = pool(&catalogue, "default");
    assert_eq!(default.limits_for(project(&catalogue, "own"), "m"), [requests(MINUTE, 600)]);
    let team = project(&catalogue, "team");
    assert_eq!(default.limits_for(team, "m"), [requests(SECOND, 5), requests(MINUTE, 300)]);
    assert_eq!((default.less_margin(None, 100), default.less_margin(Some(team), 100)), (50, 50));
    assert_eq!(default.less_margin(Some(project(&catalogue, "own")), 100), 100);
}

#[test]
fn smoothing_adds_a_second_only_to_a_minute_that_has_none() {
    let mut held = Pool::new("default");
    held.smooth_bursts = true;
    for (limits, expected) in [
        (vec![requests(MINUTE, 61)], vec![requests(SECOND, 2), requests(MINUTE, 61)]),
        (vec![requests(MINUTE, 5)], vec![requests(SECOND, 1), requests(MINUTE, 5)]),
        (vec![requests(MINUTE, 60), requests(SECOND, 30)], vec![requests(SECOND, 30), requests(MINUTE, 60)]),
        (vec![requests(Window::PacificDay, 6000)], vec![requests(Window::PacificDay, 6000)]),
        (
            vec![Limit::new(Dimension::InputTokens, MINUTE, 60)],
            vec![Limit::new(Dimension::InputTokens, MINUTE, 60)],
        ),
    ] {
        held.totals = limits;
        assert_eq!(held.pool_totals(), expected);
    }
}

#[test]
fn totals_of_every_owner_arrive_with_every_field() {
    let catalogue = with_key(
        r#"
[[pools]]
totals = { requests_per_day = 100, spend_per_month = 10.5, in_flight = 4 }
model_totals = [ { model = "gemini-2.5-*", requests_per_minute = 10 }, { model = "gemini-2.5-pro", requests_per_minute = 20 },
  { requests_per_day = 7 } ]
[[prices]]
input_per_million = 1
output_per_million = 2
"#,
    )
    .loaded()
    .catalogue;
    let default = pool(&catalogue, "default");
    let spend = Limit::new(Dimension::Spend, Window::Month, 10_500_000);
    assert_eq!(
        default.pool_totals(),
        [requests(Window::PacificDay, 100), spend, Limit::new(Dimension::InFlight, Window::None, 4)]
    );
    let minute_of = |model: &str| default.model_totals_for(model)[0].amount;
    assert_eq!([minute_of("gemini-2.5-flash"), minute_of("gemini-2.5-pro")], [10, 20]);
    assert_eq!(default.model_totals_for("other"), [requests(Window::PacificDay, 7)]);
}

#[test]
fn what_google_teaches_lowers_limits_unless_a_pool_says_otherwise() {
    let learned = |line: &str| {
        let catalogue = with_key(&format!("[[pools]]\n{line}")).loaded().catalogue;
        pool(&catalogue, "default").learn_limits
    };
    assert_eq!(learned(""), LearnLimits::Lower);
    for choice in LearnLimits::ALL {
        assert_eq!(learned(&format!("learn_limits = \"{}\"", choice.as_str())), choice);
    }
}

#[test]
fn margins_bursts_and_learning_out_of_range_or_of_a_wrong_type_are_faults() {
    assert_faults(&[
        (
            "[[pools]]\nmargin_percent = 91",
            "pools[0].margin_percent: is out of range; write a whole number, 0 to 90",
        ),
        ("[[pools]]\nmargin_percent = -1", "pools[0].margin_percent: is out of range"),
        ("[[pools]]\nmargin_percent = 2.5", "pools[0].margin_percent: is a fraction; write a whole number"),
        ("[[projects]]\nid = \"a\"\nmargin_percent = 100", "projects[0].margin_percent: is out of range"),
        ("[[pools]]\nsmooth_bursts = \"yes\"", "pools[0].smooth_bursts: is a text; write true or false"),
        ("[[projects]]\nid = \"a\"\nsmooth_bursts = 1", "projects[0].smooth_bursts: is a number"),
        (
            "[[pools]]\nlearn_limits = \"lowr\"",
            "pools[0].learn_limits: is not one of its values; did you mean \"lower\"?",
        ),
        ("[[pools]]\nlearn_limits = \"never\"", "write \"lower\" or \"raise\" or \"off\""),
        ("[[pools]]\nlearn_limits = true", "pools[0].learn_limits: is a boolean; write text in quotes"),
    ]);
}

#[test]
fn totals_that_are_empty_unknown_out_of_range_or_no_table_are_faults() {
    assert_faults(&[
        (
            "[[pools]]\ntotals = {}",
            "pools[0].totals: names no limit; add one, such as requests_per_minute = 10",
        ),
        ("[[pools]]\ntotals = 3", "pools[0].totals: is a number; write a table, such as { requests_per_day"),
        ("[[pools]]\ntotals = [ { in_flight = 1 } ]", "pools[0].totals: is a list"),
        ("[[pools]]\ntotals = { in_flight = 0 }", "pools[0].totals.in_flight: is out of range"),
        ("[[pools]]\ntotals = { in_flight = 1, model = \"*\" }", "pools[0].totals.model: unknown field"),
        ("[[pools]]\nmodel_totals = [ {} ]", "pools[0].model_totals[0]: names no limit"),
        (
            "[[pools]]\nmodel_totals = { in_flight = 1 }",
            "pools[0].model_totals: is a table; write a list of tables",
        ),
        (
            "[[pools]]\nmodel_totals = [ { tier = \"free\", in_flight = 1 } ]",
            "model_totals[0].tier: unknown field",
        ),
        (
            "[[pools]]\nmodel_totals = [ { in_flight = 1 }, { model = \"*\", in_flight = 1 } ]",
            "model_totals[1].in_flight: was given for this model before",
        ),
        (
            "[[projects]]\nid = \"a\"\ntotals = { request_per_day = 1, in_flight = 1 }",
            "did you mean `requests_per_day`?",
        ),
        (
            "[[projects]]\nid = \"a\"\nkeys = [ { secret = \"test-key-aaaaaaaa-0002\", totals = { in_flight = \"1\" } } ]",
            "projects[0].keys[0].totals.in_flight: is a text; write a whole number",
        ),
    ]);
}

#[test]
fn billing_accounts_without_id_or_totals_or_written_twice_are_faults() {
    assert_faults(&[
        (
            "[[billing_accounts]]\ntotals = { in_flight = 1 }",
            "billing_accounts[0]: has no `id`; add id = \"account-a\"",
        ),
        ("[[billing_accounts]]\nid = \"acct\"", "billing_accounts[0]: has no `totals`"),
        (
            "[[billing_accounts]]\nid = \"a b\"\ntotals = { in_flight = 1 }",
            "billing_accounts[0].id: is not a valid name",
        ),
        (
            "[[billing_accounts]]\nid = \"acct\"\nlimits = []\ntotals = { in_flight = 1 }",
            "limits: unknown field",
        ),
        ("billing_accounts = 1", "billing_accounts: is a number; write a list of tables"),
        (
            "[[projects]]\nid = \"a\"\nbilling_account = \"acct\"\n[[billing_accounts]]\nid = \"acct\"\ntotals = { in_flight = 1 }\n\
             [[billing_accounts]]\nid = \"acct\"\ntotals = { in_flight = 2 }",
            "billing_accounts[1]: the billing account acct was written before (keys.toml:4: billing_accounts[0])",
        ),
    ]);
}

#[test]
fn a_billing_account_that_no_project_names_is_warned_of() {
    let given = with_key("[[billing_accounts]]\nid = \"acct\"\ntotals = { in_flight = 1 }");
    assert_eq!(
        given.warnings(),
        ["keys.toml:1: billing_accounts[0]: no project names the billing account acct"]
    );
    assert!(pool(&given.loaded().catalogue, "default").billing_accounts.is_empty());
}

#[test]
fn projects_that_totals_alone_hold_back_count_as_limited() {
    for text in ["[[pools]]\ntotals = { in_flight = 1 }", "[[pools]]\nmodel_totals = [ { in_flight = 1 } ]"] {
        let warnings = with_key(text).loaded().warnings;
        assert!(warnings.iter().all(|warning| warning.place != "limits"), "{text}: {warnings:#?}");
    }
    let warnings = with_key("").loaded().warnings;
    assert!(warnings.iter().any(|warning| warning.place == "limits"), "{warnings:#?}");
}

#[test]
fn money_is_read_to_the_millionth_and_printed_as_it_was_written() {
    for (text, micros) in [
        ("2", 2_000_000),
        ("2.5", 2_500_000),
        ("0.000001", 1),
        ("10.50", 10_500_000),
        ("1000000", 1_000_000_000_000),
        ("0.1", 100_000),
        ("1_000.25", 1_000_250_000),
        ("+1.25", 1_250_000),
    ] {
        let file = format!(
            "[[pools]]\ntotals = {{ spend_per_day = {text} }}\n[[prices]]\ninput_per_million = 1\noutput_per_million = 1"
        );
        let catalogue = with_key(&file).loaded().catalogue;
        let total = pool(&catalogue, "default").totals[0];
        assert_eq!(total, Limit::new(Dimension::Spend, Window::PacificDay, micros), "{text}");
        let printed = format!("{total}");
        assert_eq!(printed, format!("spend_per_day = {}", Dollars(micros)));
        assert_eq!(Dollars::parse(printed.rsplit(' ').next().unwrap()), Some(Dollars(micros)));
    }
}

#[test]
fn money_that_is_no_plain_amount_is_a_fault() {
    for (text, expected) in [
        (
            "0",
            "spend_per_day: is out of range; write US dollars, 0.000001 to 1000000, such as spend_per_day = 2.5",
        ),
        ("0.0", "is out of range"),
        ("1000000.000001", "is out of range"),
        ("-1", "is not an amount of dollars with at most six decimals"),
        ("-0.5", "is not an amount of dollars"),
        ("0.0000001", "is not an amount of dollars"),
        ("1e3", "is not an amount of dollars"),
        ("inf", "is not an amount of dollars"),
        ("nan", "is not an amount of dollars"),
        ("0x10", "is not an amount of dollars"),
        ("99999999999999999999", "is not an amount of dollars"),
        ("\"5\"", "is a text; write US dollars, 0.000001 to 1000000"),
        ("true", "is a boolean; write US dollars"),
    ] {
        let file = format!(
            "[[pools]]\ntotals = {{ spend_per_day = {text} }}\n[[prices]]\ninput_per_million = 1\noutput_per_million = 1"
        );
        assert_faults(&[(&file, expected)]);
    }
}

#[test]
fn every_span_of_money_can_be_limited() {
    let catalogue = with_key(
        "[[pools]]\ntotals = { spend_per_second = 1, spend_per_minute = 2, spend_per_10_minutes = 3, spend_per_day = 4, spend_per_month = 5 }\n\
         [[prices]]\ninput_per_million = 1\noutput_per_million = 1",
    )
    .loaded()
    .catalogue;
    let spans = [SECOND, MINUTE, Window::Trailing(600), Window::PacificDay, Window::Month];
    let expected =
        (1..).zip(spans).map(|(dollars, span)| Limit::new(Dimension::Spend, span, dollars * 1_000_000));
    assert_eq!(pool(&catalogue, "default").pool_totals(), expected.collect::<Vec<_>>());
}

#[test]
fn the_most_specific_price_counts_and_models_without_one_have_none() {
    let catalogue = with_key(
        r#"
[[prices]]
model = "gemini-2.5-*"
input_per_million = 0.3
output_per_million = 2.5
[[prices]]
model = "models/gemini-2.5-pro"
input_per_million = 1.25
cached_input_per_million = 0.31
output_per_million = 10
"#,
    )
    .loaded()
    .catalogue;
    let pro = catalogue.price_of("gemini-2.5-pro").unwrap();
    assert_eq!((pro.input, pro.cached_input, pro.output), (1_250_000, 310_000, 10_000_000));
    let flash = catalogue.price_of("gemini-2.5-flash").unwrap();
    assert_eq!((flash.input, flash.cached_input, flash.output), (300_000, 300_000, 2_500_000));
    assert_eq!(catalogue.price_of("embedding"), None);
    assert_eq!(pro.spend(1_000_000, 0, 0), 1_250_000);
    assert_eq!(pro.spend(1_000_000, 1_000_000, 100), 311_000);
    assert_eq!(pro.spend(1_000_000, 2_000_000, 0), 310_000, "more cached than there are count as all");
    assert_eq!(pro.spend(1, 0, 0), 2, "1.25 millionths are rounded up");
    assert_eq!(pro.spend(0, 0, 0), 0);
    assert_eq!(pro.spend(u64::MAX, 0, u64::MAX), u64::MAX, "what is beyond counting is not wrapped");
}

#[test]
fn a_price_of_nought_is_a_price() {
    let catalogue =
        with_key("[[prices]]\ninput_per_million = 0\noutput_per_million = 0.0").loaded().catalogue;
    assert_eq!(catalogue.price_of("any").unwrap().spend(1_000, 0, 1_000), 0);
}

#[test]
fn prices_that_are_missing_negative_unknown_or_given_twice_are_faults() {
    assert_faults(&[
        (
            "[[prices]]\noutput_per_million = 1",
            "prices[0]: has no `input_per_million`; add input_per_million, in US dollars",
        ),
        ("[[prices]]\ninput_per_million = 1", "prices[0]: has no `output_per_million`"),
        (
            "[[prices]]\ninput_per_million = -1\noutput_per_million = 1",
            "prices[0].input_per_million: is not an amount",
        ),
        (
            "[[prices]]\ninput_per_million = 1000001\noutput_per_million = 1",
            "input_per_million: is out of range; write US dollars, 0 to",
        ),
        (
            "[[prices]]\ninput_per_million = 1\noutput_per_million = \"1\"",
            "prices[0].output_per_million: is a text",
        ),
        (
            "[[prices]]\ninput_per_million = 1\noutput_per_million = 1\ncached_input_per_million = 0.0000001",
            "cached_input_per_million: is not an amount",
        ),
        (
            "[[prices]]\ninput_per_million = 1\noutput_per_millions = 1\noutput_per_million = 1",
            "did you mean `output_per_million`?",
        ),
        (
            "[[prices]]\nmodel = \"a*b\"\ninput_per_million = 1\noutput_per_million = 1",
            "prices[0].model: is not a model pattern",
        ),
        (
            "[[prices]]\nmodel = 5\ninput_per_million = 1\noutput_per_million = 1",
            "prices[0].model: is a number",
        ),
        (
            "[[prices]]\nmodel = \"m\"\ninput_per_million = 1\noutput_per_million = 1\n[[prices]]\nmodel = \"models/m\"\ninput_per_million = 1\noutput_per_million = 1",
            "prices[1].model: m was given a price before; keep one of the two",
        ),
        (
            "[[prices]]\nmodel = \"alias\"\ninput_per_million = 1\noutput_per_million = 1\n[model_aliases]\nalias = \"real\"",
            "prices[0].model: the model alias counts as real, so this would never apply; write model = \"real\"",
        ),
        ("prices = 1", "prices: is a number; write a list of tables"),
    ]);
}

#[test]
fn a_limit_of_money_without_a_price_is_a_fault_that_names_the_models() {
    assert_faults(&[
        (
            "[[pools]]\ntotals = { spend_per_day = 1 }",
            "pools[0].totals.spend_per_day: counts money, but there are no [[prices]] to count by; add [[prices]] with model = \"*\"",
        ),
        ("[[plans]]\nname = \"team\"\nspend_per_day = 1", "plans[0].spend_per_day: counts money"),
        (
            "[[pools]]\nlimits = [ { model = \"pro\", spend_per_day = 1 } ]\n[[prices]]\nmodel = \"flash*\"\ninput_per_million = 1\noutput_per_million = 1",
            "pools[0].limits[0].spend_per_day: counts money, but no [[prices]] name the model pro; add [[prices]] with model = \"pro\"",
        ),
        (
            "[[pools]]\nmodel_totals = [ { model = \"pro*\", spend_per_day = 1 } ]\n[[prices]]\nmodel = \"flash\"\ninput_per_million = 1\noutput_per_million = 1",
            "no [[prices]] name the model pro*",
        ),
    ]);
}

#[test]
fn a_limit_of_money_that_prices_cover_in_part_is_warned_of_once_for_each_pattern() {
    let given = with_key(
        "[[pools]]\ntotals = { spend_per_day = 1, spend_per_month = 9 }\n\
         limits = [ { model = \"flash*\", spend_per_day = 1 }, { model = \"flash-lite\", spend_per_day = 1 } ]\n\
         [[prices]]\nmodel = \"flash*\"\ninput_per_million = 1\noutput_per_million = 1",
    );
    assert_eq!(
        given.warnings(),
        [
            "keys.toml:2: pools[0].totals.spend_per_day: counts money, but some of its models may have no price, \
             and what they cost is not known; add [[prices]] with model = \"*\""
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_margin_never_yields_nought_nor_more_than_there_was(amount in 1_u64..=1_000_000_000_000, margin in 0_u8..=90) {
        let mut held = Pool::new("default");
        held.margin_percent = margin;
        let lowered = held.less_margin(None, amount);
        prop_assert!(lowered >= 1 && lowered <= amount);
        let exact = u128::from(amount) * u128::from(100 - margin);
        prop_assert!(u128::from(lowered) * 100 <= exact || lowered == 1);
        prop_assert!((u128::from(lowered) + 1) * 100 > exact, "and no more than need be");
    }

    #[test]
    fn smoothing_never_exceeds_a_minutes_limit_nor_keeps_it_from_being_reached(amount in 1_u64..=1_000_000_000_000, margin in 0_u8..=90) {
        let mut held = Pool::new("default");
        held.smooth_bursts = true;
        held.margin_percent = margin;
        held.limits = rule(vec![requests(MINUTE, amount)]);
        let mut owner = Project::new("a");
        owner.keys.push(Key { limits: held.limits.clone(), ..Key::new("k", Secret::from(key(1))) });
        let limits = held.limits_for(&owner, "m");
        prop_assert_eq!(&limits, &held.key_limits_for(&owner, &owner.keys[0], "m"));
        let (second, minute) = (limits[0].amount, limits[1].amount);
        prop_assert!(second >= 1 && second <= minute && minute <= amount);
        prop_assert!(second * 60 >= minute && (second - 1) * 60 < minute);
    }

    #[test]
    fn a_request_never_costs_less_than_its_parts_and_less_than_a_millionth_more(
        prices in any::<[u32; 3]>(), input in any::<u32>(), cached in any::<u32>(), output in any::<u32>(),
    ) {
        let [a, b, c] = prices.map(u64::from);
        let price = Price { model: NamePattern::Any, input: a, cached_input: b, output: c };
        let (input, cached, output) = (u64::from(input), u64::from(cached.min(input)), u64::from(output));
        let exact = u128::from(input - cached) * u128::from(a)
            + u128::from(cached) * u128::from(b)
            + u128::from(output) * u128::from(c);
        let spend = u128::from(price.spend(input, cached, output)) * 1_000_000;
        prop_assert!(spend >= exact && spend < exact + 1_000_000);
    }

    #[test]
    fn amounts_of_money_are_read_back_as_they_are_printed(micros in 0_u64..=1_000_000_000_000) {
        prop_assert_eq!(Dollars::parse(&Dollars(micros).to_string()), Some(Dollars(micros)));
    }

    #[test]
    fn no_text_makes_reading_of_money_panic(text in "[0-9.+eE_-]{0,40}|.*") {
        let _ = Dollars::parse(&text);
    }
}
