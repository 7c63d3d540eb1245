//! A lease of the book.

use keybroker::ledger::{Amounts, Dimension, Millis, Span, calendar::Calendar};

use super::{KNOWN_EXPIRED, KNOWN_SETTLED};

/// What is known of a lease.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) unique: String,
    pub(super) accounts: Vec<String>,
    pub(super) granted_at: Millis,
    pub(super) send_within: i64,
    pub(super) expires_at: Millis,
    pub(super) amounts: Amounts,
    pub(super) state: State,
    /// The trailing limits that held at the grant.
    pub(super) caps: Vec<Cap>,
}

#[derive(Debug)]
pub(super) enum State {
    Held,
    Settled { memo: String, at: Millis },
}

/// A trailing limit as it held at a grant.
#[derive(Debug)]
pub(super) struct Cap {
    pub(super) account: String,
    pub(super) dimension: Dimension,
    pub(super) length: i64,
    pub(super) limit: i64,
}

impl Lease {
    /// When its charge ends in a window of that kind, by the definition in `ARCHITECTURE.md`.
    pub(super) fn charge_end(&self, span: Span, calendar: &Calendar) -> Millis {
        match span {
            Span::Trailing(length) => {
                let sub_bucket = length.div_euclid(60) + i64::from(length % 60 != 0);
                let begins = self.granted_at.div_euclid(sub_bucket) * sub_bucket;
                begins + sub_bucket + length + self.send_within
            }
            Span::Held => self.expires_at,
            Span::Day => calendar.day_end(self.granted_at + self.send_within),
            Span::Month => calendar.month_end(self.granted_at + self.send_within),
        }
    }

    /// Whether the ledger may have forgotten it.
    pub(super) fn is_forgotten(&self, now: Millis) -> bool {
        match &self.state {
            State::Held => self.expires_at + KNOWN_EXPIRED <= now,
            State::Settled { at, .. } => at + KNOWN_SETTLED <= now,
        }
    }
}
