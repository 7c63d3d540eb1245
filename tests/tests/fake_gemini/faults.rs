//! Faults on order, as a caller suffers them.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use keybroker_tests::fake_gemini::{Dimension, Fault, FaultRule, Millis, NamedError, fingerprint};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Bench, KEY, MODEL, prompt, read};

#[tokio::test]
async fn a_hanging_call_never_answers_but_counts() {
    let bench = Bench::start().await;
    bench.fake.add_fault(FaultRule::always(Fault::Hang).times(1));
    let error = bench.generate().timeout(Duration::from_millis(200)).send().await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(bench.generated().await.status(), 200, "only the first was to hang");
    let verdict = bench.fake.verdict();
    assert_eq!(verdict.line("alpha", "gemini-fake", Dimension::Rpm).unwrap().admitted, 2);
    assert_eq!(verdict.statuses.get(&0), Some(&1));
    let log = bench.fake.log(0);
    assert_eq!((log.entries[0].status, log.entries[0].fault.as_deref()), (0, Some("hang")));
}

#[tokio::test]
async fn a_reset_reaches_the_caller_as_a_tcp_reset_before_any_byte() {
    let bench = Bench::start().await;
    bench.fake.add_fault(FaultRule::always(Fault::Reset));
    let body = prompt("x").to_string();
    let request = format!(
        "POST /v1/models/{MODEL}:generateContent HTTP/1.1\r\nhost: fake\r\nx-goog-api-key: {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(bench.fake.addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let error = stream.read_to_end(&mut got).await.unwrap_err();
    assert_eq!((error.kind(), got.len()), (ErrorKind::ConnectionReset, 0));

    let error = bench.generate().send().await.unwrap_err();
    assert!(!error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn half_a_stream_begins_well_and_breaks_off() {
    let bench = Bench::start().await;
    bench.fake.add_fault(FaultRule::always(Fault::HalfStream));
    let answer = bench.post("streamGenerateContent?alt=sse", &prompt("x")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let chunks: Vec<_> = answer.bytes_stream().collect().await;
    let (last, whole) = chunks.split_last().unwrap();
    assert!(last.is_err(), "the stream must not seem complete");
    let text: Vec<u8> = whole.iter().flat_map(|chunk| chunk.as_ref().unwrap().to_vec()).collect();
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("data: {") && !text.contains("finishReason"), "{text:?}");

    let answer = bench.generated().await;
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err(), "a plain answer breaks off too");
}

#[tokio::test]
async fn an_error_inside_a_stream_comes_after_the_first_chunk() {
    let bench = Bench::start().await;
    bench.fake.add_fault(FaultRule::always(Fault::InStreamError { name: NamedError::Overloaded }));
    let answer = bench.post("streamGenerateContent?alt=sse", &prompt("x")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    let events: Vec<Value> = text
        .split_terminator("\r\n\r\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    assert_eq!(events.len(), 2);
    assert!(events[0]["candidates"].is_array());
    assert_eq!(events[1]["error"]["code"], 503);
}

#[tokio::test]
async fn a_status_fault_gives_that_status_and_counts() {
    let bench = Bench::start().await;
    for code in [500, 502, 503, 504, 529] {
        bench.fake.clear_faults();
        bench.fake.add_fault(FaultRule::always(Fault::Status { code }));
        assert_eq!(bench.generated().await.status(), code);
    }
    let verdict = bench.fake.verdict();
    assert_eq!(verdict.line("alpha", "gemini-fake", Dimension::Rpm).unwrap().admitted, 5);
}

#[tokio::test]
async fn an_injected_refusal_counts_against_no_quota() {
    let bench = Bench::start().await;
    for name in [NamedError::Suspended, NamedError::Minute429, NamedError::Opaque429] {
        bench.fake.clear_faults();
        bench.fake.add_fault(FaultRule::always(Fault::Error { name }));
        assert!(bench.generated().await.status().is_client_error());
    }
    assert!(bench.fake.verdict().lines.is_empty());
}

#[tokio::test]
async fn latency_delays_the_answer_and_a_late_arrival_delays_the_count() {
    let bench = Bench::start().await;
    let delay = Duration::from_millis(150);
    let timed = async || {
        let began = Instant::now();
        assert_eq!(bench.generated().await.status(), 200);
        assert!(began.elapsed() >= delay);
        bench.fake.log(0).entries.last().map(|entry| entry.micros).unwrap()
    };
    bench.fake.add_fault(FaultRule::always(Fault::Latency(Millis { min_ms: 150, max_ms: Some(160) })));
    let first = timed().await;
    bench.fake.clear_faults();
    bench.fake.add_fault(FaultRule::always(Fault::LateArrival(Millis::fixed(150))));
    let second = timed().await;
    // Both delays lie between the two counts: the first came after its arrival, the second before.
    assert!(second - first >= 300_000, "{first} {second}");
}

#[tokio::test]
async fn rules_strike_only_the_key_they_name() {
    let bench = Bench::start().await;
    let rule = FaultRule::always(Fault::Error { name: NamedError::Leaked });
    bench.fake.add_fault(rule.on_key(&fingerprint("fake-key-beta")));
    assert_eq!(bench.generated().await.status(), 200);
    let url = bench.url(&format!("v1/models/{MODEL}:generateContent"));
    let other = bench.http.post(url).header("x-goog-api-key", "fake-key-beta").json(&prompt("x"));
    let (status, body) = read(other.send().await.unwrap()).await;
    assert_eq!((status, &body["error"]["status"]), (403, &json!("PERMISSION_DENIED")));
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_calls_that_hang() {
    let bench = Bench::start().await;
    bench.fake.add_fault(FaultRule::always(Fault::Hang));
    let call = tokio::spawn(bench.generate().send());
    while bench.fake.verdict().calls == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_secs(10), bench.fake.shutdown()).await.unwrap();
    assert!(call.await.unwrap().is_err());
}
