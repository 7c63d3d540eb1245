//! An answer that arrives in pieces: what is known of it so far, and the lease that it reports however it ends.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

use super::{
    error::GoogleError,
    exchange::{Answered, Failure, describe, report, transport_kind},
    types::GenerateContentResponse,
};
use crate::{
    lease::Lease,
    outcome::{Outcome, TransportKind, Usage},
    renew::AutoRenew,
};

/// An answer of which the head has come.
pub(crate) struct Underway {
    /// Gone once it is reported.
    lease: Option<Lease>,
    renewal: Option<AutoRenew>,
    status: u16,
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, reqwest::Error>> + Send>>,
    usage: Usage,
    finished: bool,
    deadline: Instant,
    idle: Duration,
}

/// What reading on brought.
pub(crate) enum Piece {
    Bytes(Bytes),
    End,
    Broken(Break),
}

/// Why no more comes, for the report and for people.
pub(crate) struct Break {
    pub(crate) kind: TransportKind,
    pub(crate) message: String,
}

impl Break {
    pub(crate) fn reset(message: impl Into<String>) -> Self {
        Self { kind: TransportKind::Reset, message: message.into() }
    }
}

impl Underway {
    /// An answer that must be complete by the deadline and may pause for so long.
    pub(crate) fn new(answered: Answered, (deadline, idle): (Instant, Duration)) -> Self {
        let Answered { lease, renewal, response, .. } = answered;
        Self {
            lease: Some(lease),
            renewal: Some(renewal),
            status: response.status().as_u16(),
            bytes: Box::pin(response.bytes_stream()),
            usage: Usage::default(),
            finished: false,
            deadline,
            idle,
        }
    }

    /// Whether its lease is still to be reported.
    pub(crate) fn is_open(&self) -> bool {
        self.lease.is_some()
    }

    /// Whether a reason was named for which the answer ends.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The next piece, which must come within this limit.
    pub(crate) async fn first(&mut self, limit: Duration) -> Piece {
        self.read(limit, "no event in").await
    }

    /// The next piece, which must come within the pause that is allowed, and before the deadline.
    pub(crate) async fn next(&mut self) -> Piece {
        let limit = self.idle.min(self.deadline.saturating_duration_since(Instant::now()));
        self.read(limit, "nothing came for").await
    }

    async fn read(&mut self, limit: Duration, late: &str) -> Piece {
        match timeout(limit, self.bytes.next()).await {
            Ok(Some(Ok(bytes))) => Piece::Bytes(bytes),
            Ok(Some(Err(error))) => {
                Piece::Broken(Break { kind: transport_kind(&error), message: describe(error) })
            }
            Ok(None) => Piece::End,
            Err(_) => {
                Piece::Broken(Break { kind: TransportKind::Timeout, message: format!("{late} {limit:?}") })
            }
        }
    }

    /// Takes in what an event says of the whole.
    pub(crate) fn take_in(&mut self, event: &GenerateContentResponse) {
        if let Some(usage) = &event.usage_metadata {
            self.usage = usage.into();
        }
        self.finished |= event.finish_reason().is_some();
    }

    /// Takes in usage that came in another form.
    pub(crate) fn take_in_usage(&mut self, usage: Usage) {
        self.usage = usage;
    }

    /// Reports that it is complete.
    pub(crate) async fn succeed(&mut self) {
        let usage = self.usage;
        report(self.lease(), Outcome::Success(usage)).await;
    }

    /// It holds an error of Google's.
    pub(crate) fn fail(&mut self, google: &GoogleError, body: Bytes) -> Failure {
        Failure::embedded(self.lease(), self.status, google, body)
    }

    /// It broke off.
    pub(crate) fn cut(&mut self, Break { kind, message }: Break) -> Failure {
        let usage = self.usage;
        Failure::transport(self.lease(), kind, message).with_usage(usage)
    }

    fn lease(&mut self) -> Lease {
        self.renewal = None;
        self.lease.take().expect("an answer ends once, and holds its lease until then")
    }
}

impl Drop for Underway {
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
