//! What an error means: by its details first, then by its words where its status allows them, by the
//! bare status last.

use super::body::ErrorBody;
use super::phrases;
use super::quota::{Dimension, Window, parse_quota_id};
use super::signal::Signal;

/// The reasons of `ErrorInfo` that decide, the gravest first, so that the order of the details is no matter.
const REASONS: [(&str, Signal); 14] = [
    ("CONSUMER_SUSPENDED", Signal::KeySuspended),
    ("API_KEY_INVALID", Signal::KeyInvalid),
    ("API_KEY_EXPIRED", Signal::KeyInvalid),
    ("BILLING_DISABLED", Signal::ProjectDisabled),
    ("SERVICE_DISABLED", Signal::ProjectDisabled),
    ("CONSUMER_INVALID", Signal::ProjectDisabled),
    ("API_KEY_SERVICE_BLOCKED", Signal::KeyRestricted),
    ("API_KEY_IP_ADDRESS_BLOCKED", Signal::KeyRestricted),
    ("API_KEY_HTTP_REFERRER_BLOCKED", Signal::KeyRestricted),
    ("API_KEY_ANDROID_APP_BLOCKED", Signal::KeyRestricted),
    ("API_KEY_IOS_APP_BLOCKED", Signal::KeyRestricted),
    ("ACCESS_TOKEN_TYPE_UNSUPPORTED", Signal::KeyBinding),
    ("CREDENTIALS_MISSING", Signal::RequestFault),
    ("MODEL_CAPACITY_EXHAUSTED", Signal::Capacity),
];

/// Whether a reason is one that decides.
pub(super) fn knows_reason(reason: &str) -> bool {
    REASONS.iter().any(|(known, _)| *known == reason)
}

/// What an error means. `status` is the one that rules: the answer's own, or inside a stream the one that
/// the error object names, if it names any.
pub(super) fn classify(status: Option<u16>, error: &ErrorBody) -> Signal {
    match status {
        // A server that fails knows nothing of the key, whatever its body says.
        Some(408 | 499 | 500..=599) => of_status(status),
        Some(400..=499) | None => of_reasons(status, error)
            .or_else(|| of_quotas(status, error))
            .or_else(|| of_code_name(status, error))
            .or_else(|| phrases::find(status, error))
            .unwrap_or_else(|| of_status(status)),
        Some(_) => Signal::Unreadable,
    }
}

fn of_reasons(status: Option<u16>, error: &ErrorBody) -> Option<Signal> {
    REASONS
        .iter()
        .filter(|(reason, signal)| {
            error.reasons.iter().any(|given| given == reason) && believed(status, *signal, error.whole)
        })
        .map(|(_, signal)| *signal)
        .next()
}

/// Whether a reason may be believed with this status. A refusal for lack of capacity says nothing of a key,
/// and words in torn text are weaker evidence than a field: a 400 may quote the request.
fn believed(status: Option<u16>, signal: Signal, whole: bool) -> bool {
    match signal {
        Signal::Capacity => matches!(status, Some(429) | None),
        Signal::KeyInvalid => matches!(status, Some(400 | 401 | 403) | None),
        _ if whole => matches!(status, Some(400 | 401 | 403) | None),
        _ => matches!(status, Some(401 | 403)),
    }
}

/// Whether quota names in the error are Google's verdict; in torn text they may be a quoted request.
fn speaks_of_quota(status: Option<u16>, error: &ErrorBody) -> bool {
    error.whole || matches!(status, Some(429) | None)
}

/// The longest-lived of the violated quotas rules.
fn of_quotas(status: Option<u16>, error: &ErrorBody) -> Option<Signal> {
    if error.violations.is_empty() || !speaks_of_quota(status, error) {
        return None;
    }
    // A value of zero is left out of the JSON, and only the message then says it.
    let zero = |value: Option<u64>| {
        value.map_or_else(|| phrases::says_limit_zero(&error.message), |value| value == 0)
    };
    if error.violations.iter().any(|violation| zero(violation.value)) {
        return Some(Signal::ModelNotOffered);
    }
    let known =
        || error.violations.iter().filter_map(|violation| parse_quota_id(violation.quota_id.as_deref()?));
    match known().map(|(_, window)| window).max()? {
        Window::Day => Some(Signal::DailyQuota),
        Window::Minute | Window::Second if known().any(|(dimension, _)| dimension == Dimension::Spend) => {
            Some(Signal::SpendRate)
        }
        Window::Minute | Window::Second => Some(Signal::MinuteQuota),
    }
}

/// The Interactions API names a spent day by a code of its own.
fn of_code_name(status: Option<u16>, error: &ErrorBody) -> Option<Signal> {
    (speaks_of_quota(status, error) && error.code_name.as_deref() == Some("quota_exceeded"))
        .then_some(Signal::DailyQuota)
}

fn of_status(status: Option<u16>) -> Signal {
    match status {
        Some(401 | 403) => Signal::PermissionUnclear,
        Some(402) => Signal::CreditDepleted,
        Some(429) => Signal::Capacity,
        Some(503) => Signal::ModelOverloaded,
        Some(408 | 499 | 500..=599) => Signal::ServerFault,
        Some(400..=499) => Signal::RequestFault,
        _ => Signal::Unreadable,
    }
}
