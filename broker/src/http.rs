//! HTTP beside gRPC: probes and the page for anybody, metrics and REST for those who may look.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE},
    middleware::{Next, from_fn, map_response},
    response::{IntoResponse, Response},
    routing::{any, get},
};

use crate::{
    access::{Access, Caller, Denied, Role},
    broker::Broker,
    calls::{self, Call, RequestId},
    grpc::denied,
    metrics::{Export, Standing},
    page,
    rest::{self, Called, Rest},
    server::{LARGEST_REQUEST, Peer},
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
    /// The service `keybroker.v1.Admin`.
    pub rest: Rest,
}

/// `/healthz`: the process runs. `/readyz`: leases can be had. `/metrics`: Prometheus' form, for viewers.
/// `/api/`: the paths of `rest::rotation`. `/v1/`: the service `keybroker.v1.Admin` as JSON. `/`: the page, which asks for all it shows by `/v1/`.
pub fn router(http: Http) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/openapi.json", get(openapi))
        .route("/v1/{*rest}", any(rest))
        .route("/api/{*rest}", any(rest))
        .merge(page::router())
        .layer(map_response(page::protect))
        .layer(from_fn(identify))
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
        .with_state(Arc::new(http))
}

/// Every request has an id, which the calls of gRPC that it becomes share.
async fn identify(mut request: Request, next: Next) -> Response {
    let call = Call::of_http(request.headers());
    let id = call.id().map(RequestId::header);
    if let Some(id) = id.clone() {
        request.headers_mut().insert(RequestId::HEADER, id);
    }
    let mut answer = calls::within(Some(call), next.run(request)).await;
    if let Some(id) = id {
        answer.headers_mut().insert(RequestId::HEADER, id);
    }
    answer
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
    if let Err(status) = rest::refuse_pointed_names(&http.access, &headers, Called::ByOneWordToo) {
        return rest::errors::answer(&status);
    }
    let caller = match may_look(&http.access, &headers, &peer) {
        Ok(caller) => caller,
        Err(why) => return rest::errors::answer(&denied(&why)),
    };
    let Some(export) = &http.export else { return StatusCode::NOT_FOUND.into_response() };
    http.standing.refresh().await;
    match export.render(|pool| caller.uses_pool(pool)) {
        Ok((text, content_type)) => ([(CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be shown");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn openapi(State(http): State<Arc<Http>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], http.rest.document()).into_response()
}

async fn rest(
    State(http): State<Arc<Http>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    http.rest.serve(&method, &uri, &headers, &peer, &body).await
}

fn may_look(access: &Access, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Denied> {
    let caller = access.rules().authenticate(headers, peer.certificates.as_deref())?;
    caller.must_have(Role::Viewer)?;
    Ok(caller)
}
