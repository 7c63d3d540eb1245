//! Traces of a real broker, as a collector receives them.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::time::Duration;

use keybroker_client::{AcquireOptions, Broker, Usage};
use keybroker_proto::v1::{ReportRequest, key_broker_client::KeyBrokerClient};
use keybroker_tests::{
    harness::{
        api::{MODEL, ask, not_sent},
        broker::{BrokerOptions, BrokerProcess},
        collector::{Collector, attribute},
        rig::{Backing, Rig, eventually},
    },
    on_both_ledgers,
};
use opentelemetry::{
    Context,
    context::FutureExt,
    trace::{TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tempfile::TempDir;
use tonic::{Code, Request};

const KEY: &str = "fake-key-with-a-canary-in-it";
const CONFIG: &str = r#"
default_plan = "off"

[[projects]]
id = "project-a"
limits = [ { in_flight = 1 } ]
keys = [ { id = "a1", secret = "fake-key-with-a-canary-in-it" } ]
"#;
const ACQUIRE: &str = "keybroker.v1.KeyBroker/Acquire";
const REPORT: &str = "keybroker.v1.KeyBroker/Report";

on_both_ledgers!(
    one_trace_leads_from_a_workers_span_through_the_broker_to_the_script,
    a_batch_and_its_operations_are_linked_both_ways,
);

async fn start(backing: Backing, config: &str, env: &[(&str, &str)]) -> (Collector, Rig) {
    let collector = Collector::start().await;
    let options = BrokerOptions::default()
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.url())
        .env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let options = env.iter().fold(options, |options, (name, value)| options.env(name, *value));
    (collector, Rig::start_with(backing, config, options).await)
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn said(span: &Span, name: &str) -> String {
    attribute(&span.attributes, name)
}

/// The spans, once there are so many of this name.
async fn spans_with(collector: &Collector, name: &str, count: usize) -> Vec<Span> {
    let there = eventually(async || named(&collector.spans(), name).len() >= count).await;
    assert!(there, "{count} of {name} in {:#?}", collector.spans());
    collector.spans()
}

/// Nothing that a collector was told holds a key.
fn holds_no_key(collector: &Collector) {
    let text = format!("{:?}", collector.traces());
    assert!(text.contains("service.name") && !text.contains("canary"), "{text}");
}

async fn one_trace_leads_from_a_workers_span_through_the_broker_to_the_script(backing: Backing) {
    let env = [("OTEL_SERVICE_NAME", "broker-of-a-test"), ("OTEL_RESOURCE_ATTRIBUTES", "region=moon")];
    let (collector, rig) = start(backing, CONFIG, &env).await;
    let worker = SdkTracerProvider::builder().build();
    let worker = Context::new().with_span(worker.tracer("worker").start("a job"));
    let of_worker = worker.span().span_context().clone();
    // Who asks may be anything, also what it must not be.
    let options = || AcquireOptions::new(MODEL).consumer(format!("team:{KEY}")).input_tokens(10);
    let (held, waited) = async {
        let broker = Broker::connect(rig.broker.url()).unwrap();
        let mut held = broker.acquire(options()).await.unwrap();
        held.begin_send().unwrap();
        let held_id = held.lease_id().to_owned();
        // The second waits for the first.
        let waiting = broker.acquire(options().wait(Duration::from_secs(20)));
        let freeing = async {
            let in_line = eventually(async || rig.api.inspect().await.counters.unwrap().waiting == 1).await;
            assert!(in_line, "it waits");
            held.success(Usage { input_tokens: Some(7), ..Usage::default() }).await.unwrap();
        };
        let (waited, ()) = tokio::join!(waiting, freeing);
        let waited = waited.unwrap();
        let waited_id = waited.lease_id().to_owned();
        // The SDK for Rust reports for many at once, in no trace.
        let mut report = Request::new(ReportRequest { reports: vec![not_sent(&waited_id)] });
        let parent = format!("00-{}-{}-01", of_worker.trace_id(), of_worker.span_id());
        report.metadata_mut().insert("traceparent", parent.parse().unwrap());
        KeyBrokerClient::connect(rig.broker.url()).await.unwrap().report(report).await.unwrap();
        drop(waited);
        broker.close().await.unwrap();
        (held_id, waited_id)
    }
    .with_context(worker.clone())
    .await;
    spans_with(&collector, ACQUIRE, 2).await;
    let there = eventually(async || {
        let spans = collector.spans();
        named(&spans, REPORT).iter().any(|span| span.trace_id == of_worker.trace_id().to_bytes())
    });
    assert!(there.await, "{:#?}", collector.spans());
    let spans = collector.spans();
    let spans: Vec<Span> =
        spans.into_iter().filter(|span| span.trace_id == of_worker.trace_id().to_bytes()).collect();

    // From below upwards: what the store did, the batch, the operation, the call, the worker.
    let by_id = |id: &[u8]| spans.iter().find(|span| span.span_id == id);
    let store = if backing == Backing::Redis { "EVALSHA batch" } else { "embedded batch" };
    let above = |span: &Span| -> Vec<String> {
        let mut names = vec![span.name.clone()];
        let mut parent = span.parent_span_id.clone();
        while let Some(span) = by_id(&parent) {
            names.push(span.name.clone());
            parent = span.parent_span_id.clone();
        }
        assert_eq!(parent, of_worker.span_id().to_bytes(), "{names:?}");
        names
    };
    let chains: Vec<Vec<String>> = named(&spans, store).into_iter().map(above).collect();
    for call in [ACQUIRE, REPORT] {
        let chain = [store, "keybroker.ledger.batch", "keybroker.ledger.operation", call];
        assert!(chains.iter().any(|found| found == &chain), "{chain:?} in {chains:#?}");
    }

    let acquires = named(&spans, ACQUIRE);
    let got: Vec<String> = acquires.iter().map(|span| said(span, "keybroker.lease_id")).collect();
    assert!(got.contains(&held) && got.contains(&waited), "{got:?}");
    for span in &acquires {
        assert_eq!(span.kind(), SpanKind::Server);
        for (name, value) in [
            ("rpc.system.name", "grpc"),
            ("rpc.method", ACQUIRE),
            ("rpc.response.status_code", "OK"),
            ("keybroker.pool", "default"),
            ("keybroker.quota_model", MODEL),
            ("keybroker.consumer", "team:***"),
            ("keybroker.outcome", "granted"),
            ("keybroker.key_id", "a1"),
            ("keybroker.project", "project-a"),
        ] {
            assert_eq!(said(span, name), value, "{name}");
        }
    }
    let report = named(&spans, REPORT);
    assert_eq!(report.len(), 1);
    assert_eq!(said(report[0], "keybroker.report.outcome"), "not_sent");
    assert_eq!(said(report[0], "keybroker.lease_id"), waited);
    let wait = named(&spans, "keybroker.wait");
    assert_eq!(wait.len(), 1);
    let waited_for = by_id(&wait[0].parent_span_id).unwrap();
    assert_eq!(said(waited_for, "keybroker.lease_id"), waited);
    for span in named(&spans, store) {
        let (kind, system) = match backing {
            Backing::Redis => (SpanKind::Client, "redis"),
            Backing::Embedded => (SpanKind::Internal, "redb"),
        };
        assert_eq!((span.kind(), said(span, "db.system.name").as_str()), (kind, system));
        if let Some(redis) = &rig.redis {
            assert_eq!(said(span, "server.port"), redis.port().to_string());
        }
    }

    holds_no_key(&collector);
    let told = collector.traces();
    let resource = &told[0].resource_spans[0].resource.as_ref().unwrap().attributes;
    assert_eq!(attribute(resource, "service.name"), "broker-of-a-test");
    assert_eq!(attribute(resource, "region"), "moon");
}

async fn a_batch_and_its_operations_are_linked_both_ways(backing: Backing) {
    let config = CONFIG.replace("in_flight = 1", "in_flight = 100");
    // Nothing is sent before the end.
    let env = [("OTEL_TRACES_SAMPLER", "always_on"), ("OTEL_BSP_SCHEDULE_DELAY", "600000")];
    let (collector, mut rig) = start(backing, &config, &env).await;
    let mut leases = Vec::new();
    for _ in 0..20 {
        leases.push(rig.api.lease().await);
    }
    // One call with twenty operations.
    rig.api.report_all(leases.iter().map(|lease| not_sent(&lease.lease_id)).collect()).await.unwrap();
    let id = rig.broker.process().id();
    std::process::Command::new("kill").arg(id.to_string()).status().unwrap();
    assert!(eventually(async || !rig.broker.process().is_running()).await, "it ends");
    let spans = spans_with(&collector, "keybroker.ledger.operation", 40).await;
    assert_eq!(named(&spans, REPORT).len(), 1);
    let operations = named(&spans, "keybroker.ledger.operation");
    let batches = named(&spans, "keybroker.ledger.batch");
    assert_eq!(operations.len(), 40);
    for operation in &operations {
        assert_eq!(operation.links.len(), 1, "{operation:#?}");
        let batch = batches.iter().find(|batch| batch.span_id == operation.links[0].span_id).unwrap();
        assert!(batch.links.iter().any(|link| link.span_id == operation.span_id));
    }
    for batch in &batches {
        // Below the first of them; every call is recorded, so each operation is linked.
        assert_eq!(batch.parent_span_id, batch.links[0].span_id);
        assert_eq!(said(batch, "keybroker.ledger.batch.size"), batch.links.len().to_string());
        assert_eq!(said(batch, "keybroker.outcome"), "ok");
    }
}

/// A call as part of a trace that its maker records, or does not.
async fn acquire_in_trace(rig: &Rig, trace: &str, recorded: bool) -> Result<(), tonic::Status> {
    let mut request = Request::new(ask(MODEL));
    let parent = format!("00-{trace}-00f067aa0ba902b7-{:02x}", u8::from(recorded));
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    let mut client = KeyBrokerClient::connect(rig.broker.url()).await.unwrap();
    client.acquire(request).await.map(drop)
}

fn in_trace(spans: &[Span], trace: &str) -> usize {
    spans.iter().filter(|span| hex::encode(&span.trace_id) == trace).count()
}

#[tokio::test]
async fn what_the_worker_records_is_recorded_and_what_it_does_not_is_not() {
    let [left_out, kept] = ["1", "2"].map(|digit| digit.repeat(32));
    // Not even where every call that is part of no trace is recorded.
    for env in [&[("OTEL_TRACES_SAMPLER", "parentbased_always_on")], &[("OTEL_TRACES_SAMPLER_ARG", "0")]] {
        let config = CONFIG.replace("in_flight = 1", "in_flight = 100");
        let (collector, rig) = start(Backing::Embedded, &config, env).await;
        acquire_in_trace(&rig, &left_out, false).await.unwrap();
        rig.api.lease().await;
        acquire_in_trace(&rig, &kept, true).await.unwrap();
        // They are sent in the order in which they ended.
        assert!(eventually(async || in_trace(&collector.spans(), &kept) == 4).await);
        let spans = collector.spans();
        assert_eq!(in_trace(&spans, &left_out), 0);
        let roots = spans.iter().filter(|span| span.parent_span_id.is_empty()).count();
        assert_eq!(roots, usize::from(env[0].0 == "OTEL_TRACES_SAMPLER"), "calls that are part of no trace");
    }
}

#[tokio::test]
async fn a_refusal_an_unknown_call_and_a_request_of_http_are_told_as_what_they_are() {
    let (collector, rig) = start(Backing::Embedded, CONFIG, &[]).await;
    let traces = ["a", "b", "c"].map(|digit| digit.repeat(32));
    rig.api.lease().await;
    let refused = acquire_in_trace(&rig, &traces[0], true).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let parent = |trace: &str| format!("00-{trace}-00f067aa0ba902b7-01");
    let client = reqwest::Client::new();
    let url = format!("http://{}/v1/pools", rig.broker.http);
    let answer = client.get(url).header("traceparent", parent(&traces[1])).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let channel = tonic::transport::Channel::from_shared(rig.broker.url()).unwrap().connect().await.unwrap();
    let mut raw = tonic::client::Grpc::new(channel);
    raw.ready().await.unwrap();
    let mut request = Request::new(());
    request.metadata_mut().insert("traceparent", parent(&traces[2]).parse().unwrap());
    let path = format!("/keybroker.v1.KeyBroker/{KEY}").parse().unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    assert_eq!(raw.unary(request, path, codec).await.unwrap_err().code(), Code::Unimplemented);
    let of_trace = |trace: &String| {
        let spans = collector.spans();
        spans
            .into_iter()
            .find(|span| hex::encode(&span.trace_id) == *trace && span.kind() == SpanKind::Server)
    };
    assert!(eventually(async || traces.iter().all(|trace| of_trace(trace).is_some())).await);
    let [refused, listed, unknown] = traces.each_ref().map(|trace| of_trace(trace).unwrap());
    assert_eq!(said(&refused, "keybroker.refusal_reason"), "quota_exhausted");
    assert_eq!(said(&refused, "rpc.response.status_code"), "RESOURCE_EXHAUSTED");
    assert_eq!(said(&listed, "rpc.method"), "keybroker.v1.Admin/ListPools");
    assert_eq!(hex::encode(&listed.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(said(&unknown, "rpc.method"), "_OTHER");
    assert_eq!(said(&unknown, "error.type"), "UNIMPLEMENTED");
    holds_no_key(&collector);
}

#[test]
fn what_cannot_be_meant_is_named() {
    for (name, value) in
        [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "not a url"), ("OTEL_TRACES_SAMPLER_ARG", "every other")]
    {
        let folder = TempDir::new().unwrap();
        let options = BrokerOptions::default()
            .arg("--data-dir", folder.path().display().to_string())
            .env("GEMINI_API_KEYS", KEY)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
            .env(name, value);
        let (code, text) = BrokerProcess::run_to_end(&options, Duration::from_secs(20)).unwrap();
        assert!(code == Some(2) && text.contains(name), "{text}");
    }
}
