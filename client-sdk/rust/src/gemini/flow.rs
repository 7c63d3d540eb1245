//! An answer that is passed on as it comes, and reports itself however it ends.

use std::{collections::VecDeque, io, pin::Pin, time::Duration, time::Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use reqwest::Response;
use tokio::time::timeout;

use super::{
    error::GoogleError,
    exchange::{Failure, describe, report, transport_kind, usage_of},
    sse::SseDecoder,
    types::GenerateContentResponse,
};
use crate::{
    lease::Lease,
    outcome::{Outcome, TransportKind, Usage},
    renew::AutoRenew,
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

/// An answer under way, with the lease it will report.
pub(crate) struct Flow {
    /// Gone once it is reported.
    lease: Option<Lease>,
    renewal: Option<AutoRenew>,
    status: u16,
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, reqwest::Error>> + Send>>,
    form: Form,
    /// Whether an answer without a finish reason is cut.
    must_finish: bool,
    ready: VecDeque<Bytes>,
    events: usize,
    usage: Usage,
    finished: bool,
    error: Option<(GoogleError, Bytes)>,
    deadline: Instant,
    idle: Duration,
}

/// An answer that failed before its first event, with what came of it.
pub(crate) struct Unopened {
    pub(crate) failure: Failure,
    pub(crate) body: Option<Bytes>,
}

impl Flow {
    pub(crate) fn new(
        lease: Lease,
        renewal: AutoRenew,
        response: Response,
        form: Form,
        must_finish: bool,
        (deadline, idle): (Instant, Duration),
    ) -> Self {
        Self {
            lease: Some(lease),
            renewal: Some(renewal),
            status: response.status().as_u16(),
            bytes: Box::pin(response.bytes_stream()),
            form,
            must_finish,
            ready: VecDeque::new(),
            events: 0,
            usage: Usage::default(),
            finished: false,
            error: None,
            deadline,
            idle,
        }
    }

    /// Waits for the first event, so that an answer that begins with an error can be tried again.
    pub(crate) async fn open(mut self, limit: Duration) -> Result<Self, Box<Unopened>> {
        while matches!(self.form, Form::Events(_)) && self.events == 0 && self.error.is_none() {
            match timeout(limit, self.bytes.next()).await {
                Ok(Some(Ok(bytes))) => {
                    self.look(&bytes);
                    self.ready.push_back(bytes);
                }
                Ok(Some(Err(error))) => return Err(self.unopened(transport_kind(&error), describe(error))),
                Ok(None) => {
                    self.look_at_end();
                    if self.events == 0 && self.error.is_none() {
                        return Err(
                            self.unopened(TransportKind::Reset, "the stream held no event".to_owned())
                        );
                    }
                    break;
                }
                Err(_) => return Err(self.unopened(TransportKind::Timeout, format!("no event in {limit:?}"))),
            }
        }
        match (self.events, self.error.take()) {
            (0, Some((google, body))) => {
                let whole = self.ready.drain(..).flatten().collect::<Vec<u8>>();
                let lease = self.take_lease();
                let failure = Failure::embedded(lease, self.status, &google, body);
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

    fn unopened(&mut self, kind: TransportKind, message: String) -> Box<Unopened> {
        Box::new(Unopened { failure: Failure::transport(self.take_lease(), kind, message), body: None })
    }

    fn take_lease(&mut self) -> Lease {
        self.renewal = None;
        self.lease.take().expect("an answer that is being opened holds its lease")
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(bytes) = self.ready.pop_front() {
            return Some(Ok(bytes));
        }
        self.lease.as_ref()?;
        let limit = self.idle.min(self.deadline.saturating_duration_since(Instant::now()));
        match timeout(limit, self.bytes.next()).await {
            Ok(Some(Ok(bytes))) => {
                self.look(&bytes);
                Some(Ok(bytes))
            }
            Ok(Some(Err(error))) => {
                let kind = transport_kind(&error);
                self.broken(kind, describe(error)).await
            }
            Ok(None) => {
                self.look_at_end();
                if self.error.is_none() && self.must_finish && !self.finished {
                    let message = "the stream ended before the answer did".to_owned();
                    return self.broken(TransportKind::Reset, message).await;
                }
                let outcome = match self.error.take() {
                    Some((google, body)) => {
                        Failure::embedded(self.take_lease(), self.status, &google, body).report().await;
                        return None;
                    }
                    None => Outcome::Success(self.usage),
                };
                report(self.take_lease(), outcome).await;
                None
            }
            Err(_) => self.broken(TransportKind::Timeout, format!("nothing came for {limit:?}")).await,
        }
    }

    async fn broken(&mut self, kind: TransportKind, message: String) -> Option<io::Result<Bytes>> {
        let outcome = Outcome::TransportError { kind, message: message.clone(), usage: self.usage };
        report(self.take_lease(), outcome).await;
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
                    answers.iter().for_each(|answer| self.take_in(answer));
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
            Ok(answer) => self.take_in(&answer),
            // Events of other methods: what was used may be there all the same.
            Err(_) => self.usage = usage_of(event).unwrap_or(self.usage),
        }
    }

    fn take_in(&mut self, answer: &GenerateContentResponse) {
        if let Some(usage) = &answer.usage_metadata {
            self.usage = usage.into();
        }
        self.finished |= answer.finish_reason().is_some();
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        // A caller may well stop at the finish reason, without asking for the end of the stream.
        let outcome = if self.finished {
            Outcome::Success(self.usage)
        } else {
            let message = "the answer was not read to its end".to_owned();
            Outcome::TransportError { kind: TransportKind::Cancelled, message, usage: self.usage }
        };
        lease.report_in_background(outcome);
    }
}
