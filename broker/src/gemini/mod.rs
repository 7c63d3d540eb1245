//! Reading Google's answers, purely: no clock, no network, no state.
//!
//! `read` turns what a worker reported into a [`Decision`]; `redact` makes a body fit to be seen.
//! No other place in the product knows what an error of Gemini looks like.

mod decision;
mod outcome;
mod quota;
mod signal;

pub use decision::{Action, Advice, Block, Charge, Decision, FOREVER, Length, Reason, Scope};
pub use outcome::{Outcome, TransportKind};
pub use quota::{Dimension, LearnedQuota, Window, parse_quota_id};
pub use signal::Signal;

/// How many bytes of a body are read at most; the rest is ignored.
pub const MAX_BODY: usize = 64 * 1024;
