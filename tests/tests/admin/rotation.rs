//! Rotating keys at run time: the new text is leased at once, no lease of the former one is lost, and it is told when
//! none of them is out.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

use keybroker_proto::v1::{RotateKeyRequest, SettleState};
use keybroker_tests::{
    harness::{
        api::{Api, Details, not_sent, succeeded},
        broker::binary,
        process::{Process, wait_until},
        rig::Backing,
    },
    on_both_ledgers,
};
use tonic::Code;

use super::operator::{
    CONFIG, Operator, SEEN, ask_for, leases, named, of_project, rig, said_by, sealing, until,
};

const FORMER: &str = "test-key-rotation-0001";
const NEW: &str = "test-key-rotation-0002";

on_both_ledgers!(
    a_key_is_rotated_under_load_and_the_former_text_is_followed_until_it_is_unused,
    what_cannot_be_rotated_is_told_why,
);

/// Leases and reports until it is told to stop: when each text was handed out.
async fn work(api: &Api, stop: &AtomicBool) -> Vec<(Instant, String)> {
    let mut handed_out = Vec::new();
    while !stop.load(SeqCst) {
        let asked = Instant::now();
        let lease = api.acquire(ask_for("extra")).await.unwrap();
        handed_out.push((asked, lease.api_key.clone()));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let report = api.report(succeeded(&lease.lease_id, 5)).await.unwrap();
        assert_eq!(report.state(), SettleState::Settled);
    }
    handed_out
}

async fn a_key_is_rotated_under_load_and_the_former_text_is_followed_until_it_is_unused(backing: Backing) {
    let rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    operator.create("e1", FORMER, of_project("extra")).await.unwrap();
    // On Redis a second broker leases as well.
    let beside = match backing {
        Backing::Redis => Some(rig.beside_with("second.toml", CONFIG, sealing()).await),
        Backing::Embedded => None,
    };
    let apis: Vec<&Api> = std::iter::once(&rig.api).chain(beside.as_ref().map(|(_, api)| api)).collect();
    for api in &apis {
        until("the key is leased everywhere", async || leases(api, "extra").await).await;
    }
    let slow = rig.api.acquire(ask_for("extra")).await.unwrap();
    assert_eq!(slow.api_key, FORMER);

    let stop = AtomicBool::new(false);
    let rotate = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let file = rig.config_file().with_file_name("new.key");
        std::fs::write(&file, format!("{NEW}\n")).unwrap();
        let mut command = Command::new(binary("keybroker"));
        let arguments = ["keys", "rotate", "e1", "--json", "--secret-file", &file.display().to_string()];
        command.args(arguments).env("KEYBROKER_BROKER", &rig.broker.grpc).env("KEYBROKER_ACTOR", "ann");
        let mut rotating =
            Process::start("rotate", command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
        until("the new text is there", async || {
            operator.get("e1").await.unwrap().key_preview.ends_with("0002")
        })
        .await;
        let rotated = Instant::now();
        // Longer than it takes to find that no lease is out.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(operator.get("e1").await.unwrap().former_key_previews, ["…0001"], "one lease is out");
        assert!(rotating.is_running(), "it waits for that lease");
        let report = rig.api.report(succeeded(&slow.lease_id, 5)).await.unwrap();
        assert_eq!(report.state(), SettleState::Settled);
        // Leases of the new text, of which there is always one, hold nothing up.
        let unused = async || operator.get("e1").await.unwrap().former_key_previews.is_empty();
        until("the former text is unused", unused).await;
        assert!(rotating.wait(Duration::from_secs(20)).unwrap().success());
        stop.store(true, SeqCst);
        rotated
    };
    let workers = futures_util::future::join_all((0..6).map(|number| work(apis[number % apis.len()], &stop)));
    let (rotated, handed_out) = tokio::join!(rotate, workers);
    let handed_out: Vec<(Instant, String)> = handed_out.into_iter().flatten().collect();
    let late = handed_out.iter().filter(|(at, text)| text == FORMER && *at > rotated + SEEN);
    assert_eq!(late.count(), 0, "every broker leases the new text within a second");
    for text in [FORMER, NEW] {
        assert!(handed_out.iter().any(|(_, handed)| handed == text), "{text} was leased");
    }
    // What was counted for the project stays: it is the same quota.
    let sent = i64::try_from(handed_out.len()).unwrap();
    let used = rig.api.used("extra", "requests per Pacific day").await;
    assert_eq!(used, sent + 1, "counts of both texts, and of the slow one");
    let record = operator.records().await.remove(0);
    assert_eq!((record.actor.as_str(), record.action.as_str()), ("ann", "RotateKey"));
    assert!(!format!("{record:?}").contains("test-key-rotation"));
    for kind in ["key_rotated", "key_rotation_done"] {
        assert!(wait_until(SEEN, || rig.broker.log().contains(kind)), "{kind}");
    }
    assert!(!rig.broker.log().contains("test-key-rotation"));
}

async fn what_cannot_be_rotated_is_told_why(backing: Backing) {
    let rig = rig(backing).await;
    let operator = Operator::of(&rig.api);
    operator.create("e1", FORMER, of_project("extra")).await.unwrap();
    let rotate = async |id: &str, text: &str, etag: &str| {
        let request = RotateKeyRequest { name: named(id), api_key: text.to_owned(), etag: etag.to_owned() };
        let asked = operator.client().rotate_key(said_by("ann", request)).await;
        let error = asked.unwrap_err();
        assert!(!error.message().contains("test-key"), "{error}");
        (error.code(), Details::of(&error))
    };
    for text in ["", FORMER, "test key", "short"] {
        let (code, details) = rotate("e1", text, "").await;
        assert_eq!((code, details.field_names()), (Code::InvalidArgument, vec!["api_key"]), "{text:?}");
    }
    let (code, details) = rotate("a1", NEW, "").await;
    assert_eq!((code, details.reason.as_str()), (Code::FailedPrecondition, "CONFIGURED_IN_FILE"));
    assert_eq!(rotate("e1", NEW, "another").await.0, Code::Aborted);
    assert_eq!(rotate("none", NEW, "").await.0, Code::NotFound);
    // A text that another key has.
    operator.create("e2", NEW, of_project("other")).await.unwrap();
    assert_eq!(rotate("e1", NEW, "").await.0, Code::AlreadyExists);
    let lease = rig.api.acquire(ask_for("extra")).await.unwrap();
    assert_eq!(lease.api_key, FORMER, "nothing was half done");
    rig.api.report(not_sent(&lease.lease_id)).await.unwrap();
}
