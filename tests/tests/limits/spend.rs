//! Money: tokens by the prices of the configuration, charged ahead and corrected by what was used.

use keybroker_proto::v1::AcquireRequest;
use keybroker_tests::{
    harness::{
        api::{MODEL, ask, not_sent},
        refused::{Refused, refused},
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};
use tonic::Code;

use super::support::{leases, limit_of, of_project, used};

on_both_ledgers!(
    money_is_charged_ahead_and_corrected_down_and_up_by_what_was_used,
    the_most_specific_price_counts_and_cached_tokens_cost_less,
    a_request_that_costs_more_than_the_limit_is_told_never,
);

const PRICES: &str = r#"
[[prices]]
input_per_million = 1
output_per_million = 2
[[prices]]
model = "gemini-dear*"
input_per_million = 10
cached_input_per_million = 1
output_per_million = 20
[[billing_accounts]]
id = "payer"
totals = { spend_per_10_minutes = 0.0001 }
[[projects]]
id = "alpha"
billing_account = "payer"
keys = [ { id = "a", secret = "test-key-spend-a" } ]
[[projects]]
id = "beta"
billing_account = "payer"
keys = [ { id = "b", secret = "test-key-spend-b" } ]
"#;
const SUBJECT: &str = "billing account payer";
const LIMIT: &str = "US dollars per 10 minutes";

fn tokens(project: &str, input: i64, output: i64) -> AcquireRequest {
    AcquireRequest { input_tokens: input, output_tokens: output, ..of_project(project) }
}

async fn money_is_charged_ahead_and_corrected_down_and_up_by_what_was_used(backing: Backing) {
    let rig = Rig::start(backing, PRICES).await;
    let spent = async || limit_of(&rig.api, "", SUBJECT, LIMIT).await.used;
    // 20 in and 40 out are a hundred millionths: all there is, for both projects of the account.
    let lease = leases(&rig.api, &tokens("alpha", 20, 40), 1).await.remove(0);
    assert_eq!(spent().await, 100);
    refused(&rig.api, tokens("beta", 1, 0)).await.is_of_limit(SUBJECT, LIMIT);
    rig.api.report(used(&lease, 10, 0, 5)).await.unwrap();
    assert_eq!(spent().await, 20, "it cost less than it could have");
    refused(&rig.api, tokens("beta", 1, 40)).await.is_of_limit(SUBJECT, LIMIT);
    let lease = leases(&rig.api, &tokens("beta", 0, 40), 1).await.remove(0);
    assert_eq!(spent().await, 100);
    rig.api.report(used(&lease, 30, 0, 60)).await.unwrap();
    assert_eq!(spent().await, 170, "it cost more, and that counts too");
    assert_eq!(limit_of(&rig.api, "", SUBJECT, LIMIT).await.left, Some(0));
    refused(&rig.api, tokens("alpha", 1, 0)).await.is_of_limit(SUBJECT, LIMIT);
}

async fn the_most_specific_price_counts_and_cached_tokens_cost_less(backing: Backing) {
    let rig = Rig::start(backing, PRICES).await;
    let spent = async || limit_of(&rig.api, "", SUBJECT, LIMIT).await.used;
    let dear = AcquireRequest { input_tokens: 6, output_tokens: 1, ..ask("gemini-dear-1") };
    let lease = rig.api.acquire(dear).await.unwrap();
    assert_eq!(spent().await, 80);
    // 4 of the 6 tokens were cached: 2 at ten, 4 at one, and one of output.
    rig.api.report(used(&lease, 6, 4, 1)).await.unwrap();
    assert_eq!(spent().await, 44);
    let lease = rig.api.acquire(AcquireRequest { input_tokens: 6, ..ask(MODEL) }).await.unwrap();
    assert_eq!(spent().await, 50);
    rig.api.report(not_sent(&lease.lease_id)).await.unwrap();
    assert_eq!(spent().await, 44, "what was never sent is refunded");
}

async fn a_request_that_costs_more_than_the_limit_is_told_never(backing: Backing) {
    let rig = Rig::start(backing, PRICES).await;
    let Refused { code, reason, subject, description, .. } = refused(&rig.api, tokens("alpha", 101, 0)).await;
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "REQUEST_EXCEEDS_LIMIT"));
    assert_eq!(subject, SUBJECT);
    assert!(description.contains(LIMIT), "{description}");
}
