//! Chaos: real fleets, failures chosen by a seed, and a checker that knows nothing of the broker.
//!
//! A **plan** is a pure function of a seed. A **run** carries it out: two **hosts** with a **cable** between
//! them, a **store** of Redis servers (or none), brokers and workers as processes, and the fake Gemini as judge.
//! Faults come one at a time; what was killed is started again; then everything is checked.

pub mod cable;
pub mod campaign;
pub mod checker;
pub mod clock;
pub mod control;
pub mod ending;
pub mod fault;
pub mod fleet;
pub mod hosts;
pub mod interrupt;
pub mod member;
pub mod options;
pub mod plan;
pub mod quota;
pub mod record;
pub mod run;
pub mod side;
pub mod store;
pub mod strike;
pub mod table;
pub mod topology;
pub mod worker;
