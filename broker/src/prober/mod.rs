//! Checks that cost nothing: disabled keys are looked at in the background and come back by themselves.
//!
//! A key that is blocked because of an answer about the key itself is probed with `countTokens`, which Google
//! neither bills nor counts against a quota of requests. One broker of the fleet probes a key at a time, at
//! growing intervals. The answer is read where all answers are read; a good one is handed to [`Recovery`].

mod probe;
mod rounds;
mod schedule;

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::{sync::watch, task::JoinHandle};

use crate::{catalogue::Catalogue, claims::FleetTurns, pool::watch::ReadAccounts};
pub(crate) use probe::{Finding, client, probe};
use rounds::Rounds;

/// The answer of a [`Recovery`].
pub type RecoveryFuture<'a> = Pin<Box<dyn Future<Output = Result<(), RecoveryError>> + Send + 'a>>;

/// Whoever ends the block of a key in the ledger, so that it comes back through the ramp.
pub trait Recovery: Send + Sync + 'static {
    /// Ends the block of a key's account. A key that is not blocked stays as it is.
    fn recover<'a>(&'a self, pool: &'a str, account: &'a str) -> RecoveryFuture<'a>;
}

/// Why the block of a key could not be ended.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RecoveryError(pub String);

/// Why probing cannot be done.
#[derive(Debug, thiserror::Error)]
#[error("keys cannot be probed: {0}")]
pub struct CannotProbe(#[from] reqwest::Error);

/// Probes disabled keys until it is dropped. Which keys there are, and how they are probed, is what the catalogue
/// says at the time.
#[derive(Debug)]
pub struct Prober(JoinHandle<()>);

impl Prober {
    /// Starts probing.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn start(
        catalogue: watch::Receiver<Arc<Catalogue>>,
        reader: Arc<dyn ReadAccounts>,
        recovery: Arc<dyn Recovery>,
        turns: FleetTurns,
    ) -> Result<Self, CannotProbe> {
        let rounds = Rounds::new(probe::client()?, reader, recovery, turns);
        Ok(Self(tokio::spawn(rounds.run(catalogue))))
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.0.abort();
    }
}
