//! Constraints, with a real broker on both ledgers: which keys a request may have, and in which words it
//! is told that there is none.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::collections::BTreeSet;

use keybroker_proto::v1::{AcquireRequest, Constraints, Tier};
use keybroker_tests::{
    fake_gemini::bodies,
    harness::{
        api::{Api, MODEL, answered, ask, not_sent},
        refused::{Refused, refused},
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};
use tonic::Code;

on_both_ledgers!(
    each_constraint_and_their_combinations_leave_exactly_the_keys_they_say,
    a_paid_request_is_refused_rather_than_given_a_free_key,
    constraints_that_leave_no_key_are_named,
    a_pool_without_paid_keys_says_so,
);

/// Whoever was leased the longest time ago is next: twelve requests meet every key that may be leased.
const CONFIG: &str = r#"
[[pools]]
strategy = "least_recently_used"
[[pools]]
name = "unpaid"
[[projects]]
id = "free"
tier = "free"
keys = [
  { id = "f1", secret = "test-key-constraints-f1", labels = { site = "hq", owner = "ann" } },
  { id = "f2", secret = "test-key-constraints-f2", labels = { site = "lab" } },
]
[[projects]]
id = "paid"
tier = "paid"
limits = [ { model = "gemini-scarce", requests_per_day = 2 } ]
keys = [
  { id = "p1", secret = "test-key-constraints-p1", labels = { site = "hq" } },
  { id = "p2", secret = "test-key-constraints-p2", labels = { site = "lab", owner = "ann" } },
]
[[projects]]
id = "other"
tier = "paid"
limits = [ { model = "gemini-scarce", requests_per_day = 1 } ]
keys = [ { id = "o1", secret = "test-key-constraints-o1" } ]
[[projects]]
id = "untold"
keys = [ { id = "u1", secret = "test-key-constraints-u1", labels = { site = "hq" } } ]
[[projects]]
id = "alone"
pool = "unpaid"
tier = "free"
keys = [ { id = "n1", secret = "test-key-constraints-n1" } ]
"#;

/// Constraints in short.
#[derive(Clone, Default)]
struct Only {
    project: &'static str,
    tier: Tier,
    not_keys: &'static [&'static str],
    not_projects: &'static [&'static str],
    labels: &'static [(&'static str, &'static str)],
}

impl Only {
    fn ask(&self, model: &str) -> AcquireRequest {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let constraints = Constraints {
            project: self.project.to_owned(),
            tier: self.tier.into(),
            exclude_key_ids: texts(self.not_keys),
            exclude_projects: texts(self.not_projects),
            labels: self
                .labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        AcquireRequest { constraints: Some(constraints), ..ask(model) }
    }

    fn tier(tier: Tier) -> Self {
        Self { tier, ..Self::default() }
    }
}

/// The keys that so many requests get.
async fn keys(api: &Api, only: &Only) -> String {
    let mut keys = BTreeSet::new();
    for _ in 0..12 {
        keys.insert(api.acquire(only.ask(MODEL)).await.unwrap().key_id);
    }
    keys.into_iter().collect::<Vec<_>>().join(" ")
}

async fn each_constraint_and_their_combinations_leave_exactly_the_keys_they_say(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    let base = Only::default();
    for (only, left) in [
        (base.clone(), "f1 f2 o1 p1 p2 u1"),
        (Only { project: "paid", ..base.clone() }, "p1 p2"),
        (Only::tier(Tier::Paid), "o1 p1 p2"),
        (Only::tier(Tier::Free), "f1 f2"),
        (Only { not_keys: &["f1", "p2", "no-such-key"], ..base.clone() }, "f2 o1 p1 u1"),
        (Only { not_projects: &["free", "untold", "no-such-project"], ..base.clone() }, "o1 p1 p2"),
        (Only { labels: &[("site", "hq")], ..base.clone() }, "f1 p1 u1"),
        (Only { labels: &[("site", "lab"), ("owner", "ann")], ..base.clone() }, "p2"),
        (Only { labels: &[("site", "hq")], ..Only::tier(Tier::Paid) }, "p1"),
        (Only { project: "free", not_keys: &["f1"], ..base.clone() }, "f2"),
        (Only { project: "paid", labels: &[("owner", "ann")], ..Only::tier(Tier::Paid) }, "p2"),
        (Only { not_projects: &["paid"], ..Only::tier(Tier::Paid) }, "o1"),
        (Only { not_keys: &["f1"], not_projects: &["paid"], labels: &[("site", "hq")], ..base }, "u1"),
    ] {
        assert_eq!(keys(&rig.api, &only).await, left);
    }
}

async fn a_paid_request_is_refused_rather_than_given_a_free_key(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    let paid = Only::tier(Tier::Paid).ask("gemini-scarce");
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(rig.api.acquire(paid.clone()).await.unwrap());
    }
    let mut keys: Vec<_> = leases.iter().map(|lease| lease.key_id.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["o1", "p1", "p2"]);
    let refusal = refused(&rig.api, paid).await;
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::ResourceExhausted, "QUOTA_EXHAUSTED"));
    assert!(
        ["project paid, model gemini-scarce", "project other, model gemini-scarce"]
            .contains(&&*refusal.subject)
    );
    assert_eq!(rig.api.acquire(ask("gemini-scarce")).await.unwrap().project, "free", "others have free keys");
    // Nor while the paid ones cool down.
    for lease in &leases {
        let body = bodies::project_denied();
        rig.api.report(answered(&lease.lease_id, 403, body.text)).await.unwrap();
    }
    let refusal = refused(&rig.api, Only::tier(Tier::Paid).ask(MODEL)).await;
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::ResourceExhausted, "COOLING_DOWN"),
        "{refusal:?}"
    );
    assert!(refusal.description.contains("project_disabled"), "{refusal:?}");
    let free = rig.api.acquire(ask(MODEL)).await.unwrap();
    rig.api.report(not_sent(&free.lease_id)).await.unwrap();
    assert_ne!(free.project, "paid");
}

async fn constraints_that_leave_no_key_are_named(backing: Backing) {
    let mut rig = Rig::start(backing, CONFIG).await;
    let base = Only::default();
    for (only, words) in [
        (Only { project: "no-such-project", ..base.clone() }, &["project no-such-project"][..]),
        (Only { project: "free", ..Only::tier(Tier::Paid) }, &["project free", "paid tier"]),
        (Only { project: "untold", ..Only::tier(Tier::Paid) }, &["project untold", "paid tier"]),
        (Only { labels: &[("site", "moon")], ..base.clone() }, &["labelled site=moon"]),
        (Only { project: "other", labels: &[("site", "hq")], ..base.clone() }, &["project other", "site=hq"]),
        (
            Only { not_keys: &["f1", "f2", "o1", "p1", "p2", "u1"], ..base.clone() },
            &["excluded keys", "f1, f2"],
        ),
        (
            Only { not_projects: &["free", "paid", "other", "untold"], ..base.clone() },
            &["excluded projects", "untold"],
        ),
        (
            Only { not_keys: &["o1"], not_projects: &["paid"], ..Only::tier(Tier::Paid) },
            &["paid tier", "o1", "paid)"],
        ),
        (
            Only { project: "other", not_keys: &["o1"], ..base.clone() },
            &["project other", "excluded keys (o1)"],
        ),
        (
            Only { labels: &[("owner", "ann")], not_projects: &["free", "paid"], ..base },
            &["owner=ann", "free, paid"],
        ),
    ] {
        let Refused { code, reason, message, .. } = refused(&rig.api, only.ask(MODEL)).await;
        assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "NO_USABLE_KEY"), "{message}");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
        // Whoever is ready to wait is told at once as well.
        let wait = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let waiting = refused(&rig.api, AcquireRequest { wait, ..only.ask(MODEL) });
        let told = tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await.unwrap();
        assert_eq!((told.reason, told.message), (reason, message));
    }
    rig.still_serves().await;
}

async fn a_pool_without_paid_keys_says_so(backing: Backing) {
    let rig = Rig::start(backing, CONFIG).await;
    let request = AcquireRequest { pool: "unpaid".to_owned(), ..Only::tier(Tier::Paid).ask(MODEL) };
    let refusal = refused(&rig.api, request).await;
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::FailedPrecondition, "NO_USABLE_KEY"));
    assert!(refusal.message.contains("no key of the paid tier"), "{refusal:?}");
}
