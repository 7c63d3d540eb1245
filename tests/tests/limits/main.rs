//! Limits, with real brokers on both ledgers: every dimension and window, every owner, money, margins,
//! smoothing, and what Google's refusals teach.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

mod aliases;
mod learned;
mod margins;
mod owners;
mod patterns;
mod played;
mod spend;
mod support;
mod windows;
