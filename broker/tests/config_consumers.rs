//! Plans, consumers, and what holds for consumers that are not named.

mod config_support;

use config_support::{Given, assert_faults, key, with_key};
use keybroker::catalogue::{Dimension, Limit, Plan, PlanMode, Window, is_consumer_id};

fn with_rate(text: &str, rate: &str) -> Given {
    let mut given = with_key(text);
    given.set("KEYBROKER_CONSUMER_RATE_LIMIT", rate);
    given
}

#[test]
fn without_a_word_every_consumer_that_is_named_by_a_request_has_20_requests_a_minute() {
    let catalogue = with_key("").loaded().catalogue;
    let plan = catalogue.plan_of("someone").unwrap();
    assert_eq!((plan.name.as_str(), plan.mode), ("default", PlanMode::Hard));
    assert_eq!(plan.limits, [Limit::requests_per_minute(20)]);
    assert_eq!(catalogue.plan_of(""), None, "a request that names no consumer is under no plan");
    assert_eq!(
        Given::env([("GEMINI_KEYS", &key(1))]).loaded().catalogue.plan_of("x"),
        Some(&Plan::built_in(20))
    );
}

#[test]
fn plans_and_consumers_arrive_with_every_field() {
    let catalogue = with_key(
        r#"
default_plan = "guest"
[[plans]]
name = "guest"
requests_per_minute = 2
[[plans]]
name = "team"
mode = "soft"
requests_per_second = 1
input_tokens_per_10_minutes = 5000
total_tokens_per_day = 100000
requests_per_month = 9000
spend_per_month = 12.5
in_flight = 3
[[plans]]
name = "free-for-all"
[[consumers]]
id = "ann@example.com"
plan = "team"
[[consumers]]
id = "svc/batch:7"
plan = "free-for-all"
[[prices]]
input_per_million = 1
output_per_million = 1
"#,
    )
    .loaded()
    .catalogue;
    assert_eq!(catalogue.plan_of("anyone").unwrap().limits, [Limit::requests_per_minute(2)]);
    let team = catalogue.plan_of("ann@example.com").unwrap();
    assert_eq!(team.mode, PlanMode::Soft);
    for limit in [
        Limit::new(Dimension::Requests, Window::Trailing(1), 1),
        Limit::new(Dimension::InputTokens, Window::Trailing(600), 5000),
        Limit::new(Dimension::TotalTokens, Window::PacificDay, 100_000),
        Limit::new(Dimension::Requests, Window::Month, 9000),
        Limit::new(Dimension::Spend, Window::Month, 12_500_000),
        Limit::new(Dimension::InFlight, Window::None, 3),
    ] {
        assert!(team.limits.contains(&limit), "{limit}");
    }
    assert_eq!(team.limits.len(), 6);
    assert!(
        catalogue.plan_of("svc/batch:7").unwrap().limits.is_empty(),
        "a plan without limits limits nothing"
    );
    assert!(!catalogue.plans.contains_key("default"), "the built-in plan holds for nobody");
}

#[test]
fn the_default_can_be_off_by_the_file_or_by_the_environment() {
    assert_eq!(with_key("default_plan = \"off\"").loaded().catalogue.plan_of("someone"), None);
    assert_eq!(with_rate("", "off").loaded().catalogue.plan_of("someone"), None);
    let named = "[[plans]]\nname = \"team\"\nin_flight = 1\n[[consumers]]\nid = \"ann\"\nplan = \"team\"";
    let catalogue = with_rate(named, "off").loaded().catalogue;
    assert!(catalogue.plan_of("ann").is_some());
    assert_eq!(catalogue.plan_of("someone"), None);
}

#[test]
fn the_environment_changes_the_rate_of_the_built_in_plan() {
    let catalogue = with_rate("", " 7 ").loaded().catalogue;
    assert_eq!(catalogue.plan_of("someone"), Some(&Plan::built_in(7)));
    let named = "default_plan = \"off\"\n[[consumers]]\nid = \"ann\"\nplan = \"default\"";
    let given = with_rate(named, "7");
    assert!(given.warnings().is_empty(), "it is read");
    let catalogue = given.loaded().catalogue;
    assert_eq!(catalogue.plan_of("ann"), Some(&Plan::built_in(7)), "it can be named like any other");
    assert_eq!(catalogue.plan_of("someone"), None);
}

#[test]
fn a_rate_of_consumers_that_is_none_is_a_fault() {
    for rate in ["0", "-1", "many", "1.5", "1000001", "OFF"] {
        assert_eq!(
            with_rate("", rate).fault(),
            "KEYBROKER_CONSUMER_RATE_LIMIT: is not a rate; set requests per minute, 1 to 1000000, or \"off\", or unset it for 20"
        );
    }
}

#[test]
fn what_the_file_says_of_the_default_stands_before_the_environment_which_is_warned_of() {
    for (file, plan) in [
        ("default_plan = \"team\"\n[[plans]]\nname = \"team\"\nrequests_per_minute = 3", Some(3)),
        ("[[plans]]\nname = \"default\"\nrequests_per_minute = 4", Some(4)),
        ("default_plan = \"off\"", None),
    ] {
        for rate in ["9", "off"] {
            let given = with_rate(file, rate);
            let catalogue = given.loaded().catalogue;
            let amount = catalogue.plan_of("someone").map(|plan| plan.limits[0].amount);
            assert_eq!(amount, plan, "{file}");
            assert_eq!(
                given.warnings(),
                [
                    "KEYBROKER_CONSUMER_RATE_LIMIT: is not read, because the file says what holds for consumers that are not named"
                ]
            );
        }
    }
}

#[test]
fn plans_that_are_misnamed_unknown_or_out_of_range_are_faults() {
    assert_faults(&[
        ("[[plans]]\nrequests_per_minute = 1", "plans[0]: has no `name`; add name = \"team\""),
        ("[[plans]]\nname = \"a b\"", "plans[0].name: is not a valid name"),
        ("[[plans]]\nname = \"off\"", "plans[0].name: is the word for no plan; choose another name"),
        (
            "[[plans]]\nname = \"team\"\nmode = \"soft-\"",
            "plans[0].mode: is not a mode; did you mean \"soft\"?",
        ),
        (
            "[[plans]]\nname = \"team\"\nmode = \"none\"",
            "plans[0].mode: is not a mode; write \"hard\" or \"soft\"",
        ),
        ("[[plans]]\nname = \"team\"\nmode = false", "plans[0].mode: is a boolean"),
        (
            "[[plans]]\nname = \"team\"\nrequests_per_minute = 0",
            "plans[0].requests_per_minute: is out of range",
        ),
        ("[[plans]]\nname = \"team\"\nrequests_per_hour = 1", "plans[0].requests_per_hour: unknown field"),
        ("[[plans]]\nname = \"team\"\nmodel = \"*\"", "plans[0].model: unknown field"),
        (
            "[[plans]]\nname = \"team\"\n[[plans]]\nname = \"team\"",
            "plans[1].name: the plan team was written before (keys.toml:2: plans[0].name)",
        ),
        ("plans = \"team\"", "plans: is a text; write a list of tables"),
    ]);
}

#[test]
fn consumers_without_a_plan_or_with_one_that_is_not_there_or_named_twice_are_faults() {
    let team = "[[plans]]\nname = \"team\"\n";
    for (text, expected) in [
        ("[[consumers]]\nid = \"ann\"", "consumers[0]: has no `plan`; add plan = \"team\""),
        ("[[consumers]]\nplan = \"team\"", "consumers[0]: has no `id`"),
        (
            "[[consumers]]\nid = \"ann\"\nplan = \"teams\"",
            "consumers[0].plan: there is no plan teams; did you mean \"team\"?",
        ),
        (
            "[[consumers]]\nid = \"ann\"\nplan = \"gold\"",
            "there is no plan gold; add it as [[plans]], or name one of: default, team",
        ),
        (
            "[[consumers]]\nid = \"ann\"\nplan = \"team\"\nin_flight = 1",
            "consumers[0].in_flight: unknown field",
        ),
        ("[[consumers]]\nid = 5\nplan = \"team\"", "consumers[0].id: is a number"),
        (
            "[[consumers]]\nid = \"ann\"\nplan = \"team\"\n[[consumers]]\nid = \"ann\"\nplan = \"team\"",
            "consumers[1].id: the consumer ann was written before (keys.toml:4: consumers[0].id)",
        ),
    ] {
        assert_faults(&[(&format!("{team}{text}"), expected)]);
    }
    assert_faults(&[
        ("default_plan = \"gold\"", "keys.toml:1: default_plan: there is no plan gold"),
        ("default_plan = \"a b\"", "keys.toml:1: default_plan: is not a valid name"),
        ("default_plan = false", "keys.toml:1: default_plan: is a boolean; write text in quotes"),
    ]);
}

#[test]
fn consumer_ids_are_1_to_128_visible_characters() {
    for id in ["a", "ann@example.com", "team/a:b#c", &"x".repeat(128)] {
        assert!(is_consumer_id(id), "{id}");
    }
    for id in ["", "a b", "ä", "tab\t", &"x".repeat(129)] {
        assert!(!is_consumer_id(id), "{id}");
        let id = id.replace('\t', "\\t");
        let file = format!("[[consumers]]\nid = \"{id}\"\nplan = \"default\"");
        assert_faults(&[(
            &file,
            "consumers[0].id: is not a valid name; use 1 to 128 visible ASCII characters",
        )]);
    }
}
