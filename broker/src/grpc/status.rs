//! Errors as gRPC statuses with google.rpc details.

use std::{collections::HashMap, time::Duration};

use keybroker_proto::{
    ERROR_DOMAIN,
    v1::{AdminErrorReason, ErrorReason},
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, QuotaViolation, StatusExt};

use crate::{
    access::Denied,
    broker::pool_name,
    calls,
    fleet::FleetError,
    ledger::LedgerError,
    pool::{AcquireError, Refusal, RefusalReason, RenewError, pause},
    registry::RegistryError,
    secret::unknown_name,
};

/// The longest message, in bytes. A status travels in headers, of which clients take 16 KiB, and what it says may
/// echo a request of megabytes.
const LONGEST_MESSAGE: usize = 1500;
/// What all bad fields together may say; of those beyond it is told how many they are.
const MOST_ABOUT_FIELDS: usize = 4096;
/// What one bad field may say: its name, and what is wrong with it.
const LONGEST_FIELD: usize = 200;

/// A text that was cut, if it is too long.
fn bounded(text: impl Into<String>, longest: usize) -> String {
    let mut text: String = text.into();
    if text.len() > longest {
        let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A status with its reason.
pub(super) fn status(code: Code, reason: ErrorReason, message: impl Into<String>) -> Status {
    let message = bounded(message, LONGEST_MESSAGE);
    Status::with_error_details(code, message, details(reason, HashMap::new()))
}

/// Bad fields, each with what is wrong and the fix.
pub(crate) fn bad_request(violations: Vec<(String, String)>) -> Status {
    let violations = as_many_as_fit(violations);
    let list =
        violations.iter().map(|(field, wrong)| format!("{field} {wrong}")).collect::<Vec<_>>().join("; ");
    let mut details = details(ErrorReason::InvalidField, HashMap::new());
    let field = |(field, wrong)| FieldViolation {
        field,
        description: wrong,
        reason: String::new(),
        localized_message: None,
    };
    details.set_bad_request(violations.into_iter().map(field).collect::<Vec<_>>());
    Status::with_error_details(Code::InvalidArgument, bounded(list, LONGEST_MESSAGE), details)
}

fn as_many_as_fit(violations: Vec<(String, String)>) -> Vec<(String, String)> {
    let (count, mut said) = (violations.len(), 0);
    let mut kept = Vec::new();
    for (field, wrong) in violations {
        let (field, wrong) = (bounded(field, LONGEST_FIELD), bounded(wrong, 2 * LONGEST_FIELD));
        said += field.len() + wrong.len();
        if said > MOST_ABOUT_FIELDS {
            kept.push(("…".to_owned(), format!("and {} more are wrong", count - kept.len())));
            break;
        }
        kept.push((field, wrong));
    }
    kept
}

/// A call that is not served to whoever makes it.
pub(crate) fn denied(denied: &Denied) -> Status {
    match denied {
        Denied::Unauthenticated(why) => {
            status(Code::Unauthenticated, ErrorReason::NotAuthenticated, why.clone())
        }
        Denied::Forbidden(why) => status(Code::PermissionDenied, ErrorReason::NotPermitted, why.clone()),
    }
}

/// A pool that is not configured.
pub(super) fn unknown_pool(pool: &str, known: &[String]) -> Status {
    let pool = unknown_name(pool_name(pool));
    let message = format!("pool {pool:?} is not configured; configured are: {}", known.join(", "));
    status(Code::NotFound, ErrorReason::UnknownPool, message)
}

/// A broker that has too much to do to even read the call.
pub(crate) fn overloaded() -> Status {
    of_acquire(&AcquireError::Overloaded { retry_after: pause(), queue_length: 0 })
}

/// A broker that tells as many as it can how things go on.
pub(super) fn too_many_watchers() -> Status {
    let message = "too many watch this broker already; ask another one, or look once in a while";
    status(Code::ResourceExhausted, ErrorReason::Overloaded, message)
}

/// A broker that is shutting down.
pub(super) fn shutting_down() -> Status {
    status(Code::Unavailable, ErrorReason::ShuttingDown, AcquireError::ShuttingDown.to_string())
}

/// Why there is no lease.
pub(super) fn of_acquire(error: &AcquireError) -> Status {
    match error {
        AcquireError::Refused(refusal) => refused(refusal),
        AcquireError::Never(refusal) => never(refusal),
        AcquireError::NoKey(message) => {
            status(Code::FailedPrecondition, ErrorReason::NoUsableKey, message.clone())
        }
        AcquireError::TooManyModels(_) => {
            bad_request(vec![("model".to_owned(), format!("cannot be leased for: {error}"))])
        }
        AcquireError::TooManyKeys(_) => bad_request(vec![("constraints".to_owned(), error.to_string())]),
        AcquireError::Ledger(error) => of_ledger(error),
        AcquireError::Overloaded { retry_after, queue_length } => {
            let mut details = details(ErrorReason::Overloaded, estimate(*retry_after, *queue_length));
            details.set_retry_info(Some(*retry_after));
            Status::with_error_details(Code::ResourceExhausted, error.to_string(), details)
        }
        AcquireError::DeadlinePassed => {
            status(Code::DeadlineExceeded, ErrorReason::DeadlinePassed, error.to_string())
        }
        AcquireError::PoolGone => status(Code::NotFound, ErrorReason::UnknownPool, error.to_string()),
        AcquireError::ShuttingDown => shutting_down(),
        AcquireError::ShardLost => {
            status(Code::Unavailable, ErrorReason::LedgerUnavailable, error.to_string())
        }
        AcquireError::ForeignKey => status(Code::Unavailable, ErrorReason::LedgerChanged, error.to_string()),
    }
}

/// Why a lease was not extended.
pub(super) fn of_renew(error: &RenewError) -> Status {
    match error {
        RenewError::Ended => status(Code::FailedPrecondition, ErrorReason::LeaseEnded, error.to_string()),
        RenewError::Unknown => status(Code::NotFound, ErrorReason::UnknownLeaseId, error.to_string()),
        RenewError::Commit(error) => of_acquire(error),
    }
}

/// A ledger that gave no answer. What it said stays in the log: it may name hosts.
pub(super) fn of_ledger(error: &LedgerError) -> Status {
    // That it holds back is told once, by what watches over it.
    if !matches!(error, LedgerError::Holding { .. }) {
        tracing::warn!(%error, "a call failed at the ledger");
    }
    match error {
        LedgerError::Unavailable(_) => {
            let message = "the ledger cannot be reached; nothing can be leased until it answers";
            status(Code::Unavailable, ErrorReason::LedgerUnavailable, message)
        }
        LedgerError::Holding { why, retry_after } => {
            let mut details = details(ErrorReason::LedgerUnavailable, HashMap::new());
            details.set_retry_info(Some(*retry_after));
            Status::with_error_details(
                Code::Unavailable,
                format!("nothing is leased for now: {why}"),
                details,
            )
        }
        LedgerError::Changed { .. } => {
            let message = "the ledger is not the one this broker opened: its counts are not known, and nothing is \
                           leased; restart the brokers once all quota windows have passed";
            status(Code::Unavailable, ErrorReason::LedgerChanged, message)
        }
        LedgerError::Clock | LedgerError::Unusable(_) => {
            let message = "the ledger cannot be used; the broker's log says why";
            status(Code::Unavailable, ErrorReason::LedgerUnavailable, message)
        }
    }
}

/// Why an operator's change was not made.
pub(super) fn of_fleet(error: &FleetError) -> Status {
    let (code, reason) = match error {
        FleetError::Invalid(faults) => return bad_request(faults.clone()),
        FleetError::Elsewhere(field, why) => {
            return bad_request(vec![((*field).to_owned(), why.to_string())]);
        }
        FleetError::Ledger(error) => return of_ledger(error),
        FleetError::Registry(error) => return of_registry(error),
        FleetError::UnknownPool { .. } => {
            return status(Code::NotFound, ErrorReason::UnknownPool, error.to_string());
        }
        FleetError::UnknownKey(_) => (Code::NotFound, AdminErrorReason::UnknownKey),
        FleetError::AlreadyThere(_) => (Code::AlreadyExists, AdminErrorReason::AlreadyThere),
        FleetError::Configured(_) => (Code::FailedPrecondition, AdminErrorReason::ConfiguredInFile),
        FleetError::NoMasterKey => (Code::FailedPrecondition, AdminErrorReason::NoMasterKey),
        FleetError::PoolNotEmpty { .. } => (Code::FailedPrecondition, AdminErrorReason::PoolNotEmpty),
        FleetError::EtagMismatch(_) => (Code::Aborted, AdminErrorReason::EtagMismatch),
        FleetError::Busy => (Code::Aborted, AdminErrorReason::RegistryBusy),
    };
    admin_status(code, reason, error.to_string())
}

/// A pool that waits for no counts that are lost.
pub(super) fn nothing_lost(pool: &str) -> Status {
    let message = format!("pool {pool} waits for no lost counts: there is nothing to accept");
    admin_status(Code::FailedPrecondition, AdminErrorReason::NothingLost, message)
}

/// A registry that gave no answer. What it said stays in the log: it may name hosts.
fn of_registry(error: &RegistryError) -> Status {
    tracing::warn!(%error, "a call failed at the registry");
    let message = "the registry gave no answer; if you asked for a change, look whether it was made before you try again";
    admin_status(Code::Unavailable, AdminErrorReason::RegistryUnavailable, message)
}

fn admin_status(code: Code, reason: AdminErrorReason, message: impl Into<String>) -> Status {
    let mut details = of_this_call();
    details.set_error_info(reason.as_str_name(), ERROR_DOMAIN, HashMap::new());
    Status::with_error_details(code, bounded(message, LONGEST_MESSAGE), details)
}

fn refused(refusal: &Refusal) -> Status {
    let reason = match refusal.reason {
        RefusalReason::CoolingDown => ErrorReason::CoolingDown,
        _ => ErrorReason::QuotaExhausted,
    };
    let mut metadata = estimate(refusal.estimated_wait, refusal.queue_length);
    metadata.insert("retry_at_unix_ms".to_owned(), refusal.retry_at.to_string());
    let mut details = details(reason, metadata);
    details.set_retry_info(Some(refusal.retry_after));
    details.set_quota_failure(vec![violation(refusal)]);
    Status::with_error_details(Code::ResourceExhausted, refusal.message.clone(), details)
}

/// What the queue says to whoever is refused.
fn estimate(wait: Duration, queue_length: usize) -> HashMap<String, String> {
    HashMap::from([
        ("estimated_wait_ms".to_owned(), wait.as_millis().to_string()),
        ("queue_length".to_owned(), queue_length.to_string()),
    ])
}

fn never(refusal: &Refusal) -> Status {
    let reason = match refusal.reason {
        RefusalReason::RequestExceedsLimit => ErrorReason::RequestExceedsLimit,
        _ => ErrorReason::NoUsableKey,
    };
    let mut details = details(reason, HashMap::new());
    details.set_quota_failure(vec![violation(refusal)]);
    Status::with_error_details(Code::FailedPrecondition, refusal.message.clone(), details)
}

fn violation(refusal: &Refusal) -> QuotaViolation {
    QuotaViolation {
        subject: refusal.subject.clone(),
        description: refusal.message.clone(),
        ..QuotaViolation::default()
    }
}

/// What every error says: of which call it is.
fn of_this_call() -> ErrorDetails {
    let mut details = ErrorDetails::new();
    if let Some(Some(id)) = calls::look(|call| call.id().map(|id| id.as_str().to_owned())) {
        details.set_request_info(id, "");
    }
    details
}

fn details(reason: ErrorReason, metadata: HashMap<String, String>) -> ErrorDetails {
    let mut details = of_this_call();
    details.set_error_info(reason.as_str_name(), ERROR_DOMAIN, metadata);
    details
}
