//! HTTP beside gRPC: probes for anybody, metrics for those who may look.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::{
    access::{Access, Denied, Role},
    broker::Broker,
    metrics::{Export, Standing},
    server::Peer,
};

/// What is served by HTTP, and to whom.
pub struct Http {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Who may look.
    pub access: Access,
    /// What is counted, if it is.
    pub export: Option<Arc<Export>>,
    /// How things stand.
    pub standing: Arc<Standing>,
}

/// `/healthz`: the process runs. `/readyz`: leases can be had. `/metrics`: Prometheus' form, for viewers.
pub fn router(http: Http) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(http))
}

async fn readyz(State(http): State<Arc<Http>>) -> (StatusCode, String) {
    match http.broker.readiness().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => {
            tracing::warn!(why, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: see the broker's log\n".to_owned())
        }
    }
}

async fn metrics(
    State(http): State<Arc<Http>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Response {
    if let Err(why) = may_look(&http.access, &headers, &peer) {
        return refused(&why);
    }
    let Some(export) = &http.export else { return StatusCode::NOT_FOUND.into_response() };
    http.standing.refresh().await;
    match export.render() {
        Ok((text, content_type)) => ([(CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be shown");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn may_look(access: &Access, headers: &HeaderMap, peer: &Peer) -> Result<(), Denied> {
    access.rules().authenticate(headers, peer.certificates.as_deref())?.must_have(Role::Viewer)
}

/// An error in Google's form, as `google.rpc.Status` has it in JSON.
fn refused(why: &Denied) -> Response {
    let (status, name) = match why {
        Denied::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
        Denied::Forbidden(_) => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
    };
    let error = json!({ "code": status.as_u16(), "message": why.to_string(), "status": name });
    (status, Json(json!({ "error": error }))).into_response()
}
