//! Which strategy a pool has, and where that puts its keys.

mod config_support;

use config_support::{Given, assert_faults, key, key_of, pool, with_key};
use keybroker::catalogue::{Catalogue, Standing, Strategy, Tier};

/// A pool with free, paid and untold keys, one of each with a weight and a priority of its own.
fn mixed(strategy: &str) -> Given {
    Given::file(&format!(
        r#"
[[pools]]
{strategy}
[[projects]]
id = "free"
tier = "free"
keys = [ {{ id = "f", secret = "test-key-aaaaaaaa-0001" }}, {{ id = "f5", secret = "test-key-aaaaaaaa-0002", weight = 5, priority = 9 }} ]
[[projects]]
id = "paid"
tier = "paid"
keys = [ {{ id = "p", secret = "test-key-aaaaaaaa-0003" }}, {{ id = "p7", secret = "test-key-aaaaaaaa-0004", weight = 7, priority = 0 }} ]
[[projects]]
id = "untold"
keys = [ {{ id = "u", secret = "test-key-aaaaaaaa-0005" }} ]
"#
    ))
}

fn standings(catalogue: &Catalogue) -> Vec<(u8, u32)> {
    let default = pool(catalogue, "default");
    let all = catalogue.keys().map(|(project, key)| default.standing_of(project, key));
    all.map(|Standing { class, weight }| (class, weight)).collect()
}

#[test]
fn every_strategy_has_a_name_and_the_default_is_round_robin() {
    for strategy in Strategy::ALL {
        let given = with_key(&format!("[[pools]]\nstrategy = \"{strategy}\""));
        assert_eq!(pool(&given.loaded().catalogue, "default").strategy, strategy);
        assert_eq!(Strategy::parse(strategy.as_str()), Some(strategy));
    }
    for file in ["", "[[pools]]"] {
        assert_eq!(pool(&with_key(file).loaded().catalogue, "default").strategy, Strategy::RoundRobin);
    }
}

#[test]
fn each_strategy_reads_of_a_key_what_it_says_and_nothing_else() {
    let equal = vec![(0, 1); 5];
    let by_weight = vec![(0, 1), (0, 5), (0, 1), (0, 7), (0, 1)];
    for (strategy, expected) in [
        (Strategy::RoundRobin, equal.clone()),
        (Strategy::Weighted, by_weight.clone()),
        (Strategy::Priority, vec![(0, 1), (9, 5), (8, 1), (0, 7), (0, 1)]),
        (Strategy::LeastRecentlyUsed, equal.clone()),
        (Strategy::HealthAware, by_weight.clone()),
        (Strategy::LeastUtilized, equal.clone()),
    ] {
        let catalogue = mixed(&format!("strategy = \"{strategy}\"")).loaded().catalogue;
        assert_eq!(standings(&catalogue), expected, "{strategy}");
    }
}

#[test]
fn paid_keys_stand_behind_only_where_there_are_free_ones_in_their_pool() {
    let given = Given::file(
        r#"
[[pools]]
strategy = "priority"
[[pools]]
name = "other"
[[projects]]
id = "paid"
tier = "paid"
keys = [ { secret = "test-key-aaaaaaaa-0001" } ]
[[projects]]
id = "free"
tier = "free"
pool = "other"
keys = [ { secret = "test-key-aaaaaaaa-0002" } ]
"#,
    );
    let catalogue = given.loaded().catalogue;
    let (project, held) = key_of(&catalogue, &key(1));
    assert_eq!(pool(&catalogue, "default").standing_of(project, held), Standing { class: 0, weight: 1 });
}

#[test]
fn a_weight_or_priority_that_the_strategy_does_not_read_is_warned_of_with_one_that_would() {
    let unread = |field: &str, strategy: &str, would: &str| {
        format!(
            "keys.toml:7: projects[0].keys[1].{field}: is not read (nor 1 more in this pool) by the strategy \
             {strategy} of the pool default; strategy = \"{would}\" would read it"
        )
    };
    for strategy in ["round_robin", "least_recently_used", "least_utilized"] {
        let warnings = mixed(&format!("strategy = \"{strategy}\"")).warnings();
        let expected = [unread("weight", strategy, "weighted"), unread("priority", strategy, "priority")];
        assert_eq!(warnings, expected);
    }
    for strategy in ["weighted", "health_aware"] {
        let warnings = mixed(&format!("strategy = \"{strategy}\"")).warnings();
        assert_eq!(warnings, [unread("priority", strategy, "priority")]);
    }
    assert!(mixed("strategy = \"priority\"").warnings().is_empty());
    assert_eq!(mixed("").warnings().len(), 2, "the default strategy reads neither");
}

#[test]
fn a_strategy_that_is_none_is_a_fault_that_suggests_one() {
    assert_faults(&[
        (
            "[[pools]]\nstrategy = \"wieghted\"",
            "pools[0].strategy: is not a strategy; did you mean \"weighted\"?",
        ),
        (
            "[[pools]]\nstrategy = \"best\"",
            "write \"round_robin\" or \"weighted\" or \"priority\" or \"least_recently_used\" or \"health_aware\" or \"least_utilized\"",
        ),
        ("[[pools]]\nstrategy = 1", "pools[0].strategy: is a number; write text in quotes"),
        ("strategy = \"weighted\"", "keys.toml:1: strategy: unknown field"),
        ("[[projects]]\nid = \"a\"\nstrategy = \"weighted\"", "projects[0].strategy: unknown field"),
    ]);
}

#[test]
fn free_and_paid_keys_of_the_environment_make_the_default_pool_go_by_priority() {
    let variables = |names: &[&str]| {
        let mut given = Given::nothing();
        for (number, name) in (1..).zip(names) {
            given.set(name, &key(number));
        }
        pool(&given.loaded().catalogue, "default").strategy
    };
    assert_eq!(variables(&["GEMINI_FREE_KEYS", "GEMINI_PAID_KEY"]), Strategy::Priority);
    assert_eq!(variables(&["GEMINI_FREE_KEYS", "GEMINI_PAID_KEY", "GEMINI_KEYS"]), Strategy::Priority);
    assert_eq!(variables(&["GEMINI_FREE_KEYS", "GEMINI_KEYS"]), Strategy::RoundRobin);
    assert_eq!(variables(&["GEMINI_PAID_KEY"]), Strategy::RoundRobin);
}

#[test]
fn a_strategy_that_was_written_stands_before_what_the_environment_suggests() {
    for (file, expected) in [
        ("[[pools]]\nstrategy = \"round_robin\"", Strategy::RoundRobin),
        ("[[pools]]\nstrategy = \"health_aware\"", Strategy::HealthAware),
        ("[[pools]]\nlease_ttl = \"5s\"", Strategy::Priority),
        ("[[pools]]\nname = \"other\"\nstrategy = \"weighted\"", Strategy::Priority),
    ] {
        let mut given = Given::file(file);
        given.set("GEMINI_FREE_KEYS", &key(1)).set("GEMINI_PAID_KEY", &key(2));
        let catalogue = given.loaded().catalogue;
        assert_eq!(pool(&catalogue, "default").strategy, expected, "{file}");
        let (project, held) = key_of(&catalogue, &key(2));
        let class = if expected == Strategy::Priority { 8 } else { 0 };
        assert_eq!(project.tier, Tier::Paid);
        assert_eq!(pool(&catalogue, "default").standing_of(project, held).class, class, "{file}");
    }
}
