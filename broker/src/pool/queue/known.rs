//! A refusal, as it is remembered for a waiter.

use tokio::time::Instant;

use crate::{
    ledger::FOREVER,
    pool::{AcquireError, Refusal},
};

/// A refusal and its instant by this broker's clock.
#[derive(Debug, Clone)]
pub(in crate::pool) struct Known {
    /// The refusal as it was when the ledger answered.
    pub(in crate::pool) refusal: Refusal,
    /// When a lease can be given; the far future if never.
    pub(in crate::pool) at: Instant,
}

impl Known {
    /// A refusal that was just given.
    pub(in crate::pool) fn new(refusal: Refusal, now: Instant) -> Self {
        let at = now.checked_add(refusal.retry_after).unwrap_or(now);
        Self { refusal, at }
    }

    /// Whether no lease can ever be given, or not until an operator acts.
    pub(super) fn is_for_good(&self) -> bool {
        self.refusal.retry_at >= FOREVER
    }

    /// Whether it is not worth waiting until then: whoever waits for a lease in flight to end does so
    /// also if its expiry is farther away.
    pub(in crate::pool) fn is_beyond(&self, deadline: Instant) -> bool {
        self.at > deadline && !self.refusal.may_end_early
    }

    /// The refusal as it stands now.
    pub(super) fn into_error(self, now: Instant) -> AcquireError {
        if self.is_for_good() {
            return AcquireError::Never(self.refusal);
        }
        AcquireError::Refused(self.refusal.in_time(self.at.saturating_duration_since(now)))
    }
}
