//! Reading Google's answers, purely: no clock, no network, no state.
//!
//! [`read`] turns what a worker reported into a [`Decision`]; [`redact`] makes a body fit to be seen.
//! No other place in the product knows what an error of Gemini looks like.
//!
//! The way of an error: `body` finds the error object in whichever shape it came (`salvage` does what can be
//! done with torn text), `classify` gives it one [`Signal`], `policy` looks up what to do about that signal.

mod body;
mod classify;
mod decision;
mod delay;
mod outcome;
mod phrases;
mod policy;
mod quota;
mod read;
mod redact;
mod salvage;
mod signal;
mod status;

#[cfg(test)]
mod tests;

pub use decision::{Action, Advice, Block, Charge, Decision, FOREVER, Length, Reason, Scope};
pub use outcome::{Outcome, TransportKind};
pub use quota::{Dimension, LearnedQuota, Window, parse_quota_id};
pub use read::read;
pub use redact::{MAX_REDACTED, redact};
pub use signal::Signal;

/// How many bytes of a body are read at most; the rest is ignored.
pub const MAX_BODY: usize = 64 * 1024;
