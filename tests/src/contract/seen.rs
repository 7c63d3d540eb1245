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
        let same = |expected: Option<i64>, seen: i64| expected.is_none_or(|expected| expected == seen);
        let as_many = |expected: Option<u64>, seen: u64| expected.is_none_or(|expected| expected == seen);
        same(self.in_flight, seen.in_flight)
            && same(self.granted, seen.granted)
            && same(self.settled, seen.settled)
            && same(self.waiting, seen.waiting)
            && as_many(self.calls, seen.calls)
            && as_many(self.refused, seen.refused)
            && as_many(self.keys_in_url, seen.keys_in_url)
    }
}
