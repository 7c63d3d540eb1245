//! How long what was counted goes on counting.

use super::{Batch, FOREVER, Horizon, LimitSpec, Millis, ShardSpec, Span, UNLIMITED, calendar::Calendar};

/// How long a pool's windows last: what a recovery has to wait for that cannot be told what was lost.
#[derive(Debug, Clone, Default)]
pub(super) struct Windows {
    longest_trailing: i64,
    has_day: bool,
    has_month: bool,
    has_held: bool,
    longest_send_within: i64,
    longest_ttl: i64,
}

impl Windows {
    fn learn(&mut self, limit: &LimitSpec) {
        match limit.1 {
            Span::Trailing(span) => self.longest_trailing = self.longest_trailing.max(span),
            // What is only counted exceeds nothing.
            _ if limit.2 >= UNLIMITED => {}
            Span::Held => self.has_held = true,
            Span::Day => self.has_day = true,
            Span::Month => self.has_month = true,
        }
    }

    /// Takes in what a pool's leases may count in.
    pub(super) fn foresee(&mut self, horizon: &Horizon) {
        horizon.limits.iter().for_each(|limit| self.learn(limit));
        self.longest_send_within = self.longest_send_within.max(horizon.send_within);
        self.longest_ttl = self.longest_ttl.max(horizon.ttl);
    }

    /// Takes in the limits of a shard.
    pub(super) fn learn_shard(&mut self, spec: &ShardSpec) {
        spec.accounts.iter().flat_map(|account| &account.limits).for_each(|limit| self.learn(limit));
    }

    /// Takes in the limits that a batch brings, those that Google named among them, and how long its leases last.
    pub(super) fn learn_batch(&mut self, batch: &Batch) {
        let limits = batch.commons.iter().flat_map(|common| &common.limits);
        limits.for_each(|limit| self.learn(limit));
        let learned = batch.settles.iter().flat_map(|settle| &settle.learned);
        learned.for_each(|limit| self.learn(limit));
        for op in &batch.acquires {
            self.longest_send_within = self.longest_send_within.max(op.send_within);
            self.longest_ttl = self.longest_ttl.max(op.ttl);
        }
    }

    /// For how long after its grant a lease counts in trailing windows and holds a slot, in milliseconds.
    pub(super) fn trailing(&self) -> i64 {
        let span = self.longest_trailing;
        let trailing = span + (span + 59) / 60 + self.longest_send_within;
        if self.has_held { trailing.max(self.longest_ttl + 1_000) } else { trailing }
    }

    /// When the days and months end in which leases of before `now` count; 0 if none count by them.
    pub(super) fn calendar(&self, now: Millis, calendar: &Calendar) -> Millis {
        self.calendar_ends(now, calendar).into_iter().max().unwrap_or(0)
    }

    /// The same of the day and of the month.
    pub(super) fn calendar_ends(&self, now: Millis, calendar: &Calendar) -> [Millis; 2] {
        let day = if self.has_day { calendar.day_end(now + self.longest_send_within) } else { 0 };
        let month = if self.has_month { calendar.month_end(now + self.longest_send_within) } else { 0 };
        [day, month]
    }

    /// The earliest instant whose leases count by days and months at `now`; [`FOREVER`] if none do.
    pub(super) fn calendar_from(&self, now: Millis, calendar: &Calendar) -> Millis {
        let day = if self.has_day { last_until(&calendar.day_ends, now) } else { FOREVER };
        let month = if self.has_month { last_until(&calendar.month_ends, now) } else { FOREVER };
        // The day of a lease is that in which its request may be sent.
        day.min(month) - self.longest_send_within
    }
}

fn last_until(ends: &[Millis], at: Millis) -> Millis {
    ends.iter().copied().rfind(|end| *end <= at).unwrap_or(0)
}
