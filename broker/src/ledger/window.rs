//! A window counts amounts that each end at an instant.
//!
//! Trailing, calendar and held windows differ only in when a charge ends; the rest is one rule:
//! what is used is the sum of the amounts that have not ended, and a request fits when used plus
//! its amount does not exceed the limit.

use serde::{Deserialize, Serialize};

use super::{
    calendar::Calendar,
    types::{Dimension, FOREVER, Millis, Span},
};

/// In how many sub-buckets a trailing window is counted.
pub const SUB_BUCKETS: i64 = 60;

/// A limit and what counts against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// What is counted.
    pub dimension: Dimension,
    /// For how long.
    pub span: Span,
    /// The most that may count at any instant.
    pub limit: i64,
    /// `end, amount` pairs by ascending end.
    entries: Vec<i64>,
    /// The ledger's epoch when the limit was introduced: leases of an earlier one were not counted
    /// here, so nothing of theirs is corrected here.
    pub since: i64,
}

/// When a charge was granted and how long it may take to reach Google.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charged {
    /// The instant of the grant.
    pub granted_at: Millis,
    /// The request is sent within this many milliseconds of it.
    pub send_within: i64,
    /// The lease's expiry.
    pub expires_at: Millis,
}

impl Window {
    /// A window in which nothing counts yet.
    pub fn new(dimension: Dimension, span: Span, limit: i64, since: i64) -> Self {
        Self { dimension, span, limit, entries: Vec::new(), since }
    }

    /// When a charge ends. Google counts a request when it arrives, at any time from the grant to
    /// `send_within` later: a trailing window keeps it for its span after the latest arrival,
    /// rounded up to a sub-bucket; a calendar window keeps what may arrive in the next period for
    /// that period too.
    pub fn end_of(&self, charged: Charged, calendar: &Calendar) -> Millis {
        match self.span {
            Span::Trailing(span) => {
                let width = (span + SUB_BUCKETS - 1) / SUB_BUCKETS;
                (charged.granted_at / width + 1) * width + span + charged.send_within
            }
            Span::Held => charged.expires_at,
            Span::Day => calendar.day_end(charged.granted_at + charged.send_within),
            Span::Month => calendar.month_end(charged.granted_at + charged.send_within),
        }
    }

    /// How much of a request counts here.
    pub fn amount(&self, permits: i64, tokens: i64) -> i64 {
        match self.dimension {
            Dimension::Requests | Dimension::InFlight => permits,
            Dimension::InputTokens | Dimension::TotalTokens => tokens,
        }
    }

    /// What counts at `now`.
    pub fn used(&self, now: Millis) -> i64 {
        self.entries.chunks_exact(2).filter(|entry| entry[0] > now).map(|entry| entry[1]).sum()
    }

    /// The earliest instant, not before `now`, at which `amount` fits; [`FOREVER`] if it never does.
    pub fn ready_at(&self, now: Millis, amount: i64) -> Millis {
        if amount <= 0 {
            return now;
        }
        if amount > self.limit {
            return FOREVER;
        }
        let mut excess = self.used(now) + amount - self.limit;
        let mut at = now;
        for entry in self.entries.chunks_exact(2).filter(|entry| entry[0] > now) {
            if excess <= 0 {
                break;
            }
            excess -= entry[1];
            at = entry[0];
        }
        at
    }

    /// Counts `amount` until `end`.
    pub fn add(&mut self, now: Millis, end: Millis, amount: i64) {
        self.forget(now);
        if amount <= 0 || end <= now {
            return;
        }
        let mut at = self.entries.len();
        while at > 0 && self.entries[at - 2] > end {
            at -= 2;
        }
        if at > 0 && self.entries[at - 2] == end {
            self.entries[at - 1] += amount;
        } else {
            self.entries.splice(at..at, [end, amount]);
        }
    }

    /// Takes `amount` back from what counts until `end`, never below nothing.
    pub fn subtract(&mut self, now: Millis, end: Millis, amount: i64) {
        self.forget(now);
        let Some(at) = self.entries.chunks_exact(2).position(|entry| entry[0] == end) else { return };
        self.entries[at * 2 + 1] -= amount;
        if self.entries[at * 2 + 1] <= 0 {
            self.entries.drain(at * 2..at * 2 + 2);
        }
    }

    /// Drops what has ended.
    pub fn forget(&mut self, now: Millis) {
        let ended = self.entries.chunks_exact(2).take_while(|entry| entry[0] <= now).count();
        self.entries.drain(..ended * 2);
    }
}
