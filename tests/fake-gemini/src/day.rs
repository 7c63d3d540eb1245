//! The sum over the current Pacific day, and the worst day ever seen.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Google's days turn at midnight here.
static PACIFIC: LazyLock<TimeZone> = LazyLock::new(|| {
    // A machine without a time zone database still gets today's rules for Los Angeles.
    TimeZone::get("America/Los_Angeles").unwrap_or_else(|_| {
        TimeZone::posix("PST8PDT,M3.2.0,M11.1.0").expect("the literal is a valid POSIX time zone")
    })
});

/// The first instant of the Pacific day after the one that holds `at`.
pub(crate) fn next_pacific_midnight(at: Timestamp) -> Timestamp {
    let local = at.to_zoned(PACIFIC.clone());
    match local.tomorrow().and_then(|day| day.start_of_day()) {
        Ok(midnight) => midnight.timestamp(),
        // Only the end of representable time has no tomorrow.
        Err(_) => Timestamp::MAX,
    }
}

/// What arrived during the current Pacific day.
#[derive(Debug, Default)]
pub(crate) struct DaySum {
    ends_at: Option<Timestamp>,
    sum: u64,
    worst: u64,
    days: u64,
}

impl DaySum {
    /// The sum of the day that holds `now`.
    pub(crate) fn sum(&mut self, now: Timestamp) -> u64 {
        if self.ends_at.is_none_or(|end| now >= end) {
            self.ends_at = Some(next_pacific_midnight(now));
            self.sum = 0;
            self.days += 1;
        }
        self.sum
    }

    /// Counts an arrival of `amount` at `now`.
    pub(crate) fn add(&mut self, now: Timestamp, amount: u64) {
        self.sum = self.sum(now).saturating_add(amount);
        self.worst = self.worst.max(self.sum);
    }

    /// The highest sum any day has held.
    pub(crate) fn worst(&self) -> u64 {
        self.worst
    }

    /// How many days had arrivals.
    pub(crate) fn days(&self) -> u64 {
        self.days
    }
}
