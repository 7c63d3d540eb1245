//! What a lease costs, against the ceiling of the machine it is measured on.
//!
//! The ceiling is a server that answers the same messages and does nothing else. Machines are
//! shared and their speed drifts, so no number stands alone: short slices of the ceiling and of the
//! case alternate, and what counts is the ratio within each pair.

mod case;
mod compare;
mod cost;
mod echo;
mod fill;
mod load;
mod mark;
mod memory;
mod plan;
mod raw_redis;
mod run;
mod table;
mod target;
mod telemetry;

pub use echo::serve as serve_echo;
pub use plan::{Args, Command, Plan};
pub use run::run;
pub use table::Table;

/// Why a measurement did not come about.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
