//! The 23 answers of Google, each played through a fake Gemini, the Rust SDK and a real broker.
//!
//! [`table`] says what must happen, [`play`] makes it happen and checks it, [`beyond`] holds what a row
//! promises beyond that. The tests and `make test-answers` run the same rows.

pub mod beyond;
pub mod play;
pub mod row;
pub mod run;
pub mod stage;
pub mod table;
