//! Margins lower what was configured; smoothing spreads a minute over its seconds.

use std::time::{Duration, Instant};

use keybroker_proto::v1::AcquireRequest;
use keybroker_tests::{
    harness::{
        api::wire,
        refused::refused,
        rig::{Backing, Rig},
    },
    on_both_ledgers,
};

use super::support::{leases, limit_of, of_pool, of_project};

on_both_ledgers!(
    a_margin_lowers_every_limit_rounded_down_but_never_to_nought,
    a_smoothed_minute_gives_no_second_more_than_its_part,
    a_limit_of_the_second_stands_before_smoothing,
);

async fn a_margin_lowers_every_limit_rounded_down_but_never_to_nought(backing: Backing) {
    const MARGINS: &str = r#"
[[pools]]
margin_percent = 10
totals = { requests_per_month = 1000 }
[[plans]]
name = "guest"
requests_per_minute = 10
[[consumers]]
id = "ann"
plan = "guest"
[[projects]]
id = "alpha"
limits = [ { requests_per_minute = 11 } ]
keys = [ { id = "a", secret = "test-key-margins-a" } ]
[[projects]]
id = "beta"
margin_percent = 50
limits = [ { requests_per_minute = 5 } ]
keys = [ { id = "b", secret = "test-key-margins-b" } ]
[[projects]]
id = "gamma"
margin_percent = 90
limits = [ { requests_per_minute = 1 } ]
keys = [ { id = "c", secret = "test-key-margins-c" } ]
[[projects]]
id = "delta"
margin_percent = 0
limits = [ { requests_per_minute = 12 } ]
keys = [ { id = "d", secret = "test-key-margins-d" } ]
"#;
    let rig = Rig::start(backing, MARGINS).await;
    // What is the consumer's own is not Google's, and is not lowered.
    let guest = AcquireRequest { consumer: "ann".to_owned(), ..of_project("delta") };
    leases(&rig.api, &guest, 10).await;
    refused(&rig.api, guest).await.is_of_limit("consumer ann", "requests per minute");
    for (project, kept) in [("alpha", 9), ("beta", 2), ("gamma", 1), ("delta", 2)] {
        leases(&rig.api, &of_project(project), kept).await;
        let subject = format!("project {project}, model gemini-fake");
        refused(&rig.api, of_project(project)).await.is_of_limit(&subject, "requests per minute");
    }
    assert_eq!(limit_of(&rig.api, "", "pool default", "requests per month").await.limit, Some(900));
}

const SMOOTH: &str = r#"
[[pools]]
smooth_bursts = true
send_within = "100ms"
[[projects]]
id = "alpha"
limits = [ { requests_per_minute = 119 } ]
keys = [ { id = "a", secret = "test-key-smooth-a" } ]

[[pools]]
name = "own"
smooth_bursts = true
send_within = "100ms"
[[projects]]
id = "beta"
pool = "own"
limits = [ { requests_per_minute = 60, requests_per_second = 3 } ]
keys = [ { id = "b", secret = "test-key-smooth-b" } ]
[[projects]]
id = "gamma"
pool = "own"
smooth_bursts = false
limits = [ { requests_per_minute = 6 } ]
keys = [ { id = "c", secret = "test-key-smooth-c" } ]
"#;

async fn a_smoothed_minute_gives_no_second_more_than_its_part(backing: Backing) {
    let rig = Rig::start(backing, SMOOTH).await;
    let mut granted = Vec::new();
    for _ in 0..6 {
        let request = AcquireRequest { wait: Some(wire(Duration::from_secs(10))), ..of_pool("") };
        rig.api.acquire(request).await.unwrap();
        granted.push(Instant::now());
        if granted.len() == 2 {
            let refusal = refused(&rig.api, of_pool("")).await;
            refusal.is_of_limit("project alpha, model gemini-fake", "requests per second");
        }
    }
    // Two at a time, since 119 a minute are not 2 a second; and the third never within the same one.
    for three in granted.windows(3) {
        assert!(three[2] - three[0] >= Duration::from_secs(1), "{:?}", three[2] - three[0]);
    }
    let limit = limit_of(&rig.api, "", "project alpha, model gemini-fake", "requests per second").await;
    assert_eq!(limit.limit, Some(2));
}

async fn a_limit_of_the_second_stands_before_smoothing(backing: Backing) {
    let rig = Rig::start(backing, SMOOTH).await;
    let limit = |project: &'static str, name: &'static str| {
        let api = rig.api.clone();
        async move {
            leases(&api, &AcquireRequest { pool: "own".to_owned(), ..of_project(project) }, 1).await;
            let subject = format!("project {project}, model gemini-fake");
            let limits = api.try_inspect("own").await.unwrap().limits;
            let found = limits.iter().find(|limit| limit.subject == subject && limit.limit_name == name);
            found.and_then(|limit| limit.limit)
        }
    };
    assert_eq!(limit("beta", "requests per second").await, Some(3));
    assert_eq!(limit("gamma", "requests per second").await, None, "a project may choose for itself");
    let request = AcquireRequest { pool: "own".to_owned(), ..of_project("gamma") };
    leases(&rig.api, &request, 5).await;
}
