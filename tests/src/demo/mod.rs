//! The demo: a fake Gemini, brokers and a fleet of worker processes on loopback, and proof that they kept
//! within the quota.
//!
//! Nothing in it is a mock of keybroker: the brokers are the real program, the workers are processes that
//! use the Rust SDK, and what they sent is judged by the fake Gemini, which shares no code with the broker.

pub mod fleet;
pub mod options;
pub mod run;
pub mod setting;
pub mod snapshot;
pub mod summary;
pub mod tally;
pub mod view;
pub mod worker;
