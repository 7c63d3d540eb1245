//! Hooks: events are told to a URL or to a local program.
//!
//! [`Hooks`] listens to the events of a broker. Each hook has a bounded queue and a worker of its own, so
//! that neither a lease nor another hook ever waits for one. Before an event is told, the hook's cooldown is
//! claimed for the whole fleet (see `turn`); then it is tried as often as configured, with growing pauses.

mod attempt;
mod command;
mod counts;
mod delivery;
mod message;
mod post;
mod runner;
mod turn;
mod worker;

#[cfg(test)]
mod tests;

pub use counts::HookCounts;
pub use runner::{CannotStart, Hooks};
