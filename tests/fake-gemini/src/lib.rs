//! A stand-in for the Gemini API that judges, exactly, whether a fleet keeps within its quotas.
//!
//! It shares no code with the broker: what it counts, it counts from the arrivals it saw itself. Each
//! arrival is kept with its instant (monotonic, to the nanosecond) and its cost, and the limit is held over
//! **every** trailing window, with no tolerance: an arrival at `t` is refused if the arrivals in
//! `(t - 60 s, t]`, itself included, would exceed the limit. The window is open on the left, so an arrival
//! exactly 60 s old is outside. A day runs from midnight to midnight in America/Los_Angeles.
//!
//! What counts as an arrival: a well-formed request for an existing model with a working key, at the
//! instant its body has been read. Answers that Google gives before it looks at a quota (a bad request, a key
//! that does not work, an injected 4xx) count nowhere; injected server faults (5xx, hang, reset, a broken
//! stream) do count, since Google may have counted them. A refusal spends nothing.

pub mod bodies;
pub mod client;
pub mod clock;
pub mod config;
pub mod fault;
pub mod journal;
pub mod judge;
pub mod keyring;
pub mod named_error;
pub mod quota_id;
pub mod server;
pub mod shape;
pub mod tokens;
pub mod verdict;

mod answer;
mod api;
mod call;
mod connection;
mod control;
mod day;
mod files;
mod reply;
mod shared;
mod window;

#[cfg(test)]
mod judge_tests;

pub use client::{ControlClient, ControlError};
pub use config::{ConfigError, FakeGeminiConfig, Limits, Tier};
pub use fault::{Fault, FaultMatch, FaultRule, Millis};
pub use journal::{LogEntry, LogPage};
pub use keyring::{KeyChange, fingerprint};
pub use named_error::NamedError;
pub use server::FakeGemini;
pub use shape::Shape;
pub use tokens::{estimate_input_tokens, tokens_of_bytes};
pub use verdict::{Dimension, DimensionVerdict, Verdict};
