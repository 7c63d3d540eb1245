//! Turning what was decided about a call into bytes on its connection.

use std::convert::Infallible;
use std::io;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::bodies::ErrorBody;
use super::connection::Line;

const JSON: &str = "application/json; charset=UTF-8";

/// What a caller gets.
#[derive(Debug)]
pub(crate) enum Answer {
    Json(Value),
    Pieces {
        pieces: Vec<Value>,
        sse: bool,
    },
    Error(ErrorBody),
    /// An error in the form a stream without SSE gives it: the only element of an array.
    ErrorInArray(ErrorBody),
    /// The pieces, then an error object.
    PiecesThenError {
        pieces: Vec<Value>,
        error: ErrorBody,
        sse: bool,
    },
    /// The answer breaks off in its middle.
    Broken(Box<Answer>),
    Hang,
    Reset,
}

/// Sends an answer, or withholds it for good.
pub(crate) async fn send(answer: Answer, line: &Line) -> Response {
    match answer {
        Answer::Hang => std::future::pending().await,
        Answer::Reset => {
            line.cut();
            // The connection goes away under this call, which must not answer meanwhile.
            std::future::pending().await
        }
        Answer::Broken(answer) => {
            let (content_type, frames) = frames(*answer);
            respond(200, content_type, broken_body(frames))
        }
        Answer::Json(value) => respond(200, JSON, Body::from(value.to_string())),
        Answer::Error(error) => respond(error.status, error.content_type, Body::from(error.text)),
        Answer::ErrorInArray(error) => {
            // A front end's page is no JSON and stays as it is.
            let text = if error.content_type == JSON { format!("[{}\n]\n", error.text) } else { error.text };
            respond(error.status, error.content_type, Body::from(text))
        }
        stream => {
            let (content_type, frames) = frames(stream);
            let frames = futures_util::stream::iter(frames).then(|frame| async {
                // Lets each frame go out by itself, as a model's pieces would.
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(Bytes::from(frame))
            });
            respond(200, content_type, Body::from_stream(frames))
        }
    }
}

fn respond(status: u16, content_type: &'static str, body: Body) -> Response {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        .body(body)
        .expect("statuses are checked where rules come in, and content types are literals")
}

/// The content type of an answer and the frames its body is sent in.
fn frames(answer: Answer) -> (&'static str, Vec<String>) {
    match answer {
        Answer::Pieces { pieces, sse } => framed(pieces.iter().map(Value::to_string), sse),
        Answer::PiecesThenError { pieces, error, sse } => {
            framed(pieces.iter().map(Value::to_string).chain([error.text]), sse)
        }
        Answer::Json(value) => (JSON, vec![value.to_string()]),
        Answer::Error(error) | Answer::ErrorInArray(error) => (JSON, vec![error.text]),
        Answer::Broken(_) | Answer::Hang | Answer::Reset => (JSON, Vec::new()),
    }
}

/// Server-sent events, or the elements of one JSON array.
fn framed(pieces: impl Iterator<Item = String>, sse: bool) -> (&'static str, Vec<String>) {
    if sse {
        return ("text/event-stream", pieces.map(|piece| format!("data: {piece}\r\n\r\n")).collect());
    }
    let mut frames: Vec<String> = pieces
        .enumerate()
        .map(|(at, piece)| format!("{}{piece}", if at == 0 { "[" } else { ",\r\n" }))
        .collect();
    frames.push("\n]\n".to_owned());
    (JSON, frames)
}

/// The first half of the frames (at least one; of a single frame, half its text), and then a failure, on
/// which the server closes the connection in the middle of the body.
fn broken_body(frames: Vec<String>) -> Body {
    let mut frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
    match frames.as_mut_slice() {
        [only] => only.truncate(only.len() / 2),
        several => {
            let half = (several.len() / 2).max(1);
            frames.truncate(half);
        }
    }
    let body = async_stream::stream! {
        for frame in frames {
            yield Ok(frame);
        }
        // The server flushes what it has while the body makes it wait; only then may the body fail.
        tokio::task::yield_now().await;
        yield Err(io::Error::from(io::ErrorKind::ConnectionReset));
    };
    Body::from_stream(body)
}
