//! Everybody who can have a limit: it refuses at it, is named, and covers what it covers and no more.

use keybroker_proto::v1::AcquireRequest;
use keybroker_tests::{
    harness::{
        api::ask,
        refused::refused,
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};

use super::support::{leases, of_pool, of_project};

on_both_ledgers!(
    each_owner_of_a_limit_refuses_at_it_and_is_named,
    the_projects_of_a_billing_account_share_its_limit,
    a_model_of_the_pool_is_limited_over_all_its_projects,
    one_consumers_total_counts_across_all_keys_and_models,
);

/// A pool for each owner of a limit of two requests a minute.
const OWNERS: &str = r#"
[[pools]]
name = "key-model"
[[projects]]
id = "one"
pool = "key-model"
keys = [ { id = "k1", secret = "test-key-owner-k1", limits = [ { requests_per_minute = 2 } ] } ]

[[pools]]
name = "key"
[[projects]]
id = "two"
pool = "key"
keys = [ { id = "k2", secret = "test-key-owner-k2", totals = { requests_per_minute = 2 } } ]

[[pools]]
name = "project-model"
[[projects]]
id = "three"
pool = "project-model"
limits = [ { requests_per_minute = 2 } ]
keys = [ { id = "k3", secret = "test-key-owner-k3" }, { id = "k4", secret = "test-key-owner-k4" } ]

[[pools]]
name = "project"
[[projects]]
id = "four"
pool = "project"
totals = { requests_per_minute = 2 }
keys = [ { id = "k5", secret = "test-key-owner-k5" }, { id = "k6", secret = "test-key-owner-k6" } ]

[[pools]]
name = "of-pool"
limits = [ { requests_per_minute = 2 } ]
[[projects]]
id = "five"
pool = "of-pool"
keys = [ { id = "k7", secret = "test-key-owner-k7" } ]

[[pools]]
name = "account"
[[billing_accounts]]
id = "payer"
totals = { requests_per_minute = 2 }
[[projects]]
id = "six"
pool = "account"
billing_account = "payer"
keys = [ { id = "k8", secret = "test-key-owner-k8" } ]
[[projects]]
id = "seven"
pool = "account"
billing_account = "payer"
keys = [ { id = "k9", secret = "test-key-owner-k9" } ]

[[pools]]
name = "model"
model_totals = [ { requests_per_minute = 2 } ]
[[projects]]
id = "eight"
pool = "model"
keys = [ { id = "k10", secret = "test-key-owner-k10" } ]
[[projects]]
id = "nine"
pool = "model"
keys = [ { id = "k11", secret = "test-key-owner-k11" } ]

[[pools]]
name = "whole"
totals = { requests_per_minute = 2 }
[[projects]]
id = "ten"
pool = "whole"
keys = [ { id = "k12", secret = "test-key-owner-k12" } ]
[[projects]]
id = "eleven"
pool = "whole"
keys = [ { id = "k13", secret = "test-key-owner-k13" } ]

[[pools]]
name = "open"
[[projects]]
id = "twelve"
pool = "open"
keys = [ { id = "k14", secret = "test-key-owner-k14" }, { id = "k15", secret = "test-key-owner-k15" } ]
[[plans]]
name = "small"
requests_per_minute = 2
[[consumers]]
id = "ann@example.com"
plan = "small"
"#;

/// Pool, who is named, and whether another model is refused too.
const SUBJECTS: [(&str, &str, bool); 9] = [
    ("key-model", "key k1, model gemini-fake", false),
    ("key", "key k2", true),
    ("project-model", "project three, model gemini-fake", false),
    ("project", "project four", true),
    ("of-pool", "project five, model gemini-fake", false),
    ("account", "billing account payer", true),
    ("model", "model gemini-fake", false),
    ("whole", "pool whole", true),
    ("open", "consumer ann@example.com", true),
];

fn asked(pool: &str, model: &str) -> AcquireRequest {
    let consumer = if pool == "open" { "ann@example.com" } else { "" };
    AcquireRequest { consumer: consumer.to_owned(), pool: pool.to_owned(), ..ask(model) }
}

async fn each_owner_of_a_limit_refuses_at_it_and_is_named(backing: Backing) {
    let rig = Rig::start(backing, OWNERS).await;
    for (pool, subject, over_all_models) in SUBJECTS {
        leases(&rig.api, &asked(pool, "gemini-fake"), 2).await;
        refused(&rig.api, asked(pool, "gemini-fake")).await.is_of_limit(subject, "requests per minute");
        let other = asked(pool, "gemini-other");
        if over_all_models {
            refused(&rig.api, other).await.is_of_limit(subject, "requests per minute");
        } else {
            leases(&rig.api, &other, 2).await;
        }
    }
    // Whoever names no consumer, or another one, is not the one who used it up.
    leases(&rig.api, &of_pool("open"), 3).await;
    leases(&rig.api, &AcquireRequest { consumer: "bob@example.com".to_owned(), ..of_pool("open") }, 3).await;
}

async fn the_projects_of_a_billing_account_share_its_limit(backing: Backing) {
    let rig = Rig::start(backing, OWNERS).await;
    for project in ["six", "seven"] {
        leases(&rig.api, &AcquireRequest { pool: "account".to_owned(), ..of_project(project) }, 1).await;
    }
    for project in ["six", "seven"] {
        let request = AcquireRequest { pool: "account".to_owned(), ..of_project(project) };
        refused(&rig.api, request).await.is_of_limit("billing account payer", "requests per minute");
    }
}

async fn a_model_of_the_pool_is_limited_over_all_its_projects(backing: Backing) {
    let rig = Rig::start(backing, OWNERS).await;
    for project in ["eight", "nine"] {
        leases(&rig.api, &AcquireRequest { pool: "model".to_owned(), ..of_project(project) }, 1).await;
    }
    let refusal = refused(&rig.api, of_pool("model")).await;
    refusal.is_of_limit("model gemini-fake", "requests per minute");
}

async fn one_consumers_total_counts_across_all_keys_and_models(backing: Backing) {
    let rig = Rig::start(backing, OWNERS).await;
    let (first, second) = (asked("open", "gemini-fake"), asked("open", "gemini-other"));
    let keys = [leases(&rig.api, &first, 1).await, leases(&rig.api, &first, 1).await];
    assert_ne!(keys[0][0].key_id, keys[1][0].key_id);
    for request in [first, second] {
        let refusal = refused(&rig.api, request).await;
        refusal.is_of_limit("consumer ann@example.com", "requests per minute");
    }
}
