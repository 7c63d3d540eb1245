//! A collector of OpenTelemetry, as a broker finds one: it speaks OTLP by gRPC, and keeps what it is told.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use tonic::{Request, Response, Status, transport::Server};

/// A collector that runs within this process, as long as its runtime does.
#[derive(Debug, Clone)]
pub struct Collector {
    url: String,
    told: Arc<Told>,
}

#[derive(Debug, Default)]
struct Told {
    forgets: bool,
    metrics: Mutex<Vec<ExportMetricsServiceRequest>>,
    traces: Mutex<Vec<ExportTraceServiceRequest>>,
}

impl Collector {
    /// Starts one.
    ///
    /// # Panics
    /// If nothing can be listened on.
    pub async fn start() -> Self {
        Self::start_with(Told::default()).await
    }

    /// Starts one that takes everything and keeps nothing.
    ///
    /// # Panics
    /// If nothing can be listened on.
    pub async fn start_forgetful() -> Self {
        Self::start_with(Told { forgets: true, ..Told::default() }).await
    }

    async fn start_with(told: Told) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("a listener has an address"));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let collector = Self { url, told: Arc::new(told) };
        let server = Server::builder()
            .add_service(MetricsServiceServer::new(collector.clone()))
            .add_service(TraceServiceServer::new(collector.clone()))
            .serve_with_incoming(incoming);
        tokio::spawn(server);
        collector
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it was told of metrics.
    ///
    /// # Panics
    /// If a test panicked meanwhile.
    pub fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        self.told.metrics.lock().expect("no holder of this lock panics").clone()
    }

    /// What it was told of traces.
    ///
    /// # Panics
    /// If a test panicked meanwhile.
    pub fn traces(&self) -> Vec<ExportTraceServiceRequest> {
        self.told.traces.lock().expect("no holder of this lock panics").clone()
    }

    /// All spans that it was told of.
    pub fn spans(&self) -> Vec<Span> {
        let resources = self.traces().into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        if !self.told.forgets {
            self.told.metrics.lock().expect("no holder of this lock panics").push(request.into_inner());
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if !self.told.forgets {
            self.told.traces.lock().expect("no holder of this lock panics").push(request.into_inner());
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The text of an attribute; of a number, its digits. Empty if there is none.
pub fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|found| found.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        _ => String::new(),
    }
}
