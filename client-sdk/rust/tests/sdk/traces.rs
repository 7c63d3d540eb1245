//! The OpenTelemetry context, passed on.

use keybroker_client::AcquireOptions;
use opentelemetry::{
    Context,
    context::FutureExt,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};

use crate::broker::MockBroker;

#[tokio::test]
async fn the_context_of_the_caller_reaches_the_broker() {
    let mock = MockBroker::start().await;
    let broker = mock.client();
    let span = SpanContext::new(
        TraceId::from(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
        SpanId::from(0x00f0_67aa_0ba9_02b7),
        TraceFlags::SAMPLED,
        false,
        TraceState::from_key_value([("vendor", "1")]).unwrap(),
    );
    let context = Context::new().with_remote_span_context(span);
    let options = AcquireOptions::new("gemini-2.5-flash");
    let lease = broker.acquire(options.clone()).with_context(context).await.unwrap();
    drop(lease);
    let lease = broker.acquire(options).await.unwrap();
    drop(lease);
    broker.close().await.unwrap();
    let seen = mock.script().metadata.clone();
    let of =
        |number: usize, name: &str| seen[number].get(name).map(|value| value.to_str().unwrap().to_owned());
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(of(0, "traceparent").as_deref(), Some(parent));
    assert_eq!(of(0, "tracestate").as_deref(), Some("vendor=1"));
    assert_eq!(of(1, "traceparent"), None);
}
