//! From an outcome to a decision.

use std::time::Duration;

use super::body::{self, Body, ErrorBody};
use super::classify::classify;
use super::decision::{Charge, Decision};
use super::delay;
use super::outcome::{Outcome, TransportKind};
use super::policy::{Facts, decide};
use super::quota::{LearnedQuota, parse_quota_id};
use super::signal::Signal;

/// Reads what a worker reported and decides what to do about it.
///
/// The same outcome always gives the same decision, and no body, whatever its bytes, makes it panic. No
/// decision on a server fault, a network fault or a fault of the request blocks a key, a project or an account;
/// an overloaded model is blocked for itself.
#[must_use]
pub fn read(outcome: &Outcome<'_>) -> Decision {
    match *outcome {
        Outcome::Success => decide(Signal::Ok, Facts::default()),
        Outcome::NotSent => decide(Signal::NotSent, Facts::default()),
        Outcome::Transport(kind) => read_transport(kind),
        Outcome::HttpError { status, body, retry_after } => read_http(status, body, retry_after),
    }
}

fn read_transport(kind: TransportKind) -> Decision {
    match kind {
        // Without a connection nothing reached Google, so nothing was counted.
        TransportKind::Connect => {
            Decision { charge: Charge::Refund, ..decide(Signal::NetworkFault, Facts::default()) }
        }
        TransportKind::Timeout | TransportKind::Reset => decide(Signal::NetworkFault, Facts::default()),
        TransportKind::Cancelled => decide(Signal::Cancelled, Facts::default()),
    }
}

fn read_http(status: u16, body: &[u8], retry_after: Option<Duration>) -> Decision {
    let in_stream = (200..300).contains(&status);
    match body::parse(body, in_stream) {
        Body::Error(error) => {
            let ruling = if in_stream { error.status } else { Some(status) };
            decide(classify(ruling, &error), facts(&error, retry_after))
        }
        Body::Blocked => decide(Signal::RequestFault, Facts::default()),
        Body::Nothing => decide(Signal::Unreadable, Facts::default()),
    }
}

fn facts(error: &ErrorBody, header: Option<Duration>) -> Facts {
    let said = error.retry_delay.or_else(|| delay::from_message(&error.message));
    Facts {
        hint: said.max(header.and_then(delay::sane)),
        window: error
            .violations
            .iter()
            .filter_map(|violation| parse_quota_id(violation.quota_id.as_deref()?))
            .map(|(_, window)| window)
            .max(),
        learned: learned(error),
    }
}

/// The lessons in a fixed order, each once, so that the order of the details is no matter.
fn learned(error: &ErrorBody) -> Vec<LearnedQuota> {
    if !error.whole {
        return Vec::new();
    }
    let mut learned: Vec<_> = error
        .violations
        .iter()
        .filter_map(|violation| {
            let quota_id = violation.quota_id.clone()?;
            let (dimension, window) = parse_quota_id(&quota_id)?;
            Some(LearnedQuota {
                quota_id,
                // A limit of zero is a verdict of its own and never a limit to go by.
                quota_value: violation.value.filter(|value| *value > 0),
                quota_model: violation.model.clone(),
                dimension,
                window,
            })
        })
        .collect();
    learned.sort_by(|a, b| {
        (&a.quota_id, &a.quota_model, a.quota_value).cmp(&(&b.quota_id, &b.quota_model, b.quota_value))
    });
    learned.dedup();
    learned
}
