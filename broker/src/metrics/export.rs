//! To whom metrics go: to whoever asks by HTTP in Prometheus' form, and, where the environment names a collector,
//! to it by OTLP.

use opentelemetry::global;
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Encoder, Registry, TextEncoder};

use crate::otlp::{self, CannotExport, Signal};

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
        let builder = SdkMeterProvider::builder().with_resource(otlp::resource()).with_reader(exporter);
        let pushes = otlp::endpoint(Signal::Metrics);
        let builder = match pushes {
            None => builder,
            Some(variable) => {
                let exporter = MetricExporter::builder().with_tonic().build();
                let exporter = exporter.map_err(|error| CannotExport::to(variable, &error))?;
                builder.with_reader(PeriodicReader::builder(exporter).build())
            }
        };
        let provider = builder.build();
        // Without a provider, what counts costs nothing.
        if !otlp::is_disabled() {
            global::set_meter_provider(provider.clone());
        }
        Ok(Self { provider, registry, pushes: pushes.is_some() })
    }

    /// Whether a collector is told.
    pub fn pushes(&self) -> bool {
        self.pushes
    }

    /// All of it as it stands, but for what is counted of pools that are not to be shown, and the type of the text.
    ///
    /// # Errors
    /// If it cannot be written as text.
    pub fn render(&self, shown: impl Fn(&str) -> bool) -> Result<(String, String), CannotExport> {
        let encoder = TextEncoder::new();
        let mut families = self.registry.gather();
        for family in &mut families {
            let mut metrics = family.take_metric();
            metrics.retain(|metric| {
                metric.get_label().iter().all(|label| label.name() != "pool" || shown(label.value()))
            });
            family.set_metric(metrics);
        }
        // A family of none cannot be written.
        families.retain(|family| !family.get_metric().is_empty());
        let text = encoder.encode_to_string(&families);
        Ok((text.map_err(|error| CannotExport(error.to_string()))?, encoder.format_type().to_owned()))
    }

    /// Tells the collector what it was not told yet.
    pub fn finish(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::debug!(%error, "the last metrics were not exported");
        }
    }
}
