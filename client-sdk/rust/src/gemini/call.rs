//! One call: leases, tries and waits, as the broker advises.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Client, header::HeaderValue};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{
    builder::Settings,
    error::GeminiError,
    exchange::{self, Failure, Unanswered},
    stream::GenerateContentStream,
};
use crate::{
    acquire::AcquireOptions,
    advice::{Action, Advice},
    backoff,
    error::Error,
    lease::{Lease, SendWindowPassed, Settlement},
    outcome::Outcome,
    wire,
};

/// A refusal whose time has come already is not answered at once, or the two would spin.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

/// Whether the answer is one body or a stream of events.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Unary,
    Stream,
}

/// A successful answer.
pub(crate) enum Answer {
    Body(Bytes),
    Stream(GenerateContentStream),
}

/// One call of the caller's, which may take several requests.
pub(crate) struct Call {
    pub(crate) settings: Arc<Settings>,
    pub(crate) http: Client,
    pub(crate) url: String,
    pub(crate) body: Bytes,
    pub(crate) mode: Mode,
    pub(crate) deadline: Instant,
    options: AcquireOptions,
}

/// What a call has gone through so far.
#[derive(Default)]
struct Progress {
    /// Requests sent.
    tries: u32,
    /// Leases that came too late to be used.
    missed: u32,
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

impl Call {
    pub(crate) fn new(
        settings: &Arc<Settings>,
        model: &str,
        method: &str,
        body: &Value,
        permits: i32,
        mode: Mode,
    ) -> Result<Self, GeminiError> {
        let invalid = |message: String| GeminiError::InvalidRequest { message };
        if !fits_in_path(model) || !fits_in_path(method) {
            return Err(invalid(format!("{model:?} and {method:?} must be a model and a method")));
        }
        let query = if mode == Mode::Stream { "?alt=sse" } else { "" };
        let url =
            format!("{}/{}/{}:{method}{query}", settings.base_url, settings.api_version, resource(model),);
        let bytes = serde_json::to_vec(body).map_err(|error| invalid(error.to_string()))?;
        let http = settings.http.clone().ok_or_else(|| invalid("the client is not built".to_owned()))?;
        let options = AcquireOptions {
            model: model.to_owned(),
            pool: settings.pool.clone(),
            consumer: settings.consumer.clone(),
            project: settings.project.clone(),
            tier: Some(settings.tier),
            labels: settings.labels.clone(),
            ttl: settings.lease_ttl,
            permits: Some(permits),
            input_tokens: (settings.estimator.0)(body).max(0),
            ..AcquireOptions::default()
        };
        let deadline = wire::instant_after(Instant::now(), settings.deadline);
        Ok(Self { settings: Arc::clone(settings), http, url, body: bytes.into(), mode, deadline, options })
    }

    pub(crate) async fn run(&self) -> Result<Answer, GeminiError> {
        let mut progress = Progress::default();
        let mut unused = None;
        loop {
            let mut lease = match self.lease(&mut progress, unused.take()).await {
                Ok(lease) => lease,
                Err(error) => return Err(progress.last.unwrap_or(error)),
            };
            let key = match lease.begin_send() {
                Ok(key) => HeaderValue::from_str(key.expose_secret()),
                Err(passed) => {
                    unused = Some(self.give_back(lease, passed, &mut progress)?);
                    continue;
                }
            };
            let Ok(mut key) = key else {
                lease.report_in_background(Outcome::NotSent);
                let message = "the leased key cannot be sent in a header".to_owned();
                return Err(Error::Contract { message }.into());
            };
            key.set_sensitive(true);
            progress.tries += 1;
            match exchange::send(self, lease, key).await {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Failed(failure)) => self.obey(*failure, &mut progress).await?,
                Err(Unanswered::Missed(lease, passed)) => {
                    progress.tries -= 1;
                    unused = Some(self.give_back(lease, passed, &mut progress)?);
                }
            }
        }
    }

    /// A lease that came too late to be used is given back along with the next question; too many
    /// of them are an error.
    fn give_back(
        &self,
        lease: Lease,
        passed: SendWindowPassed,
        progress: &mut Progress,
    ) -> Result<Settlement, GeminiError> {
        progress.missed += 1;
        if progress.missed < self.settings.attempts.get() {
            return Ok(lease.settle(Outcome::NotSent));
        }
        lease.report_in_background(Outcome::NotSent);
        Err(progress.last.take().unwrap_or(GeminiError::Broker(passed.into())))
    }

    /// Reports a failure and does what the broker advises: `Ok` to try again.
    async fn obey(&self, failure: Failure, progress: &mut Progress) -> Result<(), GeminiError> {
        let key_id = failure.lease.key_id().to_owned();
        let report = failure.lease.report(failure.outcome);
        // Without advice there is nothing to obey, so the failure is final; it stays reported.
        let advice: Option<Advice> = timeout(self.remaining(), report).await.ok().and_then(Result::ok);
        let action = advice.as_ref().map(|advice| advice.action);
        let once = advice.as_ref().is_some_and(|advice| advice.once);
        let error = failure.error.reported(advice, progress.tries);
        if progress.tries >= self.settings.attempts.get() || progress.last_try {
            return Err(error);
        }
        progress.last_try = once;
        let wait = match action {
            Some(Action::RetryOtherKey) => {
                progress.excluded.push(key_id);
                Duration::ZERO
            }
            Some(Action::RetryAfter(Some(named))) => backoff::spread(named),
            Some(Action::RetryAfter(None)) => self.settings.backoff.wait(progress.tries - 1),
            // Done after a failure means that the broker sees nothing left to do about it.
            Some(Action::Done | Action::DoNotRetry) | None => return Err(error),
        };
        if wait >= self.remaining() {
            return Err(error);
        }
        sleep(wait).await;
        progress.last = Some(error);
        Ok(())
    }

    /// Takes a lease, waiting after refusals for as long as the caller allows.
    async fn lease(
        &self,
        progress: &mut Progress,
        mut unused: Option<Settlement>,
    ) -> Result<Lease, GeminiError> {
        loop {
            let remaining = self.remaining();
            let mut options = self.options.clone().wait(self.settings.lease_wait.min(remaining));
            options.exclude_keys.clone_from(&progress.excluded);
            let broker = &self.settings.broker;
            let taken = timeout(remaining, async {
                match unused.take() {
                    Some(earlier) => broker.acquire_settling(options, earlier).await.map(|s| s.lease),
                    None => broker.acquire(options).await,
                }
            });
            let error = match taken.await {
                Ok(Ok(lease)) => return Ok(lease),
                Ok(Err(error)) => error,
                Err(_) => return Err(GeminiError::DeadlineExceeded { within: self.settings.deadline }),
            };
            let wait = match &error {
                // Exact: before it nothing is to be had, and after it somebody else is served first.
                Error::Refused(refusal) => refusal.retry_after.max(SHORTEST_WAIT),
                // An Acquire whose answer was lost may have been granted. Trying again then costs at
                // most a charge that expires by itself, never more than the quota; the tries are few.
                Error::Unavailable { .. } | Error::DeadlineExceeded { .. }
                    if progress.unreachable + 1 < self.settings.attempts.get() =>
                {
                    progress.unreachable += 1;
                    let backoff = self.settings.backoff.wait(progress.unreachable - 1);
                    error.retry_after().unwrap_or(backoff)
                }
                _ => return Err(error.into()),
            };
            if wait > self.settings.max_wait.saturating_sub(progress.waited) || wait >= self.remaining() {
                return Err(error.into());
            }
            progress.waited += wait;
            sleep(wait).await;
        }
    }

    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The path of a model: a bare id is one of Google's own.
pub(crate) fn resource(model: &str) -> String {
    if model.contains('/') { model.to_owned() } else { format!("models/{model}") }
}

/// A name from the outside must not reach beyond its place in the URL.
fn fits_in_path(name: &str) -> bool {
    !name.is_empty()
        && !name.split('/').any(|part| part.is_empty() || part == "." || part == "..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._@/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_bare_or_in_full() {
        assert_eq!(resource("gemini-2.5-flash"), "models/gemini-2.5-flash");
        assert_eq!(resource("models/gemini-2.5-flash"), "models/gemini-2.5-flash");
        assert_eq!(resource("tunedModels/mine"), "tunedModels/mine");
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_url() {
        for name in ["", "a?key=b", "../files", "models/../x", "a#b", "a b", "a:b", "/a", "a%2e"] {
            assert!(!fits_in_path(name), "{name}");
        }
        assert!(fits_in_path("gemini-2.5-flash-preview_05@001"));
    }
}
