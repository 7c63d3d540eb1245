//! What becomes of a broker that is asked for five times as much as it can answer.
//!
//! Capacity is found first, by callers that ask again as soon as they were answered. Then a process of its own
//! asks at that rate, at five times that rate, and again at that rate, whatever the answers are. Machines are
//! shared and their speed drifts: what counts are the ratios.

mod generate;
mod outcome;
mod run;
mod stage;

pub use generate::{Load, generate};
pub use outcome::{Outcome, Second};
pub use run::{Measured, Plan, measure};
pub use stage::Stage;

/// Why a measurement did not come about.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
