//! The same through the SDK and a Google that counts by itself: what it refuses once, it need not refuse
//! again.

use keybroker_client::{Broker, Gemini};
use keybroker_tests::{
    fake_gemini::{FakeGemini, FakeGeminiConfig, Limits},
    harness::{
        api::MODEL,
        refused::refused,
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};

use super::support::{limit_of, of_pool, reset};

on_both_ledgers!(a_limit_that_only_google_knows_is_learned_from_its_first_refusal);

const KEY: &str = "test-key-played-a";
const CONFIG: &str = r#"
[[projects]]
id = "alpha"
limits = [ { requests_per_minute = 100 } ]
keys = [ { id = "a", secret = "test-key-played-a" } ]
"#;

async fn a_limit_that_only_google_knows_is_learned_from_its_first_refusal(backing: Backing) {
    let limits = Limits { rpm: Some(3), ..Limits::default() };
    let google = FakeGeminiConfig::default().with_key(KEY, "alpha").with_limits("alpha", MODEL, limits);
    let google = FakeGemini::start(google).await.unwrap();
    let rig = Rig::start(backing, CONFIG).await;
    let broker = Broker::connect(rig.broker.url()).unwrap();
    let client = Gemini::builder(&broker).base_url(&google.base_url).attempts(1).build().unwrap();
    for _ in 0..3 {
        client.ask(MODEL, "Why is the sky blue?").await.unwrap();
    }
    client.ask(MODEL, "Why is the sky blue?").await.unwrap_err();
    let subject = "project alpha, model gemini-fake";
    let limit = limit_of(&rig.api, "", subject, "requests per minute").await;
    assert_eq!((limit.limit, limit.configured_limit, limit.learned_limit), (Some(3), Some(100), Some(3)));
    // Google is not asked again before its minute is over, also if the cooldown is ended by hand.
    reset(&rig.api, "default").await;
    refused(&rig.api, of_pool("")).await.is_of_limit(subject, "requests per minute");
    assert_eq!(google.log(0).entries.len(), 4);
}
