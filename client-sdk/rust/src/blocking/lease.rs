//! A lease that is reported by calls that wait.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;
use secrecy::SecretString;

use super::runtime::Worker;
use crate::{
    advice::Advice,
    error::Error,
    lease::SendWindowPassed,
    outcome::{Outcome, TransportKind, Usage},
    renew::AutoRenew,
};

/// The right to send one request with one key, as [`crate::Lease`], whose facts (`key_id`, `project`, `send_within`
/// and so on) it shows. Dropped without a report it reports in the background.
#[must_use = "a lease that is dropped is reported as not sent"]
pub struct Lease {
    // Dropped first, so that its report is among those that the end of the worker waits for.
    lease: crate::Lease,
    worker: Arc<Worker>,
}

impl Lease {
    pub(crate) fn new(lease: crate::Lease, worker: Arc<Worker>) -> Self {
        Self { lease, worker }
    }

    /// Marks the request as sent and hands out its key, as [`crate::Lease::begin_send`].
    ///
    /// # Errors
    /// [`SendWindowPassed`]: the request must not be sent with this lease.
    pub fn begin_send(&mut self) -> Result<&SecretString, SendWindowPassed> {
        self.lease.begin_send()
    }

    /// Reports that Gemini answered 2xx without an error.
    ///
    /// # Errors
    /// As for [`report`](Self::report).
    pub fn success(self, usage: Usage) -> Result<Advice, Error> {
        self.report(Outcome::Success(usage))
    }

    /// Reports an error answer: its HTTP status, its body as it came, and a `Retry-After` header.
    ///
    /// # Errors
    /// As for [`report`](Self::report).
    pub fn http_error(
        self,
        status: u16,
        body: impl Into<Bytes>,
        retry_after: Option<Duration>,
    ) -> Result<Advice, Error> {
        self.report(Outcome::HttpError { status, body: body.into(), retry_after })
    }

    /// Reports that no complete answer came.
    ///
    /// # Errors
    /// As for [`report`](Self::report).
    pub fn transport_error(self, kind: TransportKind) -> Result<Advice, Error> {
        self.report(Outcome::transport(kind))
    }

    /// Reports that the request was never sent: all of its charge is refunded.
    ///
    /// # Errors
    /// As for [`report`](Self::report).
    pub fn not_sent(self) -> Result<Advice, Error> {
        self.report(Outcome::NotSent)
    }

    /// Reports any outcome and waits for the advice.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] if no advice came in time, while delivery goes on in the background;
    /// [`Error::ReportLost`] if it was given up; [`Error::WithinRuntime`] in place of the advice, while the report is
    /// on its way.
    pub fn report(self, outcome: Outcome) -> Result<Advice, Error> {
        let Self { lease, worker } = self;
        worker.wait(lease.report(outcome))?
    }

    /// Reports any outcome without waiting for the advice.
    pub fn report_in_background(self, outcome: Outcome) {
        self.lease.report_in_background(outcome);
    }

    /// Extends the lease, as [`crate::Lease::renew`].
    ///
    /// # Errors
    /// As there, and [`Error::WithinRuntime`].
    pub fn renew(&self, ttl: Duration) -> Result<Duration, Error> {
        self.worker.wait(self.lease.renew(ttl))?
    }

    /// Renews the lease to `ttl` in the background for as long as the guard lives.
    pub fn auto_renew(&self, ttl: Duration) -> AutoRenew {
        let _entered = self.worker.enter();
        self.lease.auto_renew(ttl)
    }
}

impl Deref for Lease {
    type Target = crate::Lease;

    fn deref(&self) -> &crate::Lease {
        &self.lease
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lease.fmt(f)
    }
}
