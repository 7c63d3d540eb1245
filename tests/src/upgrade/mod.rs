//! Brokers replaced one by one under load, by another version and back.
//!
//! Workers share a quota that is always short, so that some of them wait in every broker that is stopped. Whoever judges
//! is the fake Gemini, which knows nothing of brokers.

mod balancer;
mod load;
mod run;

pub use load::Calls;
pub use run::{Outcome, Plan, Replaced, run};

/// Why no upgrade came about.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
