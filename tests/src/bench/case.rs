//! The cases: which ledger, how many keys, which calls, how many callers.

use serde::Serialize;

/// Where the broker counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ledger {
    /// A private redis-server.
    Redis,
    /// A data directory of its own.
    Embedded,
}

/// What a caller does in a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Takes leases.
    Acquire,
    /// Takes a lease and reports it, in two calls.
    AcquireReport,
}

/// How many callers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// One, who waits for each answer.
    Alone,
    /// As many as keep the server busy.
    Saturated,
}

/// One case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The ledger.
    pub ledger: Ledger,
    /// The number of keys.
    pub keys: usize,
    /// The calls.
    pub shape: Shape,
    /// The callers.
    pub load: Load,
}

impl Case {
    /// The cases of one broker.
    pub fn of(ledger: Ledger, keys: usize) -> Vec<Self> {
        let loads = [Load::Alone, Load::Saturated];
        let with_load = |shape| loads.map(|load| Self { ledger, keys, shape, load });
        [Shape::Acquire, Shape::AcquireReport].into_iter().flat_map(with_load).collect()
    }

    /// Such as `redis/1000/acquire/saturated`.
    pub fn name(&self) -> String {
        format!("{}/{}/{}/{}", self.ledger.name(), self.keys, self.shape.name(), self.load.name())
    }
}

impl Ledger {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Embedded => "embedded",
        }
    }
}

impl Shape {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acquire => "acquire",
            Self::AcquireReport => "acquire+report",
        }
    }
}

impl Load {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Saturated => "saturated",
        }
    }
}
