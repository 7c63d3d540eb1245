//! When Pacific days and months end.
//!
//! Google resets daily quota at midnight in America/Los_Angeles, with its changes between standard
//! and daylight time (<https://ai.google.dev/gemini-api/docs/rate-limits>).

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};

use super::{Batch, FOREVER, Millis};

/// Ends of days and months around an instant, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// Ends of days: two before the instant, three or more after.
    pub day_ends: Vec<Millis>,
    /// Ends of months: two before, two or more after.
    pub month_ends: Vec<Millis>,
}

impl Calendar {
    /// The calendar around `now`.
    pub fn around(now: Millis) -> Self {
        let (zone, today) = (pacific(), date_of(now));
        let start_of = |date: Date| start_of(date, &zone);
        Self {
            day_ends: (-2..=3).map(|days| start_of(today.saturating_add(days.days()))).collect(),
            month_ends: (-1..=2)
                .map(|months| start_of(today.first_of_month().saturating_add(months.months())))
                .collect(),
        }
    }

    /// The calendar that a batch carries.
    pub fn of(batch: &Batch) -> Self {
        Self { day_ends: batch.day_ends.clone(), month_ends: batch.month_ends.clone() }
    }

    /// Whether `now` is far enough inside for every lease that can still be settled.
    pub fn covers(&self, now: Millis) -> bool {
        let inside = |ends: &[Millis], margin: usize| {
            ends.len() > margin && ends[0] <= now && ends[ends.len() - 1 - margin] > now
        };
        inside(&self.day_ends, 1) && inside(&self.month_ends, 0)
    }

    /// When the day ends in which `at` lies.
    pub fn day_end(&self, at: Millis) -> Millis {
        first_after(&self.day_ends, at)
    }

    /// When the month ends in which `at` lies.
    pub fn month_end(&self, at: Millis) -> Millis {
        first_after(&self.month_ends, at)
    }
}

/// The system's clock.
pub fn wall_clock() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

/// The Pacific day in which an instant lies.
pub fn date_of(at: Millis) -> Date {
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(pacific()).date()
}

/// When a Pacific day ends: the name under which its usage is kept.
pub fn day_end_of(date: Date) -> Millis {
    date.tomorrow().map_or(FOREVER, |tomorrow| start_of(tomorrow, &pacific()))
}

fn pacific() -> TimeZone {
    TimeZone::get("America/Los_Angeles").expect("the time zone database is compiled in")
}

fn start_of(date: Date, zone: &TimeZone) -> Millis {
    date.to_zoned(zone.clone()).map_or(0, |start| start.timestamp().as_millisecond())
}

fn first_after(ends: &[Millis], at: Millis) -> Millis {
    ends.iter().copied().find(|end| *end > at).unwrap_or(FOREVER)
}
