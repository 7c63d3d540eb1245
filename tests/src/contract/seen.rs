//! What the books of the broker and of the fake Gemini say.

use serde::{Deserialize, Serialize};

/// What is seen. Counts of brokers are since they started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Requests in flight, by the ledger.
    pub in_flight: i64,
    /// Leases granted.
    pub granted: i64,
    /// Leases reported.
    pub settled: i64,
    /// Acquires that wait.
    pub waiting: i64,
    /// Calls that reached Gemini.
    pub calls: u64,
    /// Calls that Gemini's quota refused.
    pub refused: u64,
    /// Calls with a key in their URL.
    pub keys_in_url: u64,
}

/// What is to be seen; what is not named is free.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expected {
    in_flight: Option<i64>,
    granted: Option<i64>,
    settled: Option<i64>,
    waiting: Option<i64>,
    calls: Option<u64>,
    refused: Option<u64>,
    keys_in_url: Option<u64>,
}

impl Expected {
    /// Whether this is what is seen.
    pub fn is(&self, seen: &Seen) -> bool {
        is(self.in_flight, seen.in_flight)
            && is(self.granted, seen.granted)
            && is(self.settled, seen.settled)
            && is(self.waiting, seen.waiting)
            && is(self.calls, seen.calls)
            && is(self.refused, seen.refused)
            && is(self.keys_in_url, seen.keys_in_url)
    }
}

fn is<T: PartialEq>(expected: Option<T>, seen: T) -> bool {
    expected.is_none_or(|expected| expected == seen)
}
