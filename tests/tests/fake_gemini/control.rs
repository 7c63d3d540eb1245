//! The control endpoint, through its client and as plain JSON.

use keybroker_tests::fake_gemini::{
    ControlError, Dimension, Fault, FaultRule, KeyChange, NamedError, fingerprint,
};
use serde_json::{Value, json};

use crate::support::{Bench, KEY, MODEL, config, prompt};

#[tokio::test]
async fn the_client_reads_the_same_verdict_as_the_server_gives() {
    let bench = Bench::start().await;
    let control = bench.fake.control();
    assert!(control.is_healthy().await);
    bench.generated().await;
    let verdict = control.verdict().await.unwrap();
    assert!(verdict.exact);
    assert_eq!((verdict.calls, verdict.statuses.get(&200)), (1, Some(&1)));
    assert_eq!(verdict.line("alpha", "gemini-fake", Dimension::Rpm).unwrap().worst_offered, 1);
    let tokens = verdict.line("alpha", "gemini-fake", Dimension::InputTpm).unwrap();
    assert_eq!(tokens.admitted, 2, "five bytes of text are two tokens");
}

#[tokio::test]
async fn the_log_tells_all_but_the_key() {
    let bench = Bench::start().await;
    bench.generated().await;
    let url = bench.url(&format!("v1/models/{MODEL}:generateContent?key=fake-key-nobody"));
    bench.http.post(url).json(&prompt("x")).send().await.unwrap();
    let text = bench.http.get(bench.url("control/log?since=0")).send().await.unwrap().text().await.unwrap();
    assert!(!text.contains("fake-key"), "{text}");
    let page = bench.fake.control().log(0).await.unwrap();
    let [known, unknown] = page.entries.as_slice() else { panic!("{page:?}") };
    assert_eq!(*known.key, fingerprint(KEY));
    assert_eq!(known.key.len(), 12);
    assert_eq!(
        (&*known.project, known.model.as_str(), known.quota_model.as_str()),
        ("alpha", MODEL, "gemini-fake")
    );
    assert_eq!((known.method.as_str(), known.input_tokens, known.status), ("generateContent", 2, 200));
    assert_eq!(
        (&*unknown.key, &*unknown.project, unknown.status),
        (&*fingerprint("fake-key-nobody"), "", 400)
    );
    let later = bench.fake.control().log(page.next_since).await.unwrap();
    assert_eq!(later.entries, []);
}

#[tokio::test]
async fn the_log_forgets_the_oldest_beyond_its_capacity() {
    let mut config = config();
    config.log_capacity = 2;
    let bench = Bench::with(config).await;
    for _ in 0..3 {
        bench.generated().await;
    }
    let page = bench.fake.control().log(0).await.unwrap();
    assert_eq!((page.entries.len(), page.entries[0].seq, page.lost), (2, 2, 1));
}

#[tokio::test]
async fn faults_are_added_listed_and_dropped() {
    let bench = Bench::start().await;
    let control = bench.fake.control();
    let rule = FaultRule::always(Fault::Status { code: 503 }).on_model("gemini-fake").times(2);
    control.add_fault(&rule).await.unwrap();
    assert_eq!(bench.generated().await.status(), 503);
    assert_eq!(control.faults().await.unwrap(), [rule.times(1)]);
    control.clear_faults().await.unwrap();
    assert_eq!(bench.generated().await.status(), 200);
}

#[tokio::test]
async fn a_senseless_rule_is_refused_with_a_reason() {
    let bench = Bench::start().await;
    let control = bench.fake.control();
    for rule in
        [FaultRule::always(Fault::Hang).with_probability(1.5), FaultRule::always(Fault::Status { code: 200 })]
    {
        let refusal = control.add_fault(&rule).await.unwrap_err();
        assert!(matches!(refusal, ControlError::Refused { status: 400, .. }), "{refusal}");
    }
    assert_eq!(control.faults().await.unwrap(), []);
}

#[tokio::test]
async fn faults_are_taken_as_a_plain_list_of_json() {
    let bench = Bench::start().await;
    let rules = json!([
        {"fault": {"kind": "latency", "min_ms": 1}},
        {"match": {"project": "alpha"}, "count": 1, "fault": {"kind": "error", "name": "daily_429"}},
    ]);
    let added = bench.http.post(bench.url("control/faults")).json(&rules).send().await.unwrap();
    assert_eq!(added.status(), 204);
    assert_eq!(bench.generated().await.status(), 429);
    assert_eq!(bench.generated().await.status(), 200);
}

#[tokio::test]
async fn a_reset_forgets_arrivals_and_keeps_keys_and_faults() {
    let bench = Bench::start().await;
    let control = bench.fake.control();
    control.add_fault(&FaultRule::always(Fault::Status { code: 500 })).await.unwrap();
    bench.generated().await;
    control.reset().await.unwrap();
    let verdict = control.verdict().await.unwrap();
    assert_eq!((verdict.calls, verdict.lines.len()), (0, 0));
    assert_eq!(control.log(0).await.unwrap().entries, []);
    assert_eq!(bench.generated().await.status(), 500);
}

#[tokio::test]
async fn keys_come_go_and_come_back() {
    let bench = Bench::start().await;
    let control = bench.fake.control();
    let disabled = KeyChange { key: KEY.into(), project: None, disabled_as: Some(NamedError::Suspended) };
    control.change_key(&disabled).await.unwrap();
    let body: Value = bench.generated().await.json().await.unwrap();
    assert_eq!(body["error"]["details"][0]["reason"], "CONSUMER_SUSPENDED");
    control.change_key(&KeyChange { key: KEY.into(), ..KeyChange::default() }).await.unwrap();
    assert_eq!(bench.generated().await.status(), 200);

    let newcomer = KeyChange { key: "fake-key-new".into(), ..KeyChange::default() };
    control.change_key(&newcomer).await.unwrap_err();
    control.change_key(&KeyChange { project: Some("gamma".into()), ..newcomer }).await.unwrap();
    let url = bench.url(&format!("v1/models/{MODEL}:generateContent"));
    let call = bench.http.post(url).header("x-goog-api-key", "fake-key-new").json(&prompt("x"));
    assert_eq!(call.send().await.unwrap().status(), 200);
    assert!(bench.fake.verdict().line("gamma", "gemini-fake", Dimension::Rpm).is_some());
}
