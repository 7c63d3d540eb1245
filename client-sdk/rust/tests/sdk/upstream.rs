//! An upstream that records every request and answers by a script.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Request, Response, StatusCode},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use keybroker_client::{Gemini, GeminiBuilder};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

use crate::broker::MockBroker;

/// What the next request is answered.
pub(crate) enum Reply {
    Json(u16, Value),
    Text(u16, &'static str),
    /// A good answer of this type.
    Typed(&'static str, String),
    /// A stream: each piece is sent by itself.
    Pieces(Vec<Piece>),
    /// No answer at all.
    Silence,
}

/// A piece of a stream.
pub(crate) enum Piece {
    Bytes(String),
    Pause(Duration),
    /// The connection breaks here.
    Cut,
}

impl Piece {
    pub(crate) fn event(value: &Value) -> Self {
        Self::Bytes(format!("data: {value}\r\n\r\n"))
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Seen {
    pub(crate) fn key(&self) -> &str {
        self.headers.get("x-goog-api-key").expect("a request has a key").to_str().expect("a key is text")
    }
}

#[derive(Clone, Default)]
struct Script {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Upstream {
    script: Script,
    pub(crate) url: String,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let script = Script::default();
        let router = Router::new().fallback(answer).with_state(script.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { script, url }
    }

    pub(crate) fn will(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.script.replies).extend(replies);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.script.seen).clone()
    }

    pub(crate) fn client(&self, broker: &MockBroker) -> GeminiBuilder {
        Gemini::builder(&broker.client())
            .base_url(&self.url)
            .backoff(Duration::from_millis(10), Duration::from_millis(50))
    }
}

async fn answer(State(script): State<Script>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    lock(&script.seen).push(Seen { target: head.uri.to_string(), headers: head.headers, body });
    let reply = lock(&script.replies).pop_front();
    let mut kind = None;
    let (status, body) = match reply.unwrap_or_else(|| Reply::Json(200, answer_of("hello"))) {
        Reply::Json(status, value) => (status, Body::from(value.to_string())),
        Reply::Text(status, text) => (status, Body::from(text)),
        Reply::Typed(typed, text) => {
            kind = Some(typed);
            (200, Body::from(text))
        }
        Reply::Pieces(pieces) => (200, Body::from_stream(stream::iter(pieces).filter_map(send))),
        Reply::Silence => {
            sleep(Duration::from_secs(60)).await;
            (204, Body::empty())
        }
    };
    let mut response = Response::new(body);
    if let Some(kind) = kind {
        response.headers_mut().insert("content-type", kind.parse().expect("a script names valid types"));
    }
    *response.status_mut() = StatusCode::from_u16(status).expect("a script names valid statuses");
    Ok(response)
}

async fn send(piece: Piece) -> Option<io::Result<Bytes>> {
    // Without a pause, pieces could travel together and a cut could overtake them.
    sleep(Duration::from_millis(10)).await;
    match piece {
        Piece::Bytes(text) => Some(Ok(text.into())),
        Piece::Cut => Some(Err(io::Error::other("cut"))),
        Piece::Pause(time) => {
            sleep(time).await;
            None
        }
    }
}

/// A whole answer, or the last event of one.
pub(crate) fn answer_of(text: &str) -> Value {
    json!({
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 2, "totalTokenCount": 9},
    })
}

/// An event in the middle of a stream.
pub(crate) fn part_of(text: &str) -> Value {
    json!({
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}}],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 1, "totalTokenCount": 8},
    })
}

pub(crate) fn error_of(code: u16, message: &str) -> Value {
    json!({"error": {"code": code, "message": message, "status": "TESTED"}})
}
