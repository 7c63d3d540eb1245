//! What operators do while brokers run, by real processes: keys, pools, and the record of changes.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

mod audit;
mod command_line;
mod drain;
mod import;
mod input;
mod keys;
mod master_key;
mod operator;
mod pools;
mod reset;
mod rotation;
mod secrets;
