//! To whom metrics go: to whoever asks by HTTP in Prometheus' form, and, where the environment names a collector,
//! to it by OTLP.

use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
};
use prometheus::{Encoder, Registry, TextEncoder};

/// The variables that name a collector, as OpenTelemetry has them.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Metrics cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be exported: {0}")]
pub struct CannotExport(String);

/// Exports what is counted from now on.
pub struct Export {
    provider: SdkMeterProvider,
    registry: Registry,
    pushes: bool,
}

impl Export {
    /// Begins. It is to be done before anything counts, within a runtime.
    ///
    /// # Errors
    /// If the collector that the environment names cannot be meant.
    pub fn begin() -> Result<Self, CannotExport> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|error| CannotExport(error.to_string()))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("keybroker").with_attribute(version).build();
        let builder = SdkMeterProvider::builder().with_resource(resource).with_reader(exporter);
        let named = |name: &&str| std::env::var(name).is_ok_and(|value| !value.trim().is_empty());
        let pushes = ENDPOINTS.iter().find(|name| named(name));
        let builder = match pushes {
            None => builder,
            Some(variable) => {
                let exporter = MetricExporter::builder().with_tonic().build();
                let exporter = exporter.map_err(|error| {
                    CannotExport(format!("{variable} names no collector that speaks OTLP by gRPC: {error}"))
                })?;
                builder.with_reader(PeriodicReader::builder(exporter).build())
            }
        };
        let provider = builder.build();
        global::set_meter_provider(provider.clone());
        Ok(Self { provider, registry, pushes: pushes.is_some() })
    }

    /// Whether a collector is told.
    pub fn pushes(&self) -> bool {
        self.pushes
    }

    /// All of it as it stands, and the type of the text.
    ///
    /// # Errors
    /// If it cannot be written as text.
    pub fn render(&self) -> Result<(String, String), CannotExport> {
        let encoder = TextEncoder::new();
        let text = encoder.encode_to_string(&self.registry.gather());
        Ok((text.map_err(|error| CannotExport(error.to_string()))?, encoder.format_type().to_owned()))
    }

    /// Tells the collector what it was not told yet.
    pub fn finish(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::debug!(%error, "the last metrics were not exported");
        }
    }
}
