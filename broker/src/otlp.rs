//! The collector of OpenTelemetry that the environment names, and what it is told of this process.

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;

/// What this process is called where the environment has no name for it.
const SERVICE: &str = "keybroker";
/// What the SDK calls a process without a name begins with this.
const NO_NAME: &str = "unknown_service";

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// What is counted.
    Metrics,
    /// What happened in calls.
    Traces,
}

/// Something cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotExport(pub(crate) String);

impl CannotExport {
    /// The collector that a variable names cannot be meant.
    pub(crate) fn to(variable: &str, error: &impl std::fmt::Display) -> Self {
        Self(format!("{variable} names no collector that speaks OTLP by gRPC: {error}"))
    }
}

fn said(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Whether nothing is to be counted or traced at all: `OTEL_SDK_DISABLED`.
pub(crate) fn is_disabled() -> bool {
    said("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The variable that names the collector of a signal; none where it is exported to nobody.
pub(crate) fn endpoint(signal: Signal) -> Option<&'static str> {
    let (exporter, own) = match signal {
        Signal::Metrics => ("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
        Signal::Traces => ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
    };
    if is_disabled() || said(exporter).is_some_and(|value| value.eq_ignore_ascii_case("none")) {
        return None;
    }
    [own, "OTEL_EXPORTER_OTLP_ENDPOINT"].into_iter().find(|variable| said(variable).is_some())
}

/// A number that a variable holds, from 0 to 1.
///
/// # Errors
/// If it holds something else.
pub(crate) fn ratio(variable: &str) -> Result<Option<f64>, CannotExport> {
    let Some(text) = said(variable) else { return Ok(None) };
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio
        .map(Some)
        .ok_or_else(|| CannotExport(format!("{variable} is not a ratio; write 0 to 1, such as 0.05")))
}

/// This process: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come first.
pub(crate) fn resource() -> Resource {
    let written = Resource::builder().build();
    let own = |name: &'static str, value: String| {
        let known = written.get(&Key::from_static_str(name));
        let named = known.is_some_and(|known| !known.as_str().starts_with(NO_NAME));
        (!named).then(|| KeyValue::new(name, value))
    };
    let attributes = [
        own("service.name", SERVICE.to_owned()),
        own("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        // Brokers of a fleet are told apart by it.
        own("service.instance.id", format!("{:032x}", rand::random::<u128>())),
    ];
    Resource::builder().with_attributes(attributes.into_iter().flatten()).build()
}
