//! Answers that go on, as server-sent events.

use axum::{
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::StreamExt;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use tonic::{Status, Streaming};

use super::{errors, json};

/// By this a reader says what it had last.
const LAST: &str = "last-event-id";

/// Puts what a reader had last into the request, where the call can go on after it.
pub(super) fn resume(request: &mut DynamicMessage, headers: &HeaderMap) {
    let last = headers.get(LAST).and_then(|last| last.to_str().ok());
    if let Some(last) = last
        && request.descriptor().get_field_by_name("after").is_some()
    {
        request.set_field_by_name("after", Value::String(last.to_owned()));
    }
}

/// Each message is an event with its id, if it has one; an error is the last, of the type `error`.
pub(super) fn answer(messages: Streaming<DynamicMessage>) -> Response {
    let events = messages.map(|message| {
        let event = message.and_then(|message| event(&message));
        Ok::<_, std::convert::Infallible>(event.unwrap_or_else(|status| error(&status)))
    });
    let mut answer = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    // What stands between must not hold events back.
    answer.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    answer
}

fn event(message: &DynamicMessage) -> Result<Event, Status> {
    let event = Event::default().data(json(message)?.to_string());
    let id = message.get_field_by_name("id").and_then(|id| id.as_str().map(str::to_owned));
    Ok(id.into_iter().fold(event, |event, id| event.id(id)))
}

fn error(status: &Status) -> Event {
    Event::default().event("error").data(errors::body(status).to_string())
}
