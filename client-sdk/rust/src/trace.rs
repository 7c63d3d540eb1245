//! The OpenTelemetry context, passed on to the broker as W3C's `traceparent` and `tracestate`.
//!
//! Without the feature `otel` nothing is passed on.

#[cfg(not(feature = "otel"))]
use tonic::metadata::MetadataMap;

#[cfg(feature = "otel")]
mod enabled {
    use std::future::Future;

    use opentelemetry::{Context, context::FutureExt, trace::TraceContextExt};
    use tonic::metadata::MetadataMap;

    /// Adds the current context, if there is a span in it.
    ///
    /// It is written here because propagators are no part of OpenTelemetry's API, and the global one passes nothing
    /// on until a program installs one.
    pub(crate) fn inject(metadata: &mut MetadataMap) {
        let context = Context::current();
        let span = context.span();
        let span = span.span_context();
        if !span.is_valid() {
            return;
        }
        let parent =
            format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8() & 1);
        for (name, value) in [("traceparent", parent), ("tracestate", span.trace_state().header())] {
            if let Some(value) = value.parse().ok().filter(|_| !value.is_empty()) {
                metadata.insert(name, value);
            }
        }
    }

    /// The future with the context in which this is called.
    pub(crate) fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
        future.with_current_context()
    }
}

#[cfg(feature = "otel")]
pub(crate) use enabled::{carry, inject};

#[cfg(not(feature = "otel"))]
pub(crate) fn inject(_: &mut MetadataMap) {}

#[cfg(not(feature = "otel"))]
pub(crate) fn carry<F: std::future::Future>(future: F) -> F {
    future
}
