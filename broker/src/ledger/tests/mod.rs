//! The rules of the ledger, one sentence a test.

mod account;
mod calendar;
mod kernel;
mod learned;
mod order;
mod probe;
mod ramp;
mod settle;
mod shard;
mod usage;
mod window;
pub(super) mod world;
