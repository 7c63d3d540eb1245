//! The right to send one request with one key, which always reports.

use std::{
    fmt,
    future::Future,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use keybroker_proto::v1::{self, LeaseReport};
use secrecy::SecretString;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    advice::Advice,
    broker::Shared,
    error::Error,
    outcome::{Outcome, TransportKind, Usage},
    renew::{AutoRenew, Expiry},
    reporter::Answer,
    wire,
};

/// The right to send one request (or `permits` of them) with one key.
///
/// Ask for the key with [`begin_send`](Self::begin_send), send, and report with one of
/// [`success`](Self::success), [`http_error`](Self::http_error),
/// [`transport_error`](Self::transport_error) and [`not_sent`](Self::not_sent), which consume the
/// lease. A lease dropped without a report reports in the background: as not sent if
/// `begin_send` was never granted, else as cancelled.
#[must_use = "a lease that is dropped is reported as not sent"]
pub struct Lease {
    shared: Arc<Shared>,
    lease_id: String,
    key_id: String,
    api_key: SecretString,
    project: String,
    quota_model: String,
    permits: i32,
    over_plan: bool,
    send_by: Instant,
    sent_at: Option<Instant>,
    expiry: Arc<Expiry>,
    reported: bool,
    /// Stands for a key that no broker knows of: nothing is reported or renewed.
    is_fallback: bool,
}

/// The lease was held for too long before sending, and must not be used: report it with
/// [`Lease::not_sent`] and acquire another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease should have been used {late_by:?} ago: report it as not sent and acquire another")]
#[non_exhaustive]
pub struct SendWindowPassed {
    /// By how much the window was missed.
    pub late_by: Duration,
}

impl Lease {
    pub(crate) fn new(shared: Arc<Shared>, lease: v1::Lease, asked_at: Instant) -> Self {
        // An absent window is an empty one: a lease that does not say until when it may be used
        // must not be used.
        let send_within = lease.send_within.map_or(Duration::ZERO, wire::from_proto);
        let expires_in = lease.expires_in.map_or(Duration::ZERO, wire::from_proto);
        Self {
            shared,
            lease_id: lease.lease_id,
            key_id: lease.key_id,
            api_key: SecretString::from(lease.api_key),
            project: lease.project,
            quota_model: lease.quota_model,
            permits: lease.permits,
            over_plan: lease.over_plan,
            send_by: wire::instant_after(asked_at, send_within),
            sent_at: None,
            expiry: Arc::new(Expiry::new(wire::instant_after(asked_at, expires_in))),
            reported: false,
            is_fallback: false,
        }
    }

    /// What a request with a key of the caller's own goes out with.
    pub(crate) fn of_fallback(shared: &Arc<Shared>, api_key: SecretString) -> Self {
        let never = wire::instant_after(Instant::now(), Duration::MAX);
        Self {
            shared: Arc::clone(shared),
            lease_id: String::new(),
            key_id: "fallback".to_owned(),
            api_key,
            project: String::new(),
            quota_model: String::new(),
            permits: 1,
            over_plan: false,
            send_by: never,
            sent_at: None,
            expiry: Arc::new(Expiry::new(never)),
            reported: true,
            is_fallback: true,
        }
    }

    /// Marks the request as sent and hands out its key, if there is still time to send it.
    ///
    /// This is the only way to the key, so that nothing can be sent unmarked. Call it right before
    /// sending, once for each request of the lease, and put the key in the header
    /// `x-goog-api-key`, never in a URL.
    ///
    /// # Errors
    /// [`SendWindowPassed`]: `send_within`, counted by a monotonic clock from the sending of
    /// Acquire, has passed. The request must not be sent with this lease.
    pub fn begin_send(&mut self) -> Result<&SecretString, SendWindowPassed> {
        let now = Instant::now();
        if now > self.send_by {
            return Err(SendWindowPassed { late_by: now - self.send_by });
        }
        self.sent_at.get_or_insert(now);
        Ok(&self.api_key)
    }

    /// Until when the request may be sent.
    pub(crate) fn send_by(&self) -> Instant {
        self.send_by
    }

    /// For masking it in what comes back; only `begin_send` hands it out.
    pub(crate) fn key(&self) -> &SecretString {
        &self.api_key
    }

    /// The id of the lease.
    pub fn lease_id(&self) -> &str {
        &self.lease_id
    }

    /// The id of the key, fit for logs.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The project that owns the key.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The family name under which Google counts the model.
    pub fn quota_model(&self) -> &str {
        &self.quota_model
    }

    /// How many requests may be sent.
    pub fn permits(&self) -> i32 {
        self.permits
    }

    /// Whether the request is over the soft plan of its consumer. It may be sent all the same; usage
    /// tells such requests apart.
    ///
    /// ```no_run
    /// # async fn example(broker: keybroker_client::Broker) -> Result<(), keybroker_client::Error> {
    /// # use keybroker_client::AcquireOptions;
    /// let options = AcquireOptions::new("gemini-2.5-flash").consumer("nightly-report");
    /// let lease = broker.acquire(options).await?;
    /// if lease.over_plan() {
    ///     println!("what can wait until tomorrow should");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn over_plan(&self) -> bool {
        self.over_plan
    }

    /// How long there is still to send; zero once it is too late.
    pub fn send_within(&self) -> Duration {
        self.send_by.saturating_duration_since(Instant::now())
    }

    /// How long until the lease expires; zero once it has.
    pub fn expires_in(&self) -> Duration {
        self.expiry.remaining()
    }

    /// Reports that Gemini answered 2xx without an error.
    ///
    /// The report is on its way when this returns, whether or not the future is awaited.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] if no advice came in time, while delivery goes on in the
    /// background; [`Error::ReportLost`] if it was given up.
    pub fn success(self, usage: Usage) -> impl Future<Output = Result<Advice, Error>> + Send + use<> {
        self.report(Outcome::Success(usage))
    }

    /// Reports an error answer: its HTTP status, its body as it came, and a `Retry-After` header.
    ///
    /// # Errors
    /// As for [`success`](Self::success).
    pub fn http_error<B: Into<Bytes>>(
        self,
        status: u16,
        body: B,
        retry_after: Option<Duration>,
    ) -> impl Future<Output = Result<Advice, Error>> + Send + use<B> {
        self.report(Outcome::HttpError { status, body: body.into(), retry_after })
    }

    /// Reports that no complete answer came.
    ///
    /// # Errors
    /// As for [`success`](Self::success).
    pub fn transport_error(
        self,
        kind: TransportKind,
    ) -> impl Future<Output = Result<Advice, Error>> + Send + use<> {
        self.report(Outcome::transport(kind))
    }

    /// Reports that the request was never sent: all of its charge is refunded.
    ///
    /// # Errors
    /// As for [`success`](Self::success).
    pub fn not_sent(self) -> impl Future<Output = Result<Advice, Error>> + Send + use<> {
        self.report(Outcome::NotSent)
    }

    /// Reports any outcome and waits for the advice.
    ///
    /// # Errors
    /// As for [`success`](Self::success).
    pub fn report(mut self, outcome: Outcome) -> impl Future<Output = Result<Advice, Error>> + Send + use<> {
        let within = self.shared.settings.call_timeout;
        let answer = self.submit(outcome);
        async move {
            match timeout(within, answer).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => {
                    Err(Error::ReportLost { message: "the runtime of the client has stopped".to_owned() })
                }
                Err(_) => Err(Error::DeadlineExceeded { within }),
            }
        }
    }

    /// Reports any outcome without waiting for the advice; works in any thread.
    pub fn report_in_background(mut self, outcome: Outcome) {
        drop(self.submit(outcome));
    }

    /// Turns the lease into a report to be sent along with the next
    /// [`acquire_settling`](crate::Broker::acquire_settling).
    pub fn settle(mut self, outcome: Outcome) -> Settlement {
        let report = self.take_report(outcome);
        Settlement { shared: Arc::clone(&self.shared), report: (!self.is_fallback).then_some(report) }
    }

    /// Extends the lease to expire `ttl` from now, 1 second to 1 hour; a lease is never shortened.
    /// Answers how long it now lasts.
    ///
    /// # Errors
    /// [`Error::LeaseEnded`] and [`Error::UnknownLease`] if it is too late, and the general ones.
    pub async fn renew(&self, ttl: Duration) -> Result<Duration, Error> {
        self.expiry.renew(&self.shared.rpc, &self.lease_id, ttl).await
    }

    /// Renews the lease to `ttl` each time half of its remaining time has passed, for as long as
    /// the guard lives: hold it while a long stream runs. Call it within a tokio runtime.
    pub fn auto_renew(&self, ttl: Duration) -> AutoRenew {
        if self.is_fallback {
            return AutoRenew::none();
        }
        AutoRenew::start(Arc::clone(&self.expiry), Arc::clone(&self.shared.rpc), self.lease_id.clone(), ttl)
    }

    fn submit(&mut self, outcome: Outcome) -> Answer {
        if self.is_fallback {
            let (sender, answer) = oneshot::channel();
            drop(sender.send(Ok(Advice::of_nobody())));
            return answer;
        }
        let report = self.take_report(outcome);
        self.shared.reporter().submit(report)
    }

    fn take_report(&mut self, outcome: Outcome) -> LeaseReport {
        self.reported = true;
        LeaseReport {
            lease_id: mem::take(&mut self.lease_id),
            outcome: Some(outcome.into_proto()),
            latency: self.sent_at.map(|sent_at| wire::to_proto(sent_at.elapsed())),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.reported {
            return;
        }
        let outcome = match self.sent_at {
            None => Outcome::NotSent,
            Some(_) => Outcome::TransportError {
                kind: TransportKind::Cancelled,
                message: "the lease was dropped without a report".to_owned(),
                usage: Usage::default(),
            },
        };
        drop(self.submit(outcome));
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("lease_id", &self.lease_id)
            .field("key_id", &self.key_id)
            .field("project", &self.project)
            .field("quota_model", &self.quota_model)
            .field("permits", &self.permits)
            .field("over_plan", &self.over_plan)
            .field("send_within", &self.send_within())
            .field("expires_in", &self.expires_in())
            .field("sent", &self.sent_at.is_some())
            .finish_non_exhaustive()
    }
}

/// The report of a lease, to be sent along with the next Acquire. Dropped without that, it is
/// delivered in the background.
#[must_use = "give it to acquire_settling; dropped, it is reported in the background"]
pub struct Settlement {
    shared: Arc<Shared>,
    report: Option<LeaseReport>,
}

impl Settlement {
    pub(crate) fn report(&self) -> Option<LeaseReport> {
        self.report.clone()
    }

    pub(crate) fn delivered(mut self) {
        self.report = None;
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            drop(self.shared.reporter().submit(report));
        }
    }
}

impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lease_id = self.report.as_ref().map(|report| &report.lease_id);
        f.debug_struct("Settlement").field("lease_id", &lease_id).finish_non_exhaustive()
    }
}
