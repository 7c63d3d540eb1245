//! Usage: what the ledger recorded of settled leases, summed up as it is asked for.
//!
//! The ledger keeps one sum for each Pacific day, consumer, quota model, project, key and outcome of a
//! pool. A query chooses among them and adds up what it does not tell apart.

mod place;
mod query;
mod sums;
#[cfg(test)]
mod tests;

pub use place::{Dimension, Place};
pub use query::{LONGEST_SPAN, Page, Query, Row};
pub use sums::Sums;
