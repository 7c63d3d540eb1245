//! `keybroker reset`, by the real binary.

use keybroker_proto::v1::{AcquireRequest, ReportResult};
use keybroker_tests::{
    fake_gemini::bodies,
    harness::{
        api::{MODEL, answered, ask},
        rig::{Backing, Rig},
    },
};
use serde_json::{Value, json};

use super::{
    command_line::{err, out, run},
    operator::{CONFIG, Operator},
};

/// Google has retired two models, and the project's spending is capped.
async fn cool(rig: &Rig) {
    let mut leases = Vec::new();
    for model in [MODEL, "gemini-other", MODEL] {
        leases.push(rig.api.acquire(AcquireRequest { ..ask(model) }).await.unwrap());
    }
    for (lease, body) in leases.iter().zip([
        bodies::retired_model(MODEL),
        bodies::retired_model(MODEL),
        bodies::spending_cap_429(),
    ]) {
        let _: ReportResult =
            rig.api.report(answered(&lease.lease_id, i32::from(body.status), body.text)).await.unwrap();
    }
    assert_eq!(rig.api.inspect().await.cooldowns.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_cooldowns_of_a_model_a_key_and_a_pool() {
    let rig = Rig::start(Backing::Embedded, CONFIG).await;
    cool(&rig).await;
    assert_eq!(
        out(&run(&rig, &["reset", "--model", "gemini-other"])),
        "pools/default, model gemini-other: 1 cooldown ended\n"
    );
    let said: Value = serde_json::from_str(&out(&run(&rig, &["reset", "--key", "a1", "--json"]))).unwrap();
    assert_eq!(said, json!({ "name": "pools/default/keys/a1", "quota_model": "", "reset_count": 2 }));
    rig.api.lease().await;
    assert_eq!(
        out(&run(&rig, &["reset", "--pool", "default"])),
        "pools/default: 0 cooldowns ended\n",
        "it is no failure"
    );
    out(&run(&rig, &["reset", "--key", "pools/default/keys/a1", "--model", MODEL]));
    let records = Operator::of(&rig.api).records().await;
    assert!(records.iter().all(|record| (&*record.actor, &*record.action) == ("ann", "ResetCooldowns")));
    let told: Vec<_> = records.iter().map(|record| record.resource.as_str()).collect();
    assert_eq!(told, ["pools/default/keys/a1", "pools/default", "pools/default/keys/a1", "pools/default"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_lost_there_is_nothing_to_accept() {
    let rig = Rig::start(Backing::Redis, CONFIG).await;
    let said = err(&run(&rig, &["accept-loss"]), 1);
    assert!(said.contains("pool default waits for no lost counts"), "{said}");
    let said = err(&run(&rig, &["accept-loss", "--pool", "other"]), 1);
    assert!(said.contains("other") && said.contains("default"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_that_cannot_be_meant_says_what_is_wrong() {
    let rig = Rig::start(Backing::Embedded, CONFIG).await;
    for (arguments, word) in [
        (&["reset", "--pool", "nowhere"][..], "configured are: default"),
        (&["reset", "--key", "nobody"], "nobody"),
        (&["reset", "--model", "two words"], "quota_model"),
        (&["reset", "--key", ""], "pools/{pool}/keys/{key}"),
    ] {
        let said = err(&run(&rig, arguments), 1);
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    out(&run(&rig, &["keys", "disable", "a1"]));
    let said = err(&run(&rig, &["reset", "--key", "a1"]), 1);
    assert!(said.contains("a1, which is not leased; enable it first"), "{said}");
    for (arguments, word) in [
        (&["reset", "a1"][..], "a1"),
        (&["reset", "--key"], "--key"),
        (&["reset", "--keys", "a1"], "--keys"),
        (&["reset", "--key", "pools/default"], "pools/POOL/keys/ID"),
    ] {
        let said = err(&run(&rig, arguments), 2);
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    let help = out(&run(&rig, &["reset", "--help"]));
    for word in ["--pool", "--key", "--model", "--json", "stays counted"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
