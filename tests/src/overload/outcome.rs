//! What came of a load.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// No call takes longer, in microseconds.
const LONGEST: u64 = 60_000_000;

/// What came of a load. Times are microseconds, from the instant at which a call was due.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Acquires that were sent.
    pub offered: u64,
    /// Acquires that were due and not sent, because too many of this process' were under way.
    pub unsent: u64,
    /// Leases.
    pub granted: u64,
    /// Acquires that were refused, by the reason; by the code if there was none.
    pub refused: BTreeMap<String, u64>,
    /// Reports that were refused, likewise.
    pub reports_refused: BTreeMap<String, u64>,
    /// Reports that settled their lease.
    pub settled: u64,
    /// The median of the acquires that were granted.
    pub p50: u64,
    /// Their 99th percentile.
    pub p99: u64,
    /// The 99th percentile of those that were refused.
    pub refused_p99: u64,
    /// By the second in which they were due.
    pub seconds: Vec<Second>,
    /// How long it took until all were answered, in seconds.
    pub elapsed: f64,
}

/// A second of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Leases.
    pub granted: u64,
    /// The 99th percentile of the acquires that were granted.
    pub p99: u64,
}

impl Outcome {
    /// How many acquires were refused for this reason.
    pub fn refused_for(&self, reason: &str) -> u64 {
        self.refused.get(reason).copied().unwrap_or_default()
    }

    /// Leases a second.
    pub fn rate(&self) -> f64 {
        self.granted as f64 / self.elapsed.max(f64::MIN_POSITIVE)
    }
}

/// Counts.
pub(super) struct Counter {
    pub(super) outcome: Outcome,
    granted: Histogram<u64>,
    refused: Histogram<u64>,
    seconds: Vec<Histogram<u64>>,
}

impl Counter {
    pub(super) fn new(seconds: usize) -> Self {
        Self {
            outcome: Outcome::default(),
            granted: times(),
            refused: times(),
            seconds: vec![times(); seconds],
        }
    }

    pub(super) fn granted(&mut self, second: usize, took: Duration) {
        self.outcome.granted += 1;
        let took = micros(took);
        self.granted.saturating_record(took);
        if let Some(second) = self.seconds.get_mut(second) {
            second.saturating_record(took);
        }
    }

    pub(super) fn refused(&mut self, reason: String, took: Duration) {
        *self.outcome.refused.entry(reason).or_default() += 1;
        self.refused.saturating_record(micros(took));
    }

    pub(super) fn finish(mut self, elapsed: Duration) -> Outcome {
        self.outcome.p50 = self.granted.value_at_quantile(0.5);
        self.outcome.p99 = self.granted.value_at_quantile(0.99);
        self.outcome.refused_p99 = self.refused.value_at_quantile(0.99);
        let second =
            |times: &Histogram<u64>| Second { granted: times.len(), p99: times.value_at_quantile(0.99) };
        self.outcome.seconds = self.seconds.iter().map(second).collect();
        self.outcome.elapsed = elapsed.as_secs_f64();
        self.outcome
    }
}

fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 2)
        .expect("the bounds are in order and the precision is one that exists")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(LONGEST)
}
