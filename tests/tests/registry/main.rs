//! The two registries give the same answers: one acceptance suite runs on both, and what only one of
//! them can show follows it.

mod embedded;
mod redis;
mod suite;
