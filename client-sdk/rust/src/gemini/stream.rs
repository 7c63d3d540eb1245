//! An answer as a stream of typed events.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::time::timeout;

use super::{
    error::{GeminiError, GoogleError},
    exchange::Failure,
    sse::SseDecoder,
    types::GenerateContentResponse,
    underway::{Break, Piece, Underway},
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

/// A stream under way.
pub(crate) struct Live {
    answer: Underway,
    decoder: SseDecoder,
    ready: VecDeque<GenerateContentResponse>,
}

/// What reading on brought.
enum Read {
    Event(Box<GenerateContentResponse>),
    End,
    Failed(Box<Failure>),
}

impl Live {
    pub(crate) fn new(answer: Underway) -> Self {
        Self { answer, decoder: SseDecoder::default(), ready: VecDeque::new() }
    }

    /// Waits for the first event: until it has come, a failure can still be failed over.
    pub(crate) async fn open(mut self, limit: Duration) -> Result<GenerateContentStream, Failure> {
        match self.read(Some(limit)).await {
            Read::Event(event) => self.ready.push_front(*event),
            Read::End => return Err(self.answer.cut(Break::reset("the stream held no event"))),
            Read::Failed(failure) => return Err(*failure),
        }
        let events =
            stream::unfold(self, |mut live| async move { live.next().await.map(|event| (event, live)) });
        Ok(GenerateContentStream { events: Box::pin(events) })
    }

    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.ready.pop_front() {
            return Some(Ok(event));
        }
        if !self.answer.is_open() {
            return None;
        }
        let failure = match self.read(None).await {
            Read::Event(event) => return Some(Ok(*event)),
            Read::End if self.answer.is_finished() => {
                self.answer.succeed().await;
                return None;
            }
            // The API names a finish reason in the last event, so an end without one is a cut,
            // even where the framing of the transport cannot tell.
            Read::End => self.answer.cut(Break::reset("the stream ended before the answer did")),
            Read::Failed(failure) => *failure,
        };
        let answer = failure.lease.report(failure.outcome);
        let advice = timeout(ADVICE_GRACE, answer).await.ok().and_then(Result::ok);
        Some(Err(failure.error.reported(advice, 1)))
    }

    /// Reads up to the next event. Each piece of bytes has the whole limit; none is that of the answer.
    async fn read(&mut self, limit: Option<Duration>) -> Read {
        loop {
            if let Some(data) = self.decoder.next_event() {
                return self.parse(data);
            }
            let piece = match limit {
                Some(limit) => self.answer.first(limit).await,
                None => self.answer.next().await,
            };
            match piece {
                Piece::Bytes(bytes) => self.decoder.push(&bytes),
                Piece::Broken(cause) => return Read::Failed(Box::new(self.answer.cut(cause))),
                Piece::End => return self.read_end(),
            }
        }
    }

    fn read_end(&mut self) -> Read {
        let rest = std::mem::take(&mut self.decoder).finish();
        if let Some(google) = GoogleError::parse(&rest.stray) {
            return Read::Failed(Box::new(self.answer.fail(&google, rest.stray)));
        }
        match rest.event {
            Some(data) => self.parse(data),
            None => Read::End,
        }
    }

    fn parse(&mut self, data: Bytes) -> Read {
        if let Some(google) = GoogleError::parse(&data) {
            return Read::Failed(Box::new(self.answer.fail(&google, data)));
        }
        match serde_json::from_slice::<GenerateContentResponse>(&data) {
            Ok(event) => {
                self.answer.take_in(&event);
                Read::Event(Box::new(event))
            }
            Err(error) => {
                let cause = Break::reset(format!("an event is not readable ({error})"));
                Read::Failed(Box::new(self.answer.cut(cause)))
            }
        }
    }
}
