//! Limits that Google names in refusals: shared by the fleet, kept, shown, and never raised without leave.

use keybroker_proto::v1::LimitStatus;
use keybroker_tests::{
    harness::{
        api::Api,
        refused::refused,
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};

use super::support::{A_DAY, A_MINUTE, TOKENS, leases, limit_of, of_pool, refused_by_google, reset};

on_both_ledgers!(
    a_limit_that_google_names_holds_and_is_kept_over_a_restart,
    a_larger_limit_raises_ours_only_with_leave,
    all_quotas_of_one_refusal_are_learned_less_the_margin,
    a_learned_limit_outlives_the_configured_one_and_a_reset,
    what_was_learned_is_forgotten_where_nothing_is_to_be_learned_any_more,
);

/// Pools that lower, raise and take in nothing.
const CONFIG: &str = r#"
[[pools]]
name = "lower"
limits = [ { requests_per_day = 10 } ]
[[projects]]
id = "alpha"
pool = "lower"
keys = [ { id = "a", secret = "test-key-learned-a" } ]

[[pools]]
name = "raise"
learn_limits = "raise"
limits = [ { requests_per_day = 10 } ]
[[projects]]
id = "beta"
pool = "raise"
keys = [ { id = "b", secret = "test-key-learned-b" } ]

[[pools]]
name = "off"
learn_limits = "off"
limits = [ { requests_per_day = 10 } ]
[[projects]]
id = "gamma"
pool = "off"
keys = [ { id = "c", secret = "test-key-learned-c" } ]

[[pools]]
name = "margin"
margin_percent = 20
[[projects]]
id = "delta"
pool = "margin"
keys = [ { id = "d", secret = "test-key-learned-d" } ]
"#;
const DAY: &str = "requests per Pacific day";
const POOLS: [(&str, &str); 3] = [("lower", "alpha"), ("raise", "beta"), ("off", "gamma")];

fn subject(project: &str) -> String {
    format!("project {project}, model gemini-fake")
}

/// Google refuses a request of that pool and names these limits; its cooldown is then ended by hand.
async fn teach(api: &Api, pool: &str, quotas: &[(&str, u64)]) {
    let lease = leases(api, &of_pool(pool), 1).await.remove(0);
    api.report(refused_by_google(&lease, "gemini-fake", quotas)).await.unwrap();
    assert_eq!(reset(api, pool).await, 1);
}

/// Limit, what is configured and what was learned of a project's day.
async fn day_of(api: &Api, pool: &str, project: &str) -> (Option<i64>, Option<i64>, Option<i64>) {
    let LimitStatus { limit, configured_limit, learned_limit, .. } =
        limit_of(api, pool, &subject(project), DAY).await;
    (limit, configured_limit, learned_limit)
}

async fn a_limit_that_google_names_holds_and_is_kept_over_a_restart(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let beside = if backing == Backing::Redis { Some(rig.beside("second.toml", CONFIG).await) } else { None };
    teach(&rig.api, "lower", &[(A_DAY, 3)]).await;
    assert_eq!(day_of(&rig.api, "lower", "alpha").await, (Some(3), Some(10), Some(3)));
    let other = beside.as_ref().map_or(&rig.api, |(_, api)| api).clone();
    leases(&other, &of_pool("lower"), 2).await;
    refused(&other, of_pool("lower")).await.is_of_limit(&subject("alpha"), DAY);
    assert_eq!(day_of(&other, "lower", "alpha").await, (Some(3), Some(10), Some(3)));
    rig.restart().await;
    refused(&rig.api, of_pool("lower")).await.is_of_limit(&subject("alpha"), DAY);
    assert_eq!(day_of(&rig.api, "lower", "alpha").await, (Some(3), Some(10), Some(3)));
}

async fn a_larger_limit_raises_ours_only_with_leave(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    for (pool, _) in POOLS {
        teach(&rig.api, pool, &[(A_DAY, 15)]).await;
    }
    assert_eq!(day_of(&rig.api, "lower", "alpha").await, (Some(10), Some(10), Some(15)), "only shown");
    assert_eq!(day_of(&rig.api, "raise", "beta").await, (Some(15), Some(10), Some(15)));
    assert_eq!(day_of(&rig.api, "off", "gamma").await, (Some(10), Some(10), None));
    for ((pool, project), left) in POOLS.into_iter().zip([9, 14, 9]) {
        leases(&rig.api, &of_pool(pool), left).await;
        refused(&rig.api, of_pool(pool)).await.is_of_limit(&subject(project), DAY);
    }
    // What was named last counts, and one who may raise may lower too.
    let open = Rig::start(backing, CONFIG).await;
    for (pool, _) in POOLS {
        teach(&open.api, pool, &[(A_DAY, 15)]).await;
        teach(&open.api, pool, &[(A_DAY, 4)]).await;
    }
    for ((pool, project), left) in POOLS.into_iter().zip([2, 2, 8]) {
        leases(&open.api, &of_pool(pool), left).await;
        refused(&open.api, of_pool(pool)).await.is_of_limit(&subject(project), DAY);
    }
}

async fn all_quotas_of_one_refusal_are_learned_less_the_margin(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    teach(&rig.api, "margin", &[(A_DAY, 20), (A_MINUTE, 6), (TOKENS, 1000)]).await;
    for (name, learned) in [(DAY, 16), ("requests per minute", 4), ("input tokens per minute", 800)] {
        let limit = limit_of(&rig.api, "margin", &subject("delta"), name).await;
        let told = (limit.limit, limit.configured_limit, limit.learned_limit);
        assert_eq!(told, (Some(learned), None, Some(learned)), "{name}");
    }
    let large = keybroker_proto::v1::AcquireRequest { input_tokens: 801, ..of_pool("margin") };
    assert_eq!(refused(&rig.api, large).await.reason, "REQUEST_EXCEEDS_LIMIT");
    leases(&rig.api, &of_pool("margin"), 3).await;
    refused(&rig.api, of_pool("margin")).await.is_of_limit(&subject("delta"), "requests per minute");
}

async fn a_learned_limit_outlives_the_configured_one_and_a_reset(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    teach(&rig.api, "lower", &[(A_DAY, 3)]).await;
    reset(&rig.api, "lower").await;
    rig.configure(&CONFIG.replacen("limits = [ { requests_per_day = 10 } ]", "", 1));
    rig.restart().await;
    leases(&rig.api, &of_pool("lower"), 2).await;
    refused(&rig.api, of_pool("lower")).await.is_of_limit(&subject("alpha"), DAY);
    assert_eq!(day_of(&rig.api, "lower", "alpha").await, (Some(3), None, Some(3)));
}

async fn what_was_learned_is_forgotten_where_nothing_is_to_be_learned_any_more(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    teach(&rig.api, "lower", &[(A_DAY, 1), (A_MINUTE, 1)]).await;
    refused(&rig.api, of_pool("lower")).await;
    rig.configure(&CONFIG.replace("name = \"lower\"", "name = \"lower\"\nlearn_limits = \"off\""));
    rig.restart().await;
    leases(&rig.api, &of_pool("lower"), 9).await;
    refused(&rig.api, of_pool("lower")).await.is_of_limit(&subject("alpha"), DAY);
    assert_eq!(day_of(&rig.api, "lower", "alpha").await, (Some(10), Some(10), None));
}
