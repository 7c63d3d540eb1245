//! The stage on which client SDKs of all languages play the scenarios of `client-sdk/contract`.

mod scenario;
mod seen;
mod stage;

pub use scenario::{Scenario, StageStep};
pub use seen::{Expected, Seen};
pub use stage::Stage;

/// What went wrong, in words.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
