//! The Gemini API on this host: each request is sent with a leased key.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header::HOST},
    response::{IntoResponse, Response},
    routing::get,
};
use keybroker_client::Gemini;
use reqwest::Url;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::{Failure, ProxyArgs, refusal::Refusal, say};

const UPLOAD_URL: &str = "x-goog-upload-url";

struct Proxy {
    gemini: Gemini,
    upstream: Url,
}

pub(super) async fn run(args: &ProxyArgs) -> Result<u8, Failure> {
    if !args.listen.ip().is_loopback() && !args.allow_remote {
        return Err(Failure::with_code(
            format!(
                "--listen {} can be reached from other hosts, and whoever reaches it uses the keys; listen on \
                 127.0.0.1, or say --allow-remote",
                args.listen
            ),
            2,
        ));
    }
    let upstream = Url::parse(&args.upstream)
        .map_err(|error| Failure::with_code(format!("--upstream {:?}: {error}", args.upstream), 2))?;
    let broker = args.lease.connect()?;
    let mut builder = Gemini::builder(&broker)
        .base_url(args.upstream.as_str())
        .pool(&args.lease.pool)
        .default_model(&args.default_model)
        .attempts(args.attempts)
        .deadline(args.deadline)
        .max_wait(args.deadline)
        .lease_wait(args.deadline.min(std::time::Duration::from_secs(600)));
    if let Some(consumer) = &args.lease.consumer {
        builder = builder.consumer(consumer);
    }
    if let Some(tier) = args.lease.tier {
        builder = builder.tier(tier.tier());
    }
    let gemini = builder.build().map_err(|error| Failure::with_code(error, 2))?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Failure::new(format!("cannot listen on {}: {error}; choose another with --listen", args.listen))
    })?;
    let at = listener.local_addr().map_err(Failure::new)?;
    say(&format!("the Gemini API is at http://{at}; give clients that base URL, and any text as their key"));
    let most = usize::try_from(args.max_body.saturating_mul(1024 * 1024)).unwrap_or(usize::MAX);
    let app = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .fallback(forward)
        .layer(DefaultBodyLimit::max(most))
        .with_state(Arc::new(Proxy { gemini, upstream }));
    let mut asked = signal(SignalKind::terminate()).map_err(Failure::new)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(Failure::new)?;
    let ended = async move {
        tokio::select! {
            _ = asked.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    axum::serve(listener, app).with_graceful_shutdown(ended).await.map_err(Failure::new)?;
    broker.close().await.map_err(Failure::new)?;
    Ok(0)
}

async fn forward(
    State(proxy): State<Arc<Proxy>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    match send(&proxy, method, &uri, headers, body).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn send(
    proxy: &Proxy,
    method: Method,
    uri: &Uri,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body.map_err(|error| Refusal::new(error.status(), format!("{error}; see --max-body")))?;
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let url = in_place_of(&proxy.upstream, uri).map_err(|error| bad(format!("the path: {error}")))?;
    let mut request = reqwest::Request::new(method, url);
    let host = headers.get(HOST).cloned();
    *request.headers_mut() = headers;
    *request.body_mut() = Some(body.into());
    let answer = proxy.gemini.execute(request).await?;
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    if let Some(host) = host {
        come_back(&mut headers, &host);
    }
    let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The same path at Google.
fn in_place_of(upstream: &Url, uri: &Uri) -> Result<Url, url::ParseError> {
    let base = upstream.as_str().trim_end_matches('/');
    Url::parse(&format!("{base}{}", uri.path_and_query().map_or("/", |path| path.as_str())))
}

/// An upload goes on where Google says: through this proxy, which knows the key that began it.
fn come_back(headers: &mut HeaderMap, host: &HeaderValue) {
    let url = headers.get(UPLOAD_URL).and_then(|url| Url::parse(url.to_str().ok()?).ok());
    let host = host.to_str().ok();
    if let (Some(url), Some(host)) = (url, host) {
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        if let Ok(here) = HeaderValue::try_from(format!("http://{host}{}{query}", url.path())) {
            headers.insert(UPLOAD_URL, here);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_the_same_at_google() {
        let upstream = Url::parse("https://host/").unwrap();
        let url = in_place_of(&upstream, &Uri::from_static("/v1/models/m:generateContent?alt=sse")).unwrap();
        assert_eq!(url.as_str(), "https://host/v1/models/m:generateContent?alt=sse");
    }

    #[test]
    fn an_upload_goes_on_through_the_proxy() {
        let mut headers = HeaderMap::new();
        headers.insert(UPLOAD_URL, HeaderValue::from_static("https://host/upload/v1beta/files?upload_id=x"));
        come_back(&mut headers, &HeaderValue::from_static("127.0.0.1:8787"));
        assert_eq!(headers[UPLOAD_URL], "http://127.0.0.1:8787/upload/v1beta/files?upload_id=x");
    }
}
