//! Where spans go: by OTLP to the collector that the environment names. Without one nothing is recorded.

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

use super::spans;
use crate::otlp::{self, CannotExport, Signal};

/// Which part of the calls is recorded whose maker says nothing of a trace. A broker serves thousands of calls a
/// second, and each of these would be a trace of its own: one in a hundred shows what calls are made of.
const PART_OF_ROOTS: f64 = 0.01;

/// Exports spans from now on.
pub(crate) struct Export(Option<SdkTracerProvider>);

impl Export {
    /// Begins, within a runtime.
    ///
    /// # Errors
    /// If the collector that the environment names cannot be meant.
    pub(crate) fn begin() -> Result<Self, CannotExport> {
        let Some(variable) = otlp::endpoint(Signal::Traces) else { return Ok(Self(None)) };
        let exporter = SpanExporter::builder().with_tonic().build();
        let exporter = exporter.map_err(|error| CannotExport::to(variable, &error))?;
        // It reads OTEL_TRACES_SAMPLER, OTEL_BSP_* and the limits of spans.
        let mut builder =
            SdkTracerProvider::builder().with_resource(otlp::resource()).with_batch_exporter(exporter);
        let sampler = std::env::var("OTEL_TRACES_SAMPLER").unwrap_or_default();
        let part = match sampler.trim() {
            "" => Some(PART_OF_ROOTS),
            "parentbased_traceidratio" => Some(1.0),
            _ => None,
        };
        let part = match part {
            Some(default) => Some(otlp::ratio("OTEL_TRACES_SAMPLER_ARG")?.unwrap_or(default)),
            None => None,
        };
        if part.is_some() {
            // Which calls are recorded is decided before a span is made: most are not.
            builder = builder.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)));
        }
        let provider = builder.build();
        spans::record_by(provider.tracer("keybroker"), part);
        Ok(Self(Some(provider)))
    }

    /// Sends what was not sent yet.
    pub(crate) fn finish(&self) {
        if let Some(Err(error)) = self.0.as_ref().map(SdkTracerProvider::shutdown) {
            tracing::debug!(%error, "the last spans were not exported");
        }
    }
}
