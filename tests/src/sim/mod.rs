//! Deterministic simulation: brokers over one shared kernel, workers, Google and the network between them, in virtual
//! time, in one thread, by one seeded generator. The same seed gives the same run, byte by byte.
//!
//! What is simulated is told in `docs/simulation.md`.

mod book;
mod broker;
mod cli;
mod events;
mod google;
pub mod log;
mod rules;
mod run;
pub mod scale;
mod seam;
mod setting;
mod variant;
mod worker;

pub use cli::{Args, failure, first_to_find, run, simulate_all};
pub use log::first_difference;
pub use rules::{Rule, Violation};
pub use run::{Counts, Options, Outcome, simulate};
pub use variant::Variant;
