//! An answer that is passed on as it comes.

use std::{collections::VecDeque, io, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};

use super::{
    error::GoogleError,
    exchange::{Failure, usage_of},
    sse::SseDecoder,
    types::GenerateContentResponse,
    underway::{Break, Piece, Underway},
};

/// Of an answer in one piece of JSON so much is read for what it says, in bytes.
const MOST_JSON: usize = 16 * 1024 * 1024;

/// What an answer consists of.
pub(crate) enum Form {
    /// Server-sent events.
    Events(SseDecoder),
    /// One JSON array whose members come one by one.
    Array(Vec<u8>),
    /// Anything else, such as the content of a file.
    Opaque,
}

/// An answer under way.
pub(crate) struct Flow {
    answer: Underway,
    form: Form,
    /// Whether an answer without a finish reason is cut.
    must_finish: bool,
    ready: VecDeque<Bytes>,
    events: usize,
    error: Option<(GoogleError, Bytes)>,
}

/// An answer that failed before its first event, with what came of it.
pub(crate) struct Unopened {
    pub(crate) failure: Failure,
    pub(crate) body: Option<Bytes>,
}

impl Flow {
    pub(crate) fn new(answer: Underway, form: Form, must_finish: bool) -> Self {
        Self { answer, form, must_finish, ready: VecDeque::new(), events: 0, error: None }
    }

    /// Waits for the first event, so that an answer that begins with an error can be tried again.
    pub(crate) async fn open(mut self, limit: Duration) -> Result<Self, Box<Unopened>> {
        while matches!(self.form, Form::Events(_)) && self.events == 0 && self.error.is_none() {
            match self.answer.first(limit).await {
                Piece::Bytes(bytes) => {
                    self.look(&bytes);
                    self.ready.push_back(bytes);
                }
                Piece::Broken(cause) => return Err(self.unopened(cause)),
                Piece::End => {
                    self.look_at_end();
                    if self.events == 0 && self.error.is_none() {
                        return Err(self.unopened(Break::reset("the stream held no event")));
                    }
                    break;
                }
            }
        }
        match (self.events, self.error.take()) {
            (0, Some((google, body))) => {
                let whole = self.ready.drain(..).flatten().collect::<Vec<u8>>();
                let failure = self.answer.fail(&google, body);
                Err(Box::new(Unopened { failure, body: Some(whole.into()) }))
            }
            (_, error) => {
                self.error = error;
                Ok(self)
            }
        }
    }

    /// What the caller reads.
    pub(crate) fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::unfold(self, |mut flow| async move { flow.next().await.map(|item| (item, flow)) })
    }

    fn unopened(&mut self, cause: Break) -> Box<Unopened> {
        Box::new(Unopened { failure: self.answer.cut(cause), body: None })
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(bytes) = self.ready.pop_front() {
            return Some(Ok(bytes));
        }
        if !self.answer.is_open() {
            return None;
        }
        let cause = match self.answer.next().await {
            Piece::Bytes(bytes) => {
                self.look(&bytes);
                return Some(Ok(bytes));
            }
            Piece::Broken(cause) => cause,
            Piece::End => {
                self.look_at_end();
                match self.error.take() {
                    Some((google, body)) => {
                        self.answer.fail(&google, body).report().await;
                        return None;
                    }
                    None if self.must_finish && !self.answer.is_finished() => {
                        Break::reset("the stream ended before the answer did")
                    }
                    None => {
                        self.answer.succeed().await;
                        return None;
                    }
                }
            }
        };
        let message = cause.message.clone();
        self.answer.cut(cause).report().await;
        Some(Err(io::Error::other(message)))
    }

    fn look(&mut self, bytes: &Bytes) {
        match &mut self.form {
            Form::Events(decoder) => {
                decoder.push(bytes);
                let mut events = Vec::new();
                while let Some(event) = decoder.next_event() {
                    events.push(event);
                }
                events.into_iter().for_each(|event| self.look_at(&event));
            }
            Form::Array(read) if read.len() + bytes.len() <= MOST_JSON => read.extend_from_slice(bytes),
            Form::Array(_) | Form::Opaque => {}
        }
    }

    fn look_at_end(&mut self) {
        match std::mem::replace(&mut self.form, Form::Opaque) {
            Form::Events(decoder) => {
                let rest = decoder.finish();
                if let Some(google) = GoogleError::parse(&rest.stray) {
                    self.error = Some((google, rest.stray));
                } else if let Some(event) = rest.event {
                    self.look_at(&event);
                }
            }
            Form::Array(read) => {
                let read = Bytes::from(read);
                if let Some(google) = GoogleError::parse(&read) {
                    self.error = Some((google, read));
                } else if let Ok(answers) = serde_json::from_slice::<Vec<GenerateContentResponse>>(&read) {
                    answers.iter().for_each(|answer| self.answer.take_in(answer));
                }
            }
            Form::Opaque => {}
        }
    }

    fn look_at(&mut self, event: &Bytes) {
        if let Some(google) = GoogleError::parse(event) {
            self.error = Some((google, event.clone()));
            return;
        }
        self.events += 1;
        match serde_json::from_slice::<GenerateContentResponse>(event) {
            Ok(answer) => self.answer.take_in(&answer),
            // Events of other methods: what was used may be there all the same.
            Err(_) => {
                if let Some(usage) = usage_of(event) {
                    self.answer.take_in_usage(usage);
                }
            }
        }
    }
}
