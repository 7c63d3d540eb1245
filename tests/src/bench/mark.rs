//! The marks that the broker is held to. A mark that is missed fails nothing: it is said.

use serde::Serialize;

use super::{
    case::{Case, Ledger, Load, Shape},
    compare::Comparison,
};

/// A figure and what it should be.
#[derive(Debug, Clone, Serialize)]
pub struct Mark {
    /// What it is about.
    pub about: String,
    /// The figure.
    pub figure: f64,
    /// Where it should end.
    pub bound: f64,
    /// Whether it should be at least the bound; else at most.
    pub at_least: bool,
    /// Whether it is.
    pub ok: bool,
}

impl Mark {
    fn at_least(about: &str, figure: f64, bound: f64) -> Self {
        Self { about: about.to_owned(), figure, bound, at_least: true, ok: figure >= bound }
    }

    fn at_most(about: &str, figure: f64, bound: f64) -> Self {
        Self { about: about.to_owned(), figure, bound, at_least: false, ok: figure <= bound }
    }

    /// The marks of a case: they are for the call that stands in a worker's way, which is Acquire.
    pub(super) fn of(case: &Case, outcome: &Comparison) -> Vec<Self> {
        if case.shape != Shape::Acquire {
            return Vec::new();
        }
        let ratio = outcome.ratio.median;
        match (case.load, case.ledger) {
            (Load::Alone, _) => vec![Self::at_most("p50 of echo", ratio, 2.5)],
            (Load::Saturated, Ledger::Redis) => {
                let calls = outcome.case.cost.calls / outcome.case.leases as f64;
                vec![
                    Self::at_least("rate of echo", ratio, 0.5),
                    Self::at_most("Redis calls a lease", calls, 0.1),
                ]
            }
            (Load::Saturated, Ledger::Embedded) => vec![Self::at_least("rate of echo", ratio, 0.7)],
        }
    }

    /// The mark of a broker that tells of itself against one that does not: what it may cost.
    pub(super) fn of_telemetry(costs: f64) -> Self {
        Self::at_most("cost of telemetry", costs, 0.05)
    }

    /// The same of the processor time that a lease takes.
    pub(super) fn of_telemetry_cpu(costs: f64) -> Self {
        Self::at_most("its processor time", costs, 0.05)
    }

    /// The mark of many keys against few: by how much a lease takes longer.
    pub(super) fn of_growth(times_slower: f64) -> Self {
        Self::at_most("time a lease", times_slower, 1.15)
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (verdict, sign) = (if self.ok { "ok" } else { "missed" }, if self.at_least { "≥" } else { "≤" });
        write!(f, "{verdict}: {} {:.2} {sign} {}", self.about, self.figure, self.bound)
    }
}
