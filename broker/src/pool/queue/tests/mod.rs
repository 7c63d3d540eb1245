//! Tests of waiting.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

mod asking;
mod deadlines;
mod fairness;
mod holds;
mod ledger;
mod order;
mod sums;
mod world;
