//! Hostile input: good examples are hurt and put to everything that reads what others wrote.
//!
//! Nothing may panic (also not in a task of its own), hang, grow without bound, or show the text of a key; and
//! what is wrong is named. `make fuzz CASES=1000000` tries that many; without a number a short run. What once
//! failed lies in `tests/corpus/<target>/regressions` and is tried first.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this is a test")]

mod answers;
mod calls;
mod client;
mod control;
mod corpus;
mod driver;
mod fields;
mod mutation;
mod settings;
mod sockets;
