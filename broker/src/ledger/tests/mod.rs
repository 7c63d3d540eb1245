//! The rules of the ledger, one sentence a test.

mod account;
mod calendar;
mod kernel;
mod probe;
mod settle;
mod shard;
mod window;
mod world;
