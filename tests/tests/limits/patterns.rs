//! Limits by model: the most specific pattern stands, field by field, and each model counts by itself.

use keybroker_tests::{
    harness::{
        api::{Api, ask},
        refused::refused,
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};

use super::support::leases;

on_both_ledgers!(
    the_most_specific_pattern_stands_for_projects_and_for_models_of_the_pool,
    a_project_that_names_a_limit_stands_before_its_pool_for_that_field_alone,
);

const PATTERNS: &str = r#"
[[pools]]
model_totals = [ { requests_per_day = 9 }, { model = "gemini-2.5-pro", requests_per_day = 1 } ]
[[projects]]
id = "alpha"
limits = [
  { requests_per_minute = 2, requests_per_day = 7 },
  { model = "gemini-2.5-*", requests_per_minute = 3 },
  { model = "gemini-2.5-flash-*", requests_per_minute = 4 },
  { model = "gemini-2.5-flash", requests_per_minute = 8 },
]
keys = [ { id = "a", secret = "test-key-patterns-a" } ]
"#;

/// Takes all there is of a model: as many as that, and then no more because of that limit.
async fn gives(api: &Api, model: &str, count: usize, subject: &str, limit: &str) {
    leases(api, &ask(model), count).await;
    refused(api, ask(model)).await.is_of_limit(&subject.replace("{}", model), limit);
}

async fn the_most_specific_pattern_stands_for_projects_and_for_models_of_the_pool(backing: Backing) {
    let rig = Rig::start(backing, PATTERNS).await;
    let of_project = "project alpha, model {}";
    gives(&rig.api, "another", 2, of_project, "requests per minute").await;
    gives(&rig.api, "yet-another", 2, of_project, "requests per minute").await;
    gives(&rig.api, "gemini-2.5-nano", 3, of_project, "requests per minute").await;
    gives(&rig.api, "gemini-2.5-flash-lite", 4, of_project, "requests per minute").await;
    // Its minute allows 8, and its day is that of any model.
    gives(&rig.api, "gemini-2.5-flash", 7, of_project, "requests per Pacific day").await;
    gives(&rig.api, "models/gemini-2.5-pro", 1, "model gemini-2.5-pro", "requests per Pacific day").await;
}

async fn a_project_that_names_a_limit_stands_before_its_pool_for_that_field_alone(backing: Backing) {
    const NESTED: &str = r#"
[[pools]]
limits = [
  { requests_per_minute = 2, requests_per_day = 3 },
  { model = "gemini-fake", requests_per_minute = 1 },
]
[[projects]]
id = "alpha"
limits = [ { requests_per_minute = 5 } ]
keys = [ { id = "a", secret = "test-key-patterns-a" } ]
"#;
    let rig = Rig::start(backing, NESTED).await;
    gives(&rig.api, "gemini-fake", 3, "project alpha, model {}", "requests per Pacific day").await;
}
