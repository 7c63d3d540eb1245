//! What is known of a call while it is served: its id, and the span that it is traced by. Whatever serves it finds
//! both here, so they are passed on to nobody.

mod export;
mod request_id;
mod spans;

use std::{future::Future, sync::Arc};

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, TraceContextExt, TraceId},
};

pub(crate) use export::Export;
pub(crate) use request_id::RequestId;
pub(crate) use spans::{Batch, Operation, Recorded, child, client};

tokio::task_local! {
    static CALL: Arc<Call>;
}

/// A call that is served, or a call to the ledger on behalf of many.
#[derive(Debug)]
pub(crate) struct Call {
    id: Option<RequestId>,
    trace_id: Option<TraceId>,
    // Only where it is recorded: nothing that is not costs more than a look here.
    span: Option<Context>,
}

impl Call {
    /// A call of gRPC with these headers begins. It is recorded if whoever makes it records, or by chance.
    pub(crate) fn of_grpc(headers: &HeaderMap, path: &str) -> Arc<Self> {
        let (span, trace_id) = spans::server(spans::remote(headers), path);
        Arc::new(Self { id: Some(RequestId::of(headers)), trace_id, span })
    }

    /// A request of HTTP with these headers begins. What it makes of gRPC is recorded, not this.
    pub(crate) fn of_http(headers: &HeaderMap) -> Arc<Self> {
        let trace_id = spans::remote(headers).map(|remote| remote.span().span_context().trace_id());
        Arc::new(Self { id: Some(RequestId::of(headers)), trace_id, span: None })
    }

    fn of_span(span: Context) -> Arc<Self> {
        let trace_id = Some(span.span().span_context().trace_id());
        Arc::new(Self { id: None, trace_id, span: Some(span) })
    }

    /// Its id.
    pub(crate) fn id(&self) -> Option<&RequestId> {
        self.id.as_ref()
    }

    /// The trace that it is part of, recorded or not.
    pub(crate) fn trace_id(&self) -> Option<TraceId> {
        self.trace_id
    }

    /// The call ended with a status of gRPC.
    pub(crate) fn ended(&self, code: tonic::Code) {
        if let Some(span) = &self.span {
            spans::end_server(span, code);
        }
    }

    fn span_context(&self) -> Option<SpanContext> {
        Some(self.span.as_ref()?.span().span_context().clone())
    }
}

/// The call that is served here.
pub(crate) fn current() -> Option<Arc<Call>> {
    CALL.try_with(Arc::clone).ok()
}

/// Looks at the call that is served here.
pub(crate) fn look<T>(look: impl FnOnce(&Call) -> T) -> Option<T> {
    CALL.try_with(|call| look(call)).ok()
}

/// The future as a part of a call.
pub(crate) async fn within<F: Future>(call: Option<Arc<Call>>, future: F) -> F::Output {
    match call {
        Some(call) => CALL.scope(call, future).await,
        None => future.await,
    }
}

/// Does something at once as a part of a call.
pub(crate) fn at_once<T>(call: &Arc<Call>, act: impl FnOnce() -> T) -> T {
    CALL.sync_scope(call.clone(), act)
}

/// Says more of the call that is served here, if it is recorded.
pub(crate) fn describe<const N: usize>(attributes: impl FnOnce() -> [KeyValue; N]) {
    look(|call| {
        if let Some(span) = &call.span {
            span.span().set_attributes(attributes());
        }
    });
}
