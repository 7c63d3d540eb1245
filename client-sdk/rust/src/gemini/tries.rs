//! The tries of one call: leases, waits, and what the broker advises.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use tokio::time::{sleep, timeout};

use super::{builder::Settings, error::GeminiError, exchange::Failure, fallback::FallbackKey};
use crate::{
    acquire::AcquireOptions,
    advice::{Action, Advice},
    backoff,
    error::Error,
    lease::{Lease, SendWindowPassed, Settlement},
    outcome::Outcome,
};

/// A refusal whose time has come already is not answered at once, or the two would spin.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

/// What a call may do, and what it has gone through so far.
pub(crate) struct Tries {
    settings: Arc<Settings>,
    options: AcquireOptions,
    deadline: Instant,
    /// Requests sent.
    sent: u32,
    /// Leases that came too late to be used.
    late: u32,
    /// The last of them, given back along with the next question.
    unused: Option<Settlement>,
    /// Acquires that failed without a refusal.
    unreachable: u32,
    /// Time spent on waits after refusals.
    waited: Duration,
    /// Keys that failed this request.
    excluded: Vec<String>,
    /// Whether the broker allowed only one more try.
    last_try: bool,
    /// The last failure of a request, which says more than a refusal that follows it.
    last: Option<GeminiError>,
}

impl Tries {
    pub(crate) fn new(settings: &Arc<Settings>, options: AcquireOptions, deadline: Instant) -> Self {
        Self {
            settings: Arc::clone(settings),
            options,
            deadline,
            sent: 0,
            late: 0,
            unused: None,
            unreachable: 0,
            waited: Duration::ZERO,
            excluded: Vec::new(),
            last_try: false,
            last: None,
        }
    }

    /// A lease that may be used now, and its key.
    pub(crate) async fn ready(&mut self) -> Result<(Lease, HeaderValue), GeminiError> {
        loop {
            let mut lease = match self.lease().await {
                Ok(lease) => lease,
                Err(error) => match self.fallback(&error).await {
                    Some(lease) => lease,
                    None => return Err(self.last.take().unwrap_or(error)),
                },
            };
            let key = match lease.begin_send() {
                Ok(key) => HeaderValue::from_str(key.expose_secret()),
                Err(passed) => {
                    self.give_back(lease, passed)?;
                    continue;
                }
            };
            let Ok(mut key) = key else {
                lease.report_in_background(Outcome::NotSent);
                let message = "the leased key cannot be sent in a header".to_owned();
                return Err(Error::Contract { message }.into());
            };
            key.set_sensitive(true);
            self.sent += 1;
            return Ok((lease, key));
        }
    }

    /// What stands in for a lease that cannot be had: a key of the caller's own.
    async fn fallback(&self, error: &GeminiError) -> Option<Lease> {
        let FallbackKey(ask) = self.settings.fallback_key.as_ref()?;
        if !error.calls_for_fallback() {
            return None;
        }
        let key = timeout(self.remaining(), ask(error)).await.ok()??;
        Some(Lease::of_fallback(&self.settings.broker.shared, key))
    }

    /// A lease that came too late to be used is given back along with the next question; too many
    /// of them are an error.
    fn give_back(&mut self, lease: Lease, passed: SendWindowPassed) -> Result<(), GeminiError> {
        self.late += 1;
        if self.late < self.settings.attempts.get() {
            self.unused = Some(lease.settle(Outcome::NotSent));
            return Ok(());
        }
        lease.report_in_background(Outcome::NotSent);
        Err(self.last.take().unwrap_or(GeminiError::Broker(passed.into())))
    }

    /// The same of a lease for which there was no connection in time.
    pub(crate) fn missed(&mut self, lease: Lease, passed: SendWindowPassed) -> Result<(), GeminiError> {
        self.sent -= 1;
        self.give_back(lease, passed)
    }

    /// Reports a failure and does what the broker advises: `Ok` to try again.
    pub(crate) async fn obey(&mut self, failure: Failure) -> Result<(), GeminiError> {
        let key_id = failure.lease.key_id().to_owned();
        let report = failure.lease.report(failure.outcome);
        // Without advice there is nothing to obey, so the failure is final; it stays reported.
        let advice: Option<Advice> = timeout(self.remaining(), report).await.ok().and_then(Result::ok);
        let action = advice.as_ref().map(|advice| advice.action);
        let once = advice.as_ref().is_some_and(|advice| advice.once);
        let error = failure.error.reported(advice, self.sent);
        if self.sent >= self.settings.attempts.get() || self.last_try {
            return Err(error);
        }
        self.last_try = once;
        let wait = match action {
            Some(Action::RetryOtherKey) => {
                self.excluded.push(key_id);
                Duration::ZERO
            }
            Some(Action::RetryAfter(Some(named))) => backoff::spread(named),
            Some(Action::RetryAfter(None)) => self.settings.backoff.wait(self.sent - 1),
            // Done after a failure means that the broker sees nothing left to do about it.
            Some(Action::Done | Action::DoNotRetry) | None => return Err(error),
        };
        if wait >= self.remaining() {
            return Err(error);
        }
        sleep(wait).await;
        self.last = Some(error);
        Ok(())
    }

    /// Takes a lease, waiting after refusals for as long as the caller allows.
    async fn lease(&mut self) -> Result<Lease, GeminiError> {
        // Says more than that the deadline passed.
        let mut absence: Option<Error> = None;
        loop {
            let remaining = self.remaining();
            let mut options = self.options.clone().wait(self.settings.lease_wait.min(remaining));
            options.exclude_keys.extend_from_slice(&self.excluded);
            let broker = &self.settings.broker;
            let unused = self.unused.take();
            let taken = timeout(remaining, async {
                match unused {
                    Some(earlier) => broker.acquire_settling(options, earlier).await.map(|s| s.lease),
                    None => broker.acquire(options).await,
                }
            });
            let error = match taken.await {
                Ok(Ok(lease)) => return Ok(lease),
                Ok(Err(error)) => error,
                Err(_) => {
                    let passed = GeminiError::DeadlineExceeded { within: self.settings.deadline };
                    return Err(absence.map_or(passed, GeminiError::from));
                }
            };
            let wait = match &error {
                // Exact: before it nothing is to be had, and after it somebody else is served first.
                Error::Refused(refusal) => refusal.retry_after.max(SHORTEST_WAIT),
                // Certainly nothing was handed out.
                Error::Unavailable { answer_lost: false, .. } if self.settings.patient => {
                    self.pause_for_absence(&error)
                }
                // An Acquire whose answer was lost may have been granted. Trying again then costs at
                // most a charge that expires by itself, never more than the quota; the tries are few.
                Error::Unavailable { .. } | Error::DeadlineExceeded { .. }
                    if self.unreachable + 1 < self.settings.attempts.get() =>
                {
                    self.pause_for_absence(&error)
                }
                _ => return Err(error.into()),
            };
            if wait > self.settings.max_wait.saturating_sub(self.waited) || wait >= self.remaining() {
                return Err(error.into());
            }
            self.waited += wait;
            sleep(wait).await;
            absence = matches!(error, Error::Unavailable { answer_lost: false, .. }).then_some(error);
        }
    }

    /// How long to wait before a broker is asked again that was away, or could not serve.
    fn pause_for_absence(&mut self, error: &Error) -> Duration {
        self.unreachable += 1;
        error.retry_after().unwrap_or_else(|| self.settings.backoff.wait(self.unreachable - 1))
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}
