//! HTTP beside gRPC: probes.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, routing::get};

use crate::broker::Broker;

/// `/healthz`: the process runs. `/readyz`: leases can be had.
pub fn router(broker: Arc<Broker>) -> Router {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz)).with_state(broker)
}

async fn readyz(State(broker): State<Arc<Broker>>) -> (StatusCode, String) {
    match broker.readiness().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => {
            tracing::warn!(why, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: see the broker's log\n".to_owned())
        }
    }
}
