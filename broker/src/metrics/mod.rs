//! What a broker counts and measures of itself, under OpenTelemetry's names; `docs/metrics.md` has them all.
//!
//! What happens is counted where it happens ([`Metrics`]). How things stand is looked up when somebody asks
//! ([`Standing`]). Neither holds the text of a key, and no label takes an unbounded number of values.

mod bound;
mod export;
mod standing;

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue, Value, global,
    metrics::{BoundCounter, BoundHistogram, Counter, Histogram},
};

use self::bound::Bound;

pub use export::Export;
pub use standing::Standing;

/// By what this broker's instruments are known.
const SCOPE: &str = "keybroker";
/// The bounds of durations, in seconds: a call to a ledger takes a millisecond, a wait up to ten minutes.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];
/// The bounds of what goes in one call to the ledger.
const OPERATIONS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// The longest id of a quota that is a label; longer ones are `other`.
const LONGEST_QUOTA_ID: usize = 128;

/// What happened.
#[derive(Debug)]
pub struct Metrics {
    granted: Counter<u64>,
    refused: Counter<u64>,
    settled: Counter<u64>,
    gemini_requests: Counter<u64>,
    quota_exceeded: Counter<u64>,
    tokens: Counter<u64>,
    acquire: Histogram<f64>,
    ledger_call: Histogram<f64>,
    ledger_batch: Histogram<u64>,
    // The same with their labels.
    granted_of: Bound<Granted>,
    refused_of: Bound<(BoundCounter<u64>, BoundHistogram<f64>)>,
    settled_of: Bound<(BoundCounter<u64>, BoundCounter<u64>)>,
    answered_of: Bound<BoundCounter<u64>>,
    called_of: Bound<(BoundHistogram<u64>, BoundHistogram<f64>)>,
}

/// What counts a grant.
#[derive(Debug)]
struct Granted {
    leases: BoundCounter<u64>,
    reserved: BoundCounter<u64>,
    took: BoundHistogram<f64>,
}

impl Default for Metrics {
    /// Counts for whoever exports; where nobody does, it costs next to nothing.
    fn default() -> Self {
        let meter = global::meter(SCOPE);
        Self {
            granted: meter
                .u64_counter("keybroker.leases.granted")
                .with_description("Leases handed out")
                .build(),
            refused: meter
                .u64_counter("keybroker.leases.refused")
                .with_description("Acquires that got no lease, by reason")
                .build(),
            settled: meter
                .u64_counter("keybroker.leases.settled")
                .with_description("Leases whose report was taken, by what the answer meant")
                .build(),
            gemini_requests: meter
                .u64_counter("gemini.requests")
                .with_description(
                    "Requests to Gemini that were reported, by HTTP status or by how they failed",
                )
                .build(),
            quota_exceeded: meter
                .u64_counter("gemini.quota_exceeded")
                .with_description("Refusals by Gemini that named a quota, by Google's id of it")
                .build(),
            tokens: meter
                .u64_counter("keybroker.tokens")
                .with_description(
                    "Input tokens that were reserved by leases, and that reports said were used",
                )
                .build(),
            acquire: meter
                .f64_histogram("keybroker.acquire.duration")
                .with_unit("s")
                .with_description("How long acquires took, with their waiting")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            ledger_call: meter
                .f64_histogram("keybroker.ledger.call.duration")
                .with_unit("s")
                .with_description("How long calls to the ledger took, by outcome")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            ledger_batch: meter
                .u64_histogram("keybroker.ledger.batch.size")
                .with_description("Operations in one call to the ledger")
                .with_boundaries(OPERATIONS.to_vec())
                .build(),
            granted_of: Bound::default(),
            refused_of: Bound::default(),
            settled_of: Bound::default(),
            answered_of: Bound::default(),
            called_of: Bound::default(),
        }
    }
}

fn label(name: &'static str, value: &str) -> KeyValue {
    KeyValue::new(name, Value::String(value.to_owned().into()))
}

fn shared(name: &'static str, value: &Arc<str>) -> KeyValue {
    KeyValue::new(name, Value::String(value.clone().into()))
}

fn word(name: &'static str, value: &'static str) -> KeyValue {
    KeyValue::new(name, value)
}

impl Metrics {
    /// A lease was handed out, for which so many input tokens were reserved.
    pub fn granted(&self, pool: &Arc<str>, model: &str, project: &str, took: Duration, reserved: i64) {
        let bind = || {
            let of_model = [shared("pool", pool), label("model", model), label("project", project)];
            let leases = self.granted.bind(&of_model);
            let [pool, model, _] = of_model;
            Granted {
                leases,
                reserved: self.tokens.bind(&[pool.clone(), model, word("kind", "reserved")]),
                took: self.acquire.bind(&[pool, word("outcome", "granted")]),
            }
        };
        self.granted_of.count(&[pool, model, project], bind, |of| {
            of.leases.add(1);
            if let Ok(reserved @ 1..) = u64::try_from(reserved) {
                of.reserved.add(reserved);
            }
            of.took.record(took.as_secs_f64());
        });
    }

    /// No lease was to be had.
    pub fn refused(&self, pool: &Arc<str>, model: &str, reason: &'static str, took: Duration) {
        let bind = || {
            let pool = shared("pool", pool);
            let labels = [pool.clone(), label("model", model), word("reason", reason)];
            (self.refused.bind(&labels), self.acquire.bind(&[pool, word("outcome", "refused")]))
        };
        self.refused_of.count(&[pool, model, reason], bind, |(refused, acquire)| {
            refused.add(1);
            acquire.record(took.as_secs_f64());
        });
    }

    /// A report settled a lease.
    pub fn settled(
        &self,
        pool: &Arc<str>,
        model: &str,
        project: &str,
        outcome: &'static str,
        input_tokens: Option<i64>,
    ) {
        let bind = || {
            let of_model = [
                shared("pool", pool),
                label("model", model),
                label("project", project),
                word("outcome", outcome),
            ];
            let settled = self.settled.bind(&of_model);
            let [pool, model, ..] = of_model;
            (settled, self.tokens.bind(&[pool, model, word("kind", "used")]))
        };
        self.settled_of.count(&[pool, model, project, outcome], bind, |(settled, tokens)| {
            settled.add(1);
            if let Some(used @ 1..) = input_tokens.and_then(|used| u64::try_from(used).ok()) {
                tokens.add(used);
            }
        });
    }

    /// A request to Gemini was reported: its HTTP status, or how it failed without one.
    pub fn gemini_answered(&self, pool: &Arc<str>, status: Result<u16, &'static str>) {
        let label = match status {
            Ok(status @ 100..=599) => KeyValue::new("status", i64::from(status)),
            Ok(_) => word("status", "other"),
            Err(failure) => word("status", failure),
        };
        let text = label.value.as_str().into_owned();
        let bind = || self.gemini_requests.bind(&[shared("pool", pool), label]);
        self.answered_of.count(&[pool, &text], bind, |requests| requests.add(1));
    }

    /// Gemini named a quota that is spent.
    pub fn quota_exceeded(&self, pool: &Arc<str>, quota_id: &str) {
        // It comes from a body that a worker sent.
        let is_id = (1..=LONGEST_QUOTA_ID).contains(&quota_id.len())
            && quota_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let quota_id = if is_id { label("quota_id", quota_id) } else { word("quota_id", "other") };
        self.quota_exceeded.add(1, &[shared("pool", pool), quota_id]);
    }

    /// The ledger was called with so many operations.
    pub fn ledger_called(&self, pool: &Arc<str>, operations: usize, took: Duration, outcome: &'static str) {
        let bind = || {
            let pool = shared("pool", pool);
            let batch = self.ledger_batch.bind(std::slice::from_ref(&pool));
            (batch, self.ledger_call.bind(&[pool, word("outcome", outcome)]))
        };
        self.called_of.count(&[pool, outcome], bind, |(batch, call)| {
            batch.record(operations as u64);
            call.record(took.as_secs_f64());
        });
    }
}
