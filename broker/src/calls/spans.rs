//! The spans of a call, by OpenTelemetry's semantic conventions where they have a name for it.
//!
//! A call is a span of its own, below the span of whoever makes it. Each of its operations on the ledger is a span
//! below it, from when it queues until it is answered. Since one call to the ledger serves many calls (group commit),
//! a batch cannot be below all of them: it is below the first operation in it that is recorded, and linked with every
//! one, in both directions. What the store does is below the batch. So whoever follows one call comes to the
//! script that served it, in the same trace or by one link.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceId, Tracer},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, Span},
};
use tonic::Code;

use super::Call;
use crate::{access::needs_of, rest::errors::name_of};

/// By what spans are recorded; nothing while nobody asks for them.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();
/// Which part of the calls is recorded whose maker says nothing of a trace; unless the tracer decides it.
static PART_OF_ROOTS: OnceLock<f64> = OnceLock::new();

/// Spans are recorded by this from now on, and of calls that are part of no trace so many.
pub(super) fn record_by(tracer: SdkTracer, part_of_roots: Option<f64>) {
    // A process begins to export once.
    if let Some(part) = part_of_roots {
        let _ = PART_OF_ROOTS.set(part);
    }
    let _ = TRACER.set(tracer);
}

/// Whether a call is certainly not recorded, without making a span of it.
fn is_left_out(remote: Option<&Context>) -> bool {
    let Some(part) = PART_OF_ROOTS.get() else { return false };
    match remote {
        Some(remote) => !remote.span().span_context().is_sampled(),
        None => rand::random::<f64>() >= *part,
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// The span of whoever makes a call, by W3C's `traceparent` and `tracestate`.
pub(super) fn remote(headers: &HeaderMap) -> Option<Context> {
    headers.get("traceparent")?;
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    context.span().span_context().is_valid().then_some(context)
}

/// The span of a call, if it is recorded, and the trace that the call is part of.
pub(super) fn server(remote: Option<Context>, path: &str) -> (Option<Context>, Option<TraceId>) {
    let caller = remote.as_ref().map(|remote| remote.span().span_context().trace_id());
    let Some(tracer) = TRACER.get() else { return (None, caller) };
    if is_left_out(remote.as_ref()) {
        return (None, caller);
    }
    let parent = remote.unwrap_or_default();
    // Its name takes memory, so it gets it once it is known that it is recorded.
    let mut span = tracer.build_with_context(SpanBuilder::from_name("").with_kind(SpanKind::Server), &parent);
    if !span.is_recording() {
        return (None, caller);
    }
    // A path that is no call's may be anything.
    let method = if needs_of(path).is_some() { path.trim_start_matches('/') } else { "_OTHER" };
    span.update_name(if method == "_OTHER" { "grpc".to_owned() } else { method.to_owned() });
    span.set_attribute(KeyValue::new("rpc.system.name", "grpc"));
    span.set_attribute(KeyValue::new("rpc.method", method.to_owned()));
    let trace_id = span.span_context().trace_id();
    (Some(Context::new().with_span(span)), Some(trace_id))
}

/// Ends the span of a call.
pub(super) fn end_server(span: &Context, code: Code) {
    let span = span.span();
    span.set_attribute(KeyValue::new("rpc.response.status_code", name_of(code)));
    // What the caller did wrong is no error of the server.
    let of_server = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if of_server {
        span.set_attribute(KeyValue::new("error.type", name_of(code)));
        span.set_status(Status::error(""));
    }
    span.end();
}

fn start(
    name: impl Into<Cow<'static, str>>,
    kind: SpanKind,
    attributes: Vec<KeyValue>,
    parent: &Context,
) -> Option<Span> {
    let builder = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes);
    Some(TRACER.get()?.build_with_context(builder, parent)).filter(Span::is_recording)
}

/// A span below that of a call; it ends when this is dropped.
pub(crate) struct Recorded(Span);

impl Recorded {
    /// Says more of it.
    pub(crate) fn describe<const N: usize>(&mut self, attributes: [KeyValue; N]) {
        attributes.into_iter().for_each(|attribute| self.0.set_attribute(attribute));
    }

    /// It failed, in one word.
    pub(crate) fn failed(&mut self, why: &'static str) {
        self.0.set_attribute(KeyValue::new("error.type", why));
        self.0.set_status(Status::error(""));
    }
}

fn below<const N: usize>(
    name: &'static str,
    kind: SpanKind,
    attributes: impl FnOnce() -> [KeyValue; N],
) -> Option<Recorded> {
    super::look(|call| start(name, kind, attributes().to_vec(), call.span.as_ref()?))?.map(Recorded)
}

/// A part of the call that is served here, if the call is recorded.
pub(crate) fn child<const N: usize>(
    name: &'static str,
    attributes: impl FnOnce() -> [KeyValue; N],
) -> Option<Recorded> {
    below(name, SpanKind::Internal, attributes)
}

/// A call to another server on behalf of the call that is served here, if that is recorded.
pub(crate) fn client<const N: usize>(
    name: &'static str,
    attributes: impl FnOnce() -> [KeyValue; N],
) -> Option<Recorded> {
    below(name, SpanKind::Client, attributes)
}

/// An operation on the ledger on behalf of a call that is recorded, as the batch that it goes in knows it.
#[derive(Debug)]
pub(crate) struct Operation {
    span: SpanContext,
    batch: OnceLock<SpanContext>,
}

impl Operation {
    /// It queues now. The span ends when it is dropped.
    pub(crate) fn begin(kind: &'static str, lease: &str) -> Option<(Recorded, Arc<Self>)> {
        let span = child("keybroker.ledger.operation", || {
            let lease = KeyValue::new("keybroker.ledger.lease", lease.to_owned());
            [KeyValue::new("keybroker.ledger.operation", kind), lease]
        })?;
        let operation = Self { span: span.0.span_context().clone(), batch: OnceLock::new() };
        Some((span, Arc::new(operation)))
    }

    /// It was answered.
    pub(crate) fn end(&self, mut span: Recorded) {
        if let Some(batch) = self.batch.get() {
            span.0.add_link(batch.clone(), Vec::new());
        }
    }
}

/// One call to the ledger for many operations.
pub(crate) struct Batch(Arc<Call>);

impl Batch {
    /// It begins. It is recorded if one of its operations is.
    pub(crate) fn begin(
        operations: &[&Arc<Operation>],
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Option<Self> {
        let first = operations.first()?;
        let links =
            operations.iter().map(|operation| Link::new(operation.span.clone(), Vec::new(), 0)).collect();
        let builder = SpanBuilder::from_name("keybroker.ledger.batch")
            .with_kind(SpanKind::Internal)
            .with_attributes(attributes())
            .with_links(links);
        // Whether the first is recorded is decided: it has a span.
        let parent = Context::new().with_remote_span_context(first.span.clone());
        let span = TRACER.get()?.build_with_context(builder, &parent);
        let batch = Self(Call::of_span(Context::new().with_span(span)));
        for operation in operations {
            if let Some(context) = batch.0.span_context() {
                // An operation goes in one batch.
                let _ = operation.batch.set(context);
            }
        }
        Some(batch)
    }

    /// As what serves it finds it.
    pub(crate) fn call(&self) -> Arc<Call> {
        self.0.clone()
    }

    /// It ended.
    pub(crate) fn end(self, outcome: &'static str) {
        if let Some(span) = &self.0.span {
            let span = span.span();
            span.set_attribute(KeyValue::new("keybroker.outcome", outcome));
            if outcome != "ok" {
                span.set_status(Status::error(""));
            }
            span.end();
        }
    }
}
