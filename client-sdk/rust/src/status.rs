//! From a gRPC status and its `google.rpc` details to a typed error.

use std::time::{Duration, Instant};

use keybroker_proto::{ERROR_DOMAIN, v1::ErrorReason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    error::{Error, FieldViolation, QuotaViolation, Refusal},
    wire,
};

/// Reads a status that came at `now`, in answer to a call with the deadline `within`.
///
/// The reason of the contract decides; the code only where no reason was given, as by a proxy or
/// by the network.
pub(crate) fn read(status: &Status, now: Instant, within: Duration) -> Error {
    let details = status.get_error_details();
    let message = words(status);
    let retry_after = details.retry_info().and_then(|info| info.retry_delay);
    match reason(&details) {
        Some(reason @ (ErrorReason::QuotaExhausted | ErrorReason::CoolingDown)) => {
            refused(reason, retry_after, &details, message, now)
        }
        Some(ErrorReason::RequestExceedsLimit) => Error::NeverPossible { message },
        Some(ErrorReason::NoUsableKey) => Error::NoUsableKey { message },
        Some(ErrorReason::InvalidField) => invalid(&details, message),
        Some(ErrorReason::UnknownPool) => Error::UnknownPool { message },
        Some(ErrorReason::UnknownLeaseId) => Error::UnknownLease { message },
        Some(ErrorReason::LeaseEnded) => Error::LeaseEnded { message },
        Some(
            reason @ (ErrorReason::LedgerUnavailable
            | ErrorReason::LedgerChanged
            | ErrorReason::ShuttingDown
            | ErrorReason::Overloaded
            | ErrorReason::DeadlinePassed),
        ) => Error::Unavailable { reason: Some(reason), message, retry_after, answer_lost: false },
        Some(ErrorReason::NotAuthenticated) => Error::Unauthenticated { message },
        Some(ErrorReason::NotPermitted) => Error::NotPermitted { message },
        Some(ErrorReason::Unspecified) | None => by_code(status, &details, message, retry_after, now, within),
    }
}

fn by_code(
    status: &Status,
    details: &ErrorDetails,
    message: String,
    retry_after: Option<Duration>,
    now: Instant,
    within: Duration,
) -> Error {
    match status.code() {
        // Without a RetryInfo this is no refusal of the contract but a server or a proxy that is
        // too busy, so its wait is not exact and must not be shown as one.
        Code::ResourceExhausted if retry_after.is_some() => {
            refused(ErrorReason::Unspecified, retry_after, details, message, now)
        }
        Code::ResourceExhausted => {
            Error::Unavailable { reason: None, message, retry_after, answer_lost: false }
        }
        Code::Unavailable => {
            Error::Unavailable { reason: None, message, retry_after, answer_lost: !never_connected(status) }
        }
        // A connection that broke can surface so as well as tonic's own timer; what a server sends has no cause.
        Code::Cancelled if has_cause(status) && !caused_by::<tonic::TimeoutExpired>(status) => {
            Error::Unavailable { reason: None, message, retry_after, answer_lost: true }
        }
        Code::DeadlineExceeded | Code::Cancelled => Error::DeadlineExceeded { within },
        Code::InvalidArgument => invalid(details, message),
        Code::Unauthenticated => Error::Unauthenticated { message },
        Code::PermissionDenied => Error::NotPermitted { message },
        // A broken connection surfaces as Unknown or Internal with a cause; the server's own
        // Unknown has none.
        Code::Unknown | Code::Internal if has_cause(status) => {
            Error::Unavailable { reason: None, message, retry_after, answer_lost: true }
        }
        code => Error::Other { code, message },
    }
}

fn reason(details: &ErrorDetails) -> Option<ErrorReason> {
    let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN)?;
    ErrorReason::from_str_name(&info.reason)
}

fn refused(
    reason: ErrorReason,
    retry_after: Option<Duration>,
    details: &ErrorDetails,
    message: String,
    now: Instant,
) -> Error {
    // The contract promises a RetryInfo; without one a second is long enough not to hammer.
    let retry_after = retry_after.unwrap_or(Duration::from_secs(1));
    let quota = details.quota_failure().map_or_else(Vec::new, |failure| {
        failure
            .violations
            .iter()
            .map(|v| QuotaViolation { subject: v.subject.clone(), description: v.description.clone() })
            .collect()
    });
    let retry_at = wire::instant_after(now, retry_after);
    Error::Refused(Refusal { reason, retry_after, retry_at, quota, message })
}

fn invalid(details: &ErrorDetails, message: String) -> Error {
    let violations = details.bad_request().map_or_else(Vec::new, |bad| {
        bad.field_violations
            .iter()
            .map(|v| FieldViolation { field: v.field.clone(), description: v.description.clone() })
            .collect()
    });
    Error::InvalidArgument { violations, message }
}

/// What is said, with the causes on this side, of which a failed connection has several.
fn words(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Whether the connection was never made, so that the server cannot have seen the call.
fn never_connected(status: &Status) -> bool {
    caused_by::<tonic::ConnectError>(status)
}

fn has_cause(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn caused_by<T: std::error::Error + 'static>(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<T>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_reason(code: Code, reason: ErrorReason, mut details: ErrorDetails) -> Error {
        details.set_error_info(reason.as_str_name(), ERROR_DOMAIN, [("a".to_owned(), "b".to_owned())]);
        let status = Status::with_error_details(code, "the broker's words", details);
        read(&status, Instant::now(), Duration::from_secs(1))
    }

    #[test]
    fn a_refusal_carries_its_exact_time_and_what_is_spent() {
        let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1_500)));
        details.add_quota_failure_violation("project:alpha", "requests in 60 s: 5 of 5");
        let error = with_reason(Code::ResourceExhausted, ErrorReason::QuotaExhausted, details);
        assert!(error.is_retryable());
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1_500)));
        let text = error.to_string();
        assert!(text.contains("1.5s") && text.contains("project:alpha"), "{text}");
        let Error::Refused(refusal) = error else { panic!("a refusal is Refused") };
        assert_eq!(refusal.reason, ErrorReason::QuotaExhausted);
        assert!(refusal.retry_at > Instant::now());
    }

    #[test]
    fn what_can_never_be_differs_from_what_cannot_be_now() {
        let details = ErrorDetails::new();
        let never = with_reason(Code::FailedPrecondition, ErrorReason::RequestExceedsLimit, details.clone());
        assert!(matches!(never, Error::NeverPossible { .. }) && !never.is_retryable());
        let none = with_reason(Code::FailedPrecondition, ErrorReason::NoUsableKey, details);
        assert!(matches!(none, Error::NoUsableKey { .. }) && !none.is_retryable());
    }

    #[test]
    fn an_invalid_argument_names_its_fields() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("permits", "must be 1 to 1000");
        let error = with_reason(Code::InvalidArgument, ErrorReason::InvalidField, details);
        assert!(error.to_string().contains("permits: must be 1 to 1000"));
        assert!(matches!(error, Error::InvalidArgument { violations, .. } if violations.len() == 1));
    }

    #[test]
    fn every_other_reason_has_its_error() {
        let of = |code, reason| with_reason(code, reason, ErrorDetails::new());
        assert!(matches!(of(Code::NotFound, ErrorReason::UnknownPool), Error::UnknownPool { .. }));
        assert!(matches!(of(Code::NotFound, ErrorReason::UnknownLeaseId), Error::UnknownLease { .. }));
        assert!(matches!(of(Code::FailedPrecondition, ErrorReason::LeaseEnded), Error::LeaseEnded { .. }));
        let unknown = of(Code::Unauthenticated, ErrorReason::NotAuthenticated);
        assert!(matches!(unknown, Error::Unauthenticated { .. }) && !unknown.is_retryable());
        let denied = of(Code::PermissionDenied, ErrorReason::NotPermitted);
        assert!(matches!(denied, Error::NotPermitted { .. }) && !denied.is_retryable());
        assert!(denied.to_string().contains("the broker's words"), "{denied}");
        for reason in [
            ErrorReason::LedgerUnavailable,
            ErrorReason::LedgerChanged,
            ErrorReason::ShuttingDown,
            ErrorReason::Overloaded,
        ] {
            let error = of(Code::Unavailable, reason);
            assert!(error.is_retryable());
            assert!(
                matches!(error, Error::Unavailable { reason: Some(r), answer_lost: false, .. } if r == reason)
            );
        }
    }

    #[test]
    fn a_status_without_details_is_read_by_its_code() {
        let of = |code| read(&Status::new(code, "text"), Instant::now(), Duration::from_secs(1));
        assert!(matches!(of(Code::Unavailable), Error::Unavailable { answer_lost: true, .. }));
        assert!(matches!(of(Code::Cancelled), Error::DeadlineExceeded { .. }));
        assert!(matches!(of(Code::ResourceExhausted), Error::Unavailable { .. }));
        assert!(matches!(of(Code::Unauthenticated), Error::Unauthenticated { .. }));
        assert!(matches!(of(Code::PermissionDenied), Error::NotPermitted { .. }));
        assert!(matches!(of(Code::Aborted), Error::Other { code: Code::Aborted, .. }));
        assert!(matches!(of(Code::Unknown), Error::Other { .. }));
    }

    #[test]
    fn a_connection_that_was_cut_is_no_deadline() {
        let caused = |cause: Box<dyn std::error::Error + Send + Sync>| {
            let mut status = Status::cancelled("operation was canceled");
            status.set_source(std::sync::Arc::from(cause));
            read(&status, Instant::now(), Duration::from_secs(1))
        };
        let cut = caused("the connection is gone".into());
        assert!(matches!(cut, Error::Unavailable { answer_lost: true, .. }), "{cut}");
        let timer = caused(Box::new(tonic::TimeoutExpired(())));
        assert!(matches!(timer, Error::DeadlineExceeded { .. }), "{timer}");
    }

    #[test]
    fn a_reason_of_another_domain_is_not_ours() {
        let mut details = ErrorDetails::new();
        details.set_error_info("NO_USABLE_KEY", "elsewhere.example", []);
        let status = Status::with_error_details(Code::Aborted, "text", details);
        assert!(matches!(
            read(&status, Instant::now(), Duration::from_secs(1)),
            Error::Other { code: Code::Aborted, .. }
        ));
    }
}
