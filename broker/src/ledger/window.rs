//! A window counts amounts that each end at an instant.
//!
//! Trailing, calendar and held windows differ only in when a charge ends; the rest is one rule:
//! what is used is the sum of the amounts that have not ended, and a request fits when used plus
//! its amount does not exceed the limit.

use serde::{Deserialize, Serialize};

use super::{
    calendar::Calendar,
    types::{Dimension, FOREVER, Millis, Mode, Span},
};

/// In how many sub-buckets a trailing window is counted.
pub const SUB_BUCKETS: i64 = 60;
/// How long each of the two stages of a ramp lasts, in milliseconds.
pub const RAMP_STAGE: i64 = 15_000;
/// How long a ramp lasts.
pub const RAMP: i64 = 2 * RAMP_STAGE;

/// A limit and what counts against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// What is counted.
    pub dimension: Dimension,
    /// For how long.
    pub span: Span,
    /// The most that may count at any instant: what was configured or learned, as the mode says.
    pub limit: i64,
    /// `end, amount` pairs by ascending end.
    entries: Vec<i64>,
    /// The ledger's epoch when the limit was introduced: leases of an earlier one were not counted
    /// here, so nothing of theirs is corrected here.
    pub since: i64,
    /// The limit that was configured.
    pub configured: i64,
    /// The limit that Google named last; 0 if it named none.
    pub learned: i64,
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
        Self { dimension, span, limit, entries: Vec::new(), since, configured: limit, learned: 0 }
    }

    /// Sets the limit anew from what was configured and learned.
    pub fn settle_limit(&mut self, mode: Mode) {
        self.limit = match mode {
            _ if self.learned == 0 => self.configured,
            Mode::Learning => self.learned,
            Mode::Hard | Mode::Soft => self.configured.min(self.learned),
        };
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

    /// What counts at `now`.
    pub fn used(&self, now: Millis) -> i64 {
        self.entries.chunks_exact(2).filter(|entry| entry[0] > now).map(|entry| entry[1]).sum()
    }

    /// The earliest instant, not before `now`, at which `amount` fits; [`FOREVER`] if it never does.
    ///
    /// `ramp_from` is when the ramp of the candidate began, 0 if there is none: a quarter of a trailing
    /// window's limit is open to it for one stage, half for another, then all.
    pub fn ready_at(&self, now: Millis, amount: i64, ramp_from: Millis) -> Millis {
        if amount <= 0 {
            return now;
        }
        if amount > self.limit {
            return FOREVER;
        }
        if ramp_from == 0 || !matches!(self.span, Span::Trailing(_)) {
            return self.fits_at(now, amount, self.limit);
        }
        let stages =
            [(ramp_from + RAMP_STAGE, (self.limit + 3) / 4), (ramp_from + RAMP, (self.limit + 1) / 2)];
        let mut from = now;
        for (end, limit) in stages {
            if end <= from {
                continue;
            }
            if amount <= limit {
                let at = self.fits_at(from, amount, limit);
                if at < end {
                    return at;
                }
            }
            from = end;
        }
        self.fits_at(from, amount, self.limit)
    }

    /// The earliest instant, not before `from`, at which `amount` fits under a limit that is not smaller.
    fn fits_at(&self, from: Millis, amount: i64, limit: i64) -> Millis {
        let mut excess = self.used(from) + amount - limit;
        let mut at = from;
        for entry in self.entries.chunks_exact(2).filter(|entry| entry[0] > from) {
            if excess <= 0 {
                break;
            }
            excess -= entry[1];
            at = entry[0];
        }
        at
    }

    /// Counts `amount` until `end`; how much of it counts at all.
    pub fn add(&mut self, now: Millis, end: Millis, amount: i64) -> i64 {
        if amount <= 0 || end <= now {
            return 0;
        }
        self.change(now, end, amount);
        amount
    }

    /// Takes `amount` back from what counts until `end`, never below nothing; how much that is.
    pub fn subtract(&mut self, now: Millis, end: Millis, amount: i64) -> i64 {
        let counted = self.entries.chunks_exact(2).find(|entry| entry[0] == end && end > now);
        let taken = counted.map_or(0, |entry| amount.min(entry[1]));
        if taken > 0 {
            self.change(now, end, -taken);
        }
        taken
    }

    /// Changes what counts until `end` by an amount that is known to be right.
    pub(super) fn change(&mut self, now: Millis, end: Millis, by: i64) {
        self.forget(now);
        let mut at = self.entries.len();
        while at > 0 && self.entries[at - 2] > end {
            at -= 2;
        }
        if at > 0 && self.entries[at - 2] == end {
            self.entries[at - 1] += by;
            if self.entries[at - 1] == 0 {
                self.entries.drain(at - 2..at);
            }
        } else {
            self.entries.splice(at..at, [end, by]);
        }
    }

    /// When the last of what counts ends.
    pub fn counts_until(&self) -> Millis {
        self.entries.len().checked_sub(2).map_or(0, |last| self.entries[last])
    }

    /// Drops what has ended.
    pub fn forget(&mut self, now: Millis) {
        let ended = self.entries.chunks_exact(2).take_while(|entry| entry[0] <= now).count();
        self.entries.drain(..ended * 2);
    }
}
