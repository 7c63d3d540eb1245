//! An answer that arrives as a stream of events, and reports itself however it ends.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use reqwest::Response;
use tokio::time::timeout;

use super::{
    error::{GeminiError, GoogleError},
    exchange::{Failure, describe, report, transport_kind},
    sse::SseDecoder,
    types::GenerateContentResponse,
};
use crate::{
    lease::Lease,
    outcome::{Outcome, TransportKind, Usage},
    renew::AutoRenew,
};

/// How long an error is held back for the broker's advice on it.
const ADVICE_GRACE: Duration = Duration::from_secs(1);

type Event = Result<GenerateContentResponse, GeminiError>;

/// The events of an answer; an error is the last one.
///
/// Its lease is reported when it ends: a success with the final usage, an error object within the
/// stream, a broken connection, or, when it is dropped before the end, that the caller gave up.
pub struct GenerateContentStream {
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
}

impl GenerateContentStream {
    /// A stream whose only event is this.
    pub(crate) fn of_one(response: GenerateContentResponse) -> Self {
        Self { events: Box::pin(stream::iter([Ok(response)])) }
    }
}

impl Stream for GenerateContentStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.as_mut().poll_next(context)
    }
}

impl fmt::Debug for GenerateContentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenerateContentStream").finish_non_exhaustive()
    }
}

/// A response under way, with the lease it will report.
pub(crate) struct Live {
    /// Gone once it is reported.
    lease: Option<Lease>,
    renewal: Option<AutoRenew>,
    status: u16,
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, reqwest::Error>> + Send>>,
    decoder: SseDecoder,
    ready: VecDeque<GenerateContentResponse>,
    usage: Usage,
    finished: bool,
    deadline: Instant,
    idle: Duration,
}

/// What reading on brought.
enum Read {
    Event(GenerateContentResponse),
    End,
    Failed(Cause),
}

/// Why a stream failed, before it is tied to its lease.
enum Cause {
    Error(GoogleError, Bytes),
    Transport(TransportKind, String),
}

impl Live {
    pub(crate) fn new(
        lease: Lease,
        renewal: AutoRenew,
        response: Response,
        deadline: Instant,
        idle: Duration,
    ) -> Self {
        Self {
            lease: Some(lease),
            renewal: Some(renewal),
            status: response.status().as_u16(),
            bytes: Box::pin(response.bytes_stream()),
            decoder: SseDecoder::default(),
            ready: VecDeque::new(),
            usage: Usage::default(),
            finished: false,
            deadline,
            idle,
        }
    }

    /// Waits for the first event: until it has come, a failure can still be failed over.
    pub(crate) async fn open(mut self, limit: Duration) -> Result<GenerateContentStream, Failure> {
        match self.read(limit).await {
            Read::Event(event) => self.ready.push_front(event),
            Read::End => {
                let cause = Cause::Transport(TransportKind::Reset, "the stream held no event".to_owned());
                return Err(self.fail(cause));
            }
            Read::Failed(cause) => return Err(self.fail(cause)),
        }
        let events =
            stream::unfold(self, |mut live| async move { live.next().await.map(|event| (event, live)) });
        Ok(GenerateContentStream { events: Box::pin(events) })
    }

    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.ready.pop_front() {
            return Some(Ok(event));
        }
        self.lease.as_ref()?;
        let limit = self.idle.min(self.deadline.saturating_duration_since(Instant::now()));
        let cause = match self.read(limit).await {
            Read::Event(event) => return Some(Ok(event)),
            Read::End if self.finished => {
                self.renewal = None;
                report(self.lease.take()?, Outcome::Success(self.usage)).await;
                return None;
            }
            // The API names a finish reason in the last event, so an end without one is a cut,
            // even where the framing of the transport cannot tell.
            Read::End => {
                Cause::Transport(TransportKind::Reset, "the stream ended before the answer did".to_owned())
            }
            Read::Failed(cause) => cause,
        };
        let failure = self.fail(cause);
        let answer = failure.lease.report(failure.outcome);
        let advice = timeout(ADVICE_GRACE, answer).await.ok().and_then(Result::ok);
        Some(Err(failure.error.reported(advice, 1)))
    }

    /// Reads up to the next event. Each piece of bytes has the whole limit.
    async fn read(&mut self, limit: Duration) -> Read {
        loop {
            if let Some(data) = self.decoder.next_event() {
                return self.parse(data);
            }
            match timeout(limit, self.bytes.next()).await {
                Ok(Some(Ok(bytes))) => self.decoder.push(&bytes),
                Ok(Some(Err(error))) => {
                    let kind = transport_kind(&error);
                    return Read::Failed(Cause::Transport(kind, describe(error)));
                }
                Ok(None) => return self.read_end(),
                Err(_) => {
                    let message = format!("no event in {limit:?}");
                    return Read::Failed(Cause::Transport(TransportKind::Timeout, message));
                }
            }
        }
    }

    fn read_end(&mut self) -> Read {
        let rest = std::mem::take(&mut self.decoder).finish();
        if let Some(google) = GoogleError::parse(&rest.stray) {
            return Read::Failed(Cause::Error(google, rest.stray));
        }
        match rest.event {
            Some(data) => self.parse(data),
            None => Read::End,
        }
    }

    fn parse(&mut self, data: Bytes) -> Read {
        if let Some(google) = GoogleError::parse(&data) {
            return Read::Failed(Cause::Error(google, data));
        }
        match serde_json::from_slice::<GenerateContentResponse>(&data) {
            Ok(event) => {
                if let Some(usage) = &event.usage_metadata {
                    self.usage = usage.into();
                }
                self.finished |= event.finish_reason().is_some();
                Read::Event(event)
            }
            Err(error) => {
                let message = format!("an event is not readable ({error})");
                Read::Failed(Cause::Transport(TransportKind::Reset, message))
            }
        }
    }

    fn fail(&mut self, cause: Cause) -> Failure {
        self.renewal = None;
        let lease = self.lease.take().expect("a stream fails once, and holds its lease until then");
        match cause {
            Cause::Error(google, body) => Failure::embedded(lease, self.status, &google, body),
            Cause::Transport(kind, message) => {
                Failure::transport(lease, kind, message).with_usage(self.usage)
            }
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        // A caller may well stop at the finish reason, without asking for the end of the stream.
        let outcome = if self.finished {
            Outcome::Success(self.usage)
        } else {
            let message = "the stream was dropped".to_owned();
            Outcome::TransportError { kind: TransportKind::Cancelled, message, usage: self.usage }
        };
        lease.report_in_background(outcome);
    }
}
