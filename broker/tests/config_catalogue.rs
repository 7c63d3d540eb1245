//! Which limit holds, which name a model counts under, and what a digest tells apart.

mod config_support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config_support::key;
use keybroker::catalogue::{
    BillingAccount, Catalogue, Dimension, EventKind, Hook, HookAction, Key, LearnLimits, Limit, LimitRule,
    NamePattern, Plan, PlanMode, Pool, Price, Project, Strategy, Tier, Window,
};
use keybroker::secret::Secret;

fn rule(model: &str, amount: u64) -> LimitRule {
    LimitRule::new(model.parse().expect("a pattern"), vec![Limit::requests_per_minute(amount)])
}

fn with_limits(pool: Vec<LimitRule>, own: Vec<LimitRule>) -> (Pool, Project) {
    let mut project = Project::new("a");
    project.limits = own;
    let mut holder = Pool::new("default");
    holder.limits = pool;
    (holder, project)
}

fn amount(held: &(Pool, Project), model: &str) -> Option<u64> {
    held.0.limits_for(&held.1, model).first().map(|limit| limit.amount)
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    let mut pool = Pool::new("default");
    for id in ["a", "b"] {
        let mut project = Project::new(id);
        project.limits = vec![rule("*", 1), rule("flash*", 2)];
        let number = u32::from(id.as_bytes()[0]);
        for number in [number, number + 100] {
            project.keys.push(Key::new(format!("k{number}"), Secret::from(key(number))));
        }
        pool.projects.push(project);
    }
    catalogue.pools.insert("default".to_owned(), pool);
    catalogue.model_aliases.insert("flash-preview".to_owned(), "flash".to_owned());
    catalogue
}

fn account(id: &str, amount: u64) -> BillingAccount {
    BillingAccount { id: id.to_owned(), totals: vec![Limit::requests_per_minute(amount)] }
}

fn price(model: &str, input: u64, cached_input: u64, output: u64) -> Price {
    Price { model: model.parse().expect("a pattern"), input, cached_input, output }
}

fn first_pool(catalogue: &mut Catalogue) -> &mut Pool {
    catalogue.pools.get_mut("default").expect("is there")
}

#[test]
fn the_most_specific_rule_wins() {
    let rules = vec![rule("gemini-2.5-*", 3), rule("*", 1), rule("gemini-2.5-flash", 4), rule("gemini-*", 2)];
    let held = with_limits(rules, vec![]);
    let models = ["other", "gemini-3", "gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite"];
    assert_eq!(models.map(|model| amount(&held, model).unwrap()), [1, 2, 3, 4, 3]);
}

#[test]
fn a_project_rule_stands_before_a_more_specific_one_of_the_pool() {
    let held = with_limits(vec![rule("flash", 9)], vec![rule("*", 1)]);
    assert_eq!(amount(&held, "flash"), Some(1));
}

#[test]
fn each_dimension_and_window_is_chosen_by_itself() {
    let daily =
        LimitRule::new(NamePattern::Any, vec![Limit::new(Dimension::Requests, Window::PacificDay, 20)]);
    let held = with_limits(vec![daily, rule("*", 5)], vec![rule("flash", 2)]);
    let limits = held.0.limits_for(&held.1, "flash");
    assert_eq!(
        limits,
        [Limit::requests_per_minute(2), Limit::new(Dimension::Requests, Window::PacificDay, 20)]
    );
}

#[test]
fn of_two_equal_rules_the_smaller_amount_holds_in_either_order() {
    for rules in [vec![rule("*", 1), rule("*", 2)], vec![rule("*", 2), rule("*", 1)]] {
        assert_eq!(amount(&with_limits(rules, vec![]), "m"), Some(1));
    }
}

#[test]
fn a_model_that_no_rule_names_has_no_limits() {
    assert_eq!(amount(&with_limits(vec![rule("flash", 1)], vec![rule("pro*", 1)]), "embedding"), None);
}

#[test]
fn patterns_rank_exact_over_longer_over_shorter_over_any() {
    let patterns = ["gemini-2.5-flash", "gemini-2.5-*", "gemini-*", "*"]
        .map(|text| text.parse::<NamePattern>().unwrap());
    assert!(patterns.windows(2).all(|pair| pair[0].specificity() > pair[1].specificity()));
    assert!(patterns.windows(2).all(|pair| pair[1].covers(&pair[0]) && !pair[0].covers(&pair[1])));
}

#[test]
fn a_model_counts_under_its_own_name_unless_an_alias_says_otherwise() {
    let catalogue = catalogue();
    assert_eq!(catalogue.quota_model("flash-preview"), "flash");
    assert_eq!(catalogue.quota_model("models/flash-preview"), "flash");
    assert_eq!(catalogue.quota_model("models/pro"), "pro");
    assert_eq!(catalogue.quota_model("pro"), "pro");
}

#[test]
fn the_digest_of_a_catalogue_is_the_same_on_every_host() {
    assert_eq!(catalogue().digest(), "29faa4b6262051ab");
}

#[test]
fn the_digest_does_not_tell_orders_apart() {
    let mut other = catalogue();
    let pool = first_pool(&mut other);
    pool.projects.reverse();
    for project in &mut pool.projects {
        project.keys.reverse();
        project.limits.reverse();
    }
    assert_eq!(other.digest(), catalogue().digest());
}

#[test]
fn the_digest_tells_every_change_apart() {
    let changes: &[fn(&mut Catalogue)] = &[
        |c| first_pool(c).send_within *= 2,
        |c| first_pool(c).lease_ttl *= 2,
        |c| first_pool(c).limits.push(rule("*", 1)),
        |c| first_pool(c).projects[0].id.push('x'),
        |c| first_pool(c).projects[0].tier = Tier::Paid,
        |c| first_pool(c).projects[0].billing_account = Some("acct".to_owned()),
        |c| first_pool(c).projects[0].limits[0].limits[0].amount += 1,
        |c| first_pool(c).projects[0].keys[0].id.push('x'),
        |c| first_pool(c).projects[0].keys[0] = Key::new("k97", Secret::from(key(9))),
        |c| first_pool(c).projects[0].keys[0].weight += 1,
        |c| first_pool(c).projects[0].keys[0].priority = Some(0),
        |c| drop(first_pool(c).projects[0].keys[0].labels.insert("a".to_owned(), "b".to_owned())),
        |c| drop(first_pool(c).projects[0].keys.pop()),
        |c| c.model_aliases.clear(),
        |c| first_pool(c).strategy = Strategy::Weighted,
        |c| first_pool(c).margin_percent = 1,
        |c| first_pool(c).smooth_bursts = true,
        |c| first_pool(c).learn_limits = LearnLimits::Off,
        |c| first_pool(c).totals.push(Limit::requests_per_minute(1)),
        |c| first_pool(c).model_totals.push(rule("*", 1)),
        |c| first_pool(c).billing_accounts.push(account("acct", 1)),
        |c| first_pool(c).billing_accounts.push(account("acct", 2)),
        |c| first_pool(c).projects[0].margin_percent = Some(0),
        |c| first_pool(c).projects[0].smooth_bursts = Some(false),
        |c| first_pool(c).projects[0].totals.push(Limit::requests_per_minute(1)),
        |c| first_pool(c).projects[0].keys[0].totals.push(Limit::requests_per_minute(1)),
        |c| drop(c.plans.insert("p".to_owned(), Plan::built_in(1))),
        |c| drop(c.plans.insert("p".to_owned(), Plan { mode: PlanMode::Soft, ..Plan::built_in(1) })),
        |c| drop(c.plans.insert("p".to_owned(), Plan::built_in(2))),
        |c| drop(c.consumers.insert("someone".to_owned(), "p".to_owned())),
        |c| c.default_plan = Some("p".to_owned()),
    ];
    let mut digests: Vec<_> = changes
        .iter()
        .map(|change| {
            let mut changed = catalogue();
            change(&mut changed);
            changed.digest()
        })
        .chain([catalogue().digest()])
        .collect();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), changes.len() + 1);
}

#[test]
fn the_digest_passes_over_what_decides_nothing_about_leases() {
    let mut other = catalogue();
    other.probing.enabled = false;
    other.prices.push(price("*", 1, 1, 1));
    other.hooks.push(Hook {
        name: "alerts".to_owned(),
        events: EventKind::ALL.into(),
        labels: BTreeMap::new(),
        pools: BTreeSet::new(),
        action: HookAction::Run { command: vec!["/bin/notify".to_owned()] },
        cooldown: Duration::ZERO,
        timeout: Duration::ZERO,
        attempts: 1,
    });
    assert_eq!(other.digest(), catalogue().digest());
    assert_ne!(other, catalogue(), "though a reload sees the difference");
}

#[test]
fn prices_are_in_the_digest_where_a_limit_of_money_is_counted_by_them() {
    let spend = Limit::new(Dimension::Spend, Window::Month, 1);
    let owners: [fn(&mut Catalogue, Limit); 8] = [
        |c, spend| first_pool(c).limits.push(LimitRule::new(NamePattern::Any, vec![spend])),
        |c, spend| first_pool(c).totals.push(spend),
        |c, spend| first_pool(c).model_totals.push(LimitRule::new(NamePattern::Any, vec![spend])),
        |c, spend| {
            let totals = vec![spend];
            first_pool(c).billing_accounts.push(BillingAccount { id: "acct".to_owned(), totals });
        },
        |c, spend| first_pool(c).projects[0].totals.push(spend),
        |c, spend| {
            first_pool(c).projects[0].limits.push(LimitRule::new(NamePattern::Any, vec![spend]));
        },
        |c, spend| first_pool(c).projects[0].keys[0].totals.push(spend),
        |c, spend| {
            let plan = Plan { limits: vec![spend], ..Plan::built_in(1) };
            c.plans.insert(plan.name.clone(), plan);
        },
    ];
    for limit in owners {
        let digest = |prices: &[Price]| {
            let mut changed = catalogue();
            limit(&mut changed, spend);
            assert!(changed.limits_spend());
            changed.prices = prices.to_vec();
            changed.digest()
        };
        let mut digests = vec![
            digest(&[]),
            digest(&[price("*", 1, 1, 1)]),
            digest(&[price("*", 2, 1, 1)]),
            digest(&[price("*", 1, 2, 1)]),
            digest(&[price("*", 1, 1, 2)]),
            digest(&[price("m", 1, 1, 1)]),
        ];
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 6);
        let (one, other) = (price("*", 1, 1, 1), price("m", 2, 2, 2));
        assert_eq!(digest(&[one.clone(), other.clone()]), digest(&[other, one]));
    }
}
