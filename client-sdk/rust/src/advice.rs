//! The broker's answer to a report.

use std::time::Duration;

use keybroker_proto::v1::{self, SettleState, Signal, advice};

use crate::wire;

/// What the caller should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Nothing: the request succeeded, or was never sent.
    Done,
    /// Acquire again now, excluding the key that failed: another one can serve this request.
    RetryOtherKey,
    /// Acquire again after this long; `None`: the caller backs off by itself.
    RetryAfter(Option<Duration>),
    /// The request itself is at fault: do not send it again.
    DoNotRetry,
}

/// The broker's answer to a report: what to do next, and what it read in the outcome.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Advice {
    /// What to do next.
    pub action: Action,
    /// What the broker read in the outcome, for people and metrics.
    pub signal: Signal,
    /// One more try, and no third: if that fails as well, do not send the request again.
    pub once: bool,
    /// One sentence for people; it holds no key text.
    pub message: String,
    /// What the report did to its lease.
    pub settled: SettleState,
}

impl Advice {
    /// Reads an answer. An action of a newer contract means nothing here: the safe reading is not
    /// to send again.
    pub(crate) fn from_proto(result: v1::ReportResult) -> Self {
        let settled = result.state();
        let advice = result.advice.unwrap_or_default();
        let action = match advice.action() {
            advice::Action::Done => Action::Done,
            advice::Action::RetryOtherKey => Action::RetryOtherKey,
            advice::Action::RetryAfter => {
                Action::RetryAfter(advice.retry_after.map(wire::from_proto).filter(|wait| !wait.is_zero()))
            }
            advice::Action::DoNotRetry | advice::Action::Unspecified => Action::DoNotRetry,
        };
        Self { action, signal: advice.signal(), once: advice.once, message: advice.message, settled }
    }

    /// On what no broker knows of: it is not to be tried again.
    pub(crate) fn of_nobody() -> Self {
        Self {
            action: Action::DoNotRetry,
            signal: Signal::Unspecified,
            once: false,
            message: String::new(),
            settled: SettleState::Unspecified,
        }
    }

    /// Whether the request may be sent again, with a new lease.
    pub fn is_retryable(&self) -> bool {
        matches!(self.action, Action::RetryOtherKey | Action::RetryAfter(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_action_is_not_a_retry() {
        let result = v1::ReportResult {
            advice: Some(v1::Advice { action: 99, ..Default::default() }),
            ..Default::default()
        };
        let advice = Advice::from_proto(result);
        assert_eq!(advice.action, Action::DoNotRetry);
        assert!(!advice.is_retryable());
    }

    #[test]
    fn a_wait_of_zero_leaves_the_backoff_to_the_caller() {
        let result = v1::ReportResult {
            advice: Some(v1::Advice {
                action: advice::Action::RetryAfter as i32,
                retry_after: Some(prost_types::Duration { seconds: 0, nanos: 0 }),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(Advice::from_proto(result).action, Action::RetryAfter(None));
    }
}
