//! The sentences of Google that carry a meaning no field carries.

use std::sync::LazyLock;

use regex::Regex;

use super::body::ErrorBody;
use super::signal::Signal;

/// A sentence and what it means.
struct Phrase {
    /// The statuses with which it is believed.
    statuses: &'static [u16],
    /// In lower case.
    words: &'static str,
    /// Whether the message must begin with it. A 400 quotes the request, which may say anything; such a
    /// sentence is believed only where Google begins to speak.
    opening: bool,
    signal: Signal,
}

const fn opening(statuses: &'static [u16], words: &'static str, signal: Signal) -> Phrase {
    Phrase { statuses, words, opening: true, signal }
}

const fn within(statuses: &'static [u16], words: &'static str, signal: Signal) -> Phrase {
    Phrase { statuses, words, opening: false, signal }
}

const REFUSED: &[u16] = &[400, 401, 403];
const DENIED: &[u16] = &[401, 403];
const MISSING: &[u16] = &[400, 403, 404];
const SPENT: &[u16] = &[402, 429];

/// In the order in which they are tried.
const PHRASES: &[Phrase] = &[
    within(DENIED, "reported as leaked", Signal::KeyLeaked),
    within(DENIED, "' has been suspended", Signal::KeySuspended),
    opening(REFUSED, "api key not valid", Signal::KeyInvalid),
    opening(REFUSED, "api key expired", Signal::KeyInvalid),
    opening(REFUSED, "api key not found", Signal::KeyInvalid),
    within(DENIED, "project has been denied access", Signal::ProjectDisabled),
    within(DENIED, "has not been used in project", Signal::ProjectDisabled),
    within(DENIED, "unregistered callers", Signal::RequestFault),
    within(MISSING, "permission to access the file", Signal::WrongProject),
    within(MISSING, "cachedcontent not found", Signal::WrongProject),
    opening(&[404], "file not found", Signal::WrongProject),
    within(&[404], "no longer available to new users", Signal::ModelClosed),
    opening(&[400], "multiple authentication credentials", Signal::RequestFault),
    opening(&[400], "user location is not supported", Signal::RegionUnsupported),
    within(&[400], "free tier is not available in your country", Signal::RegionUnsupported),
    within(SPENT, "prepayment credits are depleted", Signal::CreditDepleted),
    within(SPENT, "monthly spending cap", Signal::SpendCap),
    within(SPENT, "monthly spend cap", Signal::SpendCap),
    within(&[429], "spend-based rate limit", Signal::SpendRate),
    within(&[429], "spend rate", Signal::SpendRate),
    within(&[429], "spending rate", Signal::SpendRate),
    within(&[429], "doesn't have a free quota tier", Signal::ModelNotOffered),
];

/// The words of older refusals, tried after all others because they are the vaguest.
const WINDOWS: &[Phrase] = &[
    within(&[429], "per day", Signal::DailyQuota),
    within(&[429], "per minute", Signal::MinuteQuota),
    within(&[429], "per second", Signal::MinuteQuota),
];

/// What the words of an error mean, if its status allows them a meaning.
pub(super) fn find(status: Option<u16>, error: &ErrorBody) -> Option<Signal> {
    let status = status?;
    let message = error.message.trim_start().to_lowercase();
    let find = |phrases: &[Phrase]| {
        phrases
            .iter()
            .filter(|phrase| phrase.statuses.contains(&status))
            .find(|phrase| {
                // Torn text has no beginning of a message to hold a sentence to.
                if phrase.opening && error.whole {
                    message.starts_with(phrase.words)
                } else {
                    message.contains(phrase.words)
                }
            })
            .map(|phrase| phrase.signal)
    };
    find(PHRASES)
        .or_else(|| (status == 429 && says_limit_zero(&error.message)).then_some(Signal::ModelNotOffered))
        .or_else(|| find(WINDOWS))
}

/// Whether a message says `limit: 0`, and not a larger number that begins so.
pub(super) fn says_limit_zero(message: &str) -> bool {
    static ZERO: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)\blimit:\s*0(?:[^0-9.]|\.[^0-9]|\.?$)").expect("the pattern is valid")
    });
    ZERO.is_match(message)
}
