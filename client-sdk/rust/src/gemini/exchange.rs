//! One request with one lease: what is sent, and what its answer is reported as.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use reqwest::{
    Body, Method, Request, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    builder::Settings,
    call::{Answer, Call, Mode},
    error::{GeminiError, GoogleError, UpstreamError},
    sender::{Sender, broken},
    stream::Live,
    types::UsageMetadata,
    underway::{Break, Underway},
};
use crate::{
    lease::{Lease, SendWindowPassed},
    outcome::{Outcome, TransportKind, Usage},
    redact::redact,
    renew::AutoRenew,
};

/// How long an answer is held back until its report has arrived. Delivery goes on after it.
const REPORT_GRACE: Duration = Duration::from_secs(1);

/// A request that failed: its lease, what to report, and what to tell the caller.
pub(crate) struct Failure {
    pub(crate) lease: Lease,
    pub(crate) outcome: Outcome,
    pub(crate) error: GeminiError,
}

impl Failure {
    pub(crate) fn transport(lease: Lease, kind: TransportKind, message: String) -> Self {
        let error = GeminiError::Transport { kind, message: message.clone(), advice: None, attempts: 0 };
        Self { lease, outcome: Outcome::TransportError { kind, message, usage: Usage::default() }, error }
    }

    /// The same, where a part of the answer said what was used.
    pub(crate) fn with_usage(mut self, known: Usage) -> Self {
        if let Outcome::TransportError { usage, .. } = &mut self.outcome {
            *usage = known;
        }
        self
    }

    /// An error answer. The key is masked before anything else sees the body.
    pub(crate) fn http(lease: Lease, status: u16, body: Bytes, retry_after: Option<Duration>) -> Self {
        let body = redact(body, lease.key());
        let error = GeminiError::Upstream(Box::new(UpstreamError {
            status,
            google: GoogleError::parse(&body),
            body: String::from_utf8_lossy(&body).into_owned(),
            key_id: lease.key_id().to_owned(),
            advice: None,
            attempts: 0,
        }));
        Self { lease, outcome: Outcome::HttpError { status, body, retry_after }, error }
    }

    /// An answer that holds an error object although it began with a good status.
    pub(crate) fn embedded(lease: Lease, status: u16, google: &GoogleError, body: Bytes) -> Self {
        Self::http(lease, google.http_status().unwrap_or(status), body, None)
    }

    /// Reports it, and waits a moment.
    pub(crate) async fn report(self) {
        report(self.lease, self.outcome).await;
    }

    pub(crate) fn reqwest(lease: Lease, error: reqwest::Error) -> Self {
        Self::broken(lease, broken(error))
    }

    fn broken(lease: Lease, Break { kind, message }: Break) -> Self {
        // A text of somebody's middleware may repeat what it was given.
        let message = redact(message.into(), lease.key());
        Self::transport(lease, kind, String::from_utf8_lossy(&message).into_owned())
    }
}

/// A request without an answer to give.
pub(crate) enum Unanswered {
    /// It took so long to connect that the lease must not be used any more; nothing was sent.
    Missed(Lease, SendWindowPassed),
    Failed(Box<Failure>),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

/// The head of an answer, with the lease that its rest decides on.
pub(crate) struct Answered {
    pub(crate) lease: Lease,
    pub(crate) renewal: AutoRenew,
    pub(crate) response: Response,
    /// How long the rest may take.
    pub(crate) rest: Duration,
}

/// Sends a request with this body and waits for the head of its answer. What has no body counts in no quota of a
/// model, and may leave late.
pub(crate) async fn depart(
    settings: &Settings,
    sender: &mut dyn Sender,
    mut request: Request,
    body: &Bytes,
    lease: Lease,
    limit: Duration,
) -> Result<Answered, Unanswered> {
    // Started before sending: a slow answer must not outlive its lease.
    let ttl = settings.lease_ttl.unwrap_or_else(|| lease.expires_in()).max(Duration::from_secs(1));
    let renewal = lease.auto_renew(ttl);
    let departure = (!body.is_empty()).then(|| {
        let (timely, departure) = timely_body(body.clone(), lease.send_by());
        request.headers_mut().insert(CONTENT_LENGTH, body.len().into());
        *request.body_mut() = Some(timely);
        departure
    });
    let left = || departure.as_ref().map(|departure| departure.get());
    let started = Instant::now();
    match timeout(limit, sender.send(request)).await {
        Ok(Ok(response)) => {
            Ok(Answered { lease, renewal, response, rest: limit.saturating_sub(started.elapsed()) })
        }
        Ok(Err(error)) => match left().flatten() {
            Some(Err(passed)) => Err(Unanswered::Missed(lease, *passed)),
            _ => Err(Failure::broken(lease, error).into()),
        },
        Err(_) if left() == Some(None) => {
            let message = format!("no connection in {limit:?}");
            Err(Failure::transport(lease, TransportKind::Connect, message).into())
        }
        Err(_) => Err(timed_out(lease, limit)),
    }
}

/// Sends one request; the lease is reported here if it succeeds.
pub(crate) async fn send(
    call: &Call,
    sender: &mut dyn Sender,
    lease: Lease,
    key: HeaderValue,
) -> Result<Answer, Unanswered> {
    let settings = &call.settings;
    let limit = settings.request_timeout.min(call.remaining());
    let mut request = Request::new(Method::POST, call.url.clone());
    request.headers_mut().insert("x-goog-api-key", key);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answered = depart(settings, sender, request, &call.body, lease, limit).await?;
    let rest = answered.rest;
    if call.mode == Mode::Stream && answered.response.status().is_success() {
        let answer = Underway::new(answered, (call.deadline, settings.stream_idle_timeout));
        return Ok(Answer::Stream(Live::new(answer).open(rest).await?));
    }
    let Answered { lease, renewal: _renewal, response, .. } = answered;
    match timeout(rest, read(response)).await {
        Ok(Ok((status, retry_after, body))) => Ok(settle(lease, status, retry_after, body).await?),
        Ok(Err(error)) => Err(Failure::reqwest(lease, error).into()),
        Err(_) => Err(timed_out(lease, limit)),
    }
}

pub(crate) fn timed_out(lease: Lease, limit: Duration) -> Unanswered {
    Failure::transport(lease, TransportKind::Timeout, format!("no answer in {limit:?}")).into()
}

/// Whether the body was handed over to be sent; unset while there is no connection.
type Departure = Arc<OnceLock<Result<(), SendWindowPassed>>>;

/// A body that is asked for once there is a connection to send it on, and refuses when that is too
/// late: Google counts a request when it arrives, and a new connection can take seconds.
///
/// A body of this kind cannot be sent twice, so no redirect and no retry of an HTTP client can
/// spend a lease again.
fn timely_body(bytes: Bytes, send_by: Instant) -> (Body, Departure) {
    let departure = Departure::default();
    let noted = Arc::clone(&departure);
    let body = Body::wrap_stream(stream::once(async move {
        let now = Instant::now();
        let in_time = if now > send_by { Err(SendWindowPassed { late_by: now - send_by }) } else { Ok(()) };
        noted.get_or_init(|| in_time).map(|()| bytes)
    }));
    (body, departure)
}

async fn read(response: Response) -> Result<(u16, Option<Duration>, Bytes), reqwest::Error> {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    Ok((status, retry_after, response.bytes().await?))
}

async fn settle(
    lease: Lease,
    status: u16,
    retry_after: Option<Duration>,
    body: Bytes,
) -> Result<Answer, Failure> {
    if !(200..300).contains(&status) {
        return Err(Failure::http(lease, status, body, retry_after));
    }
    if let Some(google) = GoogleError::parse(&body) {
        return Err(Failure::embedded(lease, status, &google, body));
    }
    report(lease, Outcome::Success(usage_of(&body).unwrap_or_default())).await;
    Ok(Answer::Body(body))
}

/// Reports and waits a moment, so that a program may end right after its answer.
pub(crate) async fn report(lease: Lease, outcome: Outcome) {
    let report = lease.report(outcome);
    // The advice on a success says nothing to act on, and a report that is late is not lost.
    drop(timeout(REPORT_GRACE, report).await);
}

pub(crate) fn usage_of(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Envelope {
        usage_metadata: Option<UsageMetadata>,
    }
    let usage = serde_json::from_slice::<Envelope>(body).ok()?.usage_metadata?;
    Some(Usage::from(&usage))
}

/// A number of seconds, as proxies send it. The form with a date depends on the clocks of both
/// sides and is not read; the broker knows better waits.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

pub(crate) fn transport_kind(error: &reqwest::Error) -> TransportKind {
    // A connect that timed out is both; that nothing was sent matters more.
    if error.is_connect() {
        TransportKind::Connect
    } else if error.is_timeout() {
        TransportKind::Timeout
    } else {
        TransportKind::Reset
    }
}

/// The error with its causes, without the URL.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_where_there_is_some() {
        let usage = usage_of(br#"{"usageMetadata":{"promptTokenCount":7,"totalTokenCount":9}}"#).unwrap();
        assert_eq!((usage.input_tokens, usage.total_tokens, usage.output_tokens), (Some(7), Some(9), None));
        assert_eq!(usage_of(b"[]"), None);
    }

    #[test]
    fn a_retry_after_is_read_in_seconds() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("12"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(12)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Wed, 21 Oct 2026 07:28:00 GMT"));
        assert_eq!(retry_after(&headers), None);
    }
}
