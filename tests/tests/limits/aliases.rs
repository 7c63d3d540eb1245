//! Quota models that Google names: learned by one broker, used by all, and cooled at once.

use std::time::{Duration, Instant};

use keybroker_tests::{
    harness::{
        api::{Api, ask},
        refused::{Refused, refused},
        rig::{Backing, Rig, eventually},
    },
    on_both_ledgers,
};

use super::support::{A_MINUTE, leases, refused_by_google};

on_both_ledgers!(
    what_google_counts_a_model_under_is_learned_by_the_fleet_and_cools_at_once,
    what_the_configuration_says_of_a_model_stands,
);

const CONFIG: &str = r#"
[model_aliases]
"gemini-mine" = "gemini-family"
[[projects]]
id = "alpha"
keys = [ { id = "a", secret = "test-key-aliases-a" } ]
[[projects]]
id = "beta"
keys = [ { id = "b", secret = "test-key-aliases-b" } ]
"#;
const PREVIEW: &str = "gemini-3-flash-preview";
const FAMILY: &str = "gemini-3-flash";

/// Everybody who may ask: the broker, and one beside it where the ledger can be shared.
async fn fleet(backing: Backing) -> (Rig, Vec<Api>, Option<keybroker_tests::harness::broker::BrokerProcess>) {
    let rig = Rig::start(backing, CONFIG).await;
    let beside = if backing == Backing::Redis { Some(rig.beside("second.toml", CONFIG).await) } else { None };
    let (second, api) = beside.map_or((None, None), |(broker, api)| (Some(broker), Some(api)));
    let apis = std::iter::once(rig.api.clone()).chain(api).collect();
    (rig, apis, second)
}

async fn what_google_counts_a_model_under_is_learned_by_the_fleet_and_cools_at_once(backing: Backing) {
    let (mut rig, apis, _second) = fleet(backing).await;
    let held = leases(&rig.api, &ask(PREVIEW), 2).await;
    assert!(held.iter().all(|lease| lease.quota_model == PREVIEW), "nobody knows better yet");
    for lease in &held {
        rig.api.report(refused_by_google(lease, FAMILY, &[(A_MINUTE, 1)])).await.unwrap();
    }
    let reported = Instant::now();
    // Nobody asked under that name before, and it is cooling down for everybody.
    for api in &apis {
        let Refused { reason, subject, description, .. } = refused(api, ask(FAMILY)).await;
        assert_eq!(reason, "COOLING_DOWN", "{description}");
        assert!(subject.ends_with(", model gemini-3-flash"), "{subject}");
        assert!(description.contains("minute_quota"), "{description}");
    }
    let learned = async || {
        for api in &apis {
            if refused(api, ask(PREVIEW)).await.subject.ends_with(PREVIEW) {
                return false;
            }
        }
        true
    };
    assert!(eventually(learned).await, "every broker counts it as Google does");
    assert!(reported.elapsed() < Duration::from_secs(1), "{:?}", reported.elapsed());
    rig.restart().await;
    assert!(refused(&rig.api, ask(PREVIEW)).await.subject.ends_with(", model gemini-3-flash"));
}

async fn what_the_configuration_says_of_a_model_stands(backing: Backing) {
    let (mut rig, _, _second) = fleet(backing).await;
    let lease = leases(&rig.api, &ask("gemini-mine"), 1).await.remove(0);
    assert_eq!(lease.quota_model, "gemini-family");
    rig.api.report(refused_by_google(&lease, FAMILY, &[(A_MINUTE, 1)])).await.unwrap();
    rig.restart().await;
    let lease = leases(&rig.api, &ask("gemini-mine"), 1).await.remove(0);
    assert_eq!((lease.quota_model.as_str(), lease.key_id.as_str()), ("gemini-family", "b"));
}
