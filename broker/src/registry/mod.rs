//! The registry: what a fleet of brokers shares beside the ledger's counts.
//!
//! It holds what was decided at run time (keys, pools, disabled and draining keys), what was
//! learned (model aliases), the record of every change, and claims, by which exactly one broker of
//! the fleet does something. Two implementations give the same answers: [`redis`], shared by any
//! number of brokers, and [`embedded`], for one.

pub mod embedded;
pub mod redis;

use std::{future::Future, pin::Pin, time::Duration};

/// A future that a [`Registry`] returns.
pub type RegistryFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'a>>;

/// The seam between a broker and what its fleet shares, in domain verbs.
pub trait Registry: Send + Sync + 'static {
    /// True for exactly one caller of the fleet until `span` has passed; false for all others.
    ///
    /// A claim is not given back: whoever has it, has it for the whole span, also if its process
    /// ends. Leader duty is a claim that is made again and again.
    fn claim<'a>(&'a self, name: &'a str, span: Duration) -> RegistryFuture<'a, bool>;
}

/// Why the registry did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be reached, or did not answer in time; a change may or may not have been made.
    #[error("the registry cannot be reached: {0}")]
    Unavailable(String),
    /// It cannot be used as it is: a locked or damaged file, or rows that another program wrote.
    #[error("{0}")]
    Unusable(String),
}
