//! A grant on its way to a waiter.

use std::sync::Arc;

use crate::pool::{Grant, Pool};

/// A grant that goes back to the ledger if nobody takes it: its waiter may leave at any moment.
pub(super) struct Handed {
    grant: Option<Grant>,
    pool: Arc<Pool>,
}

impl Handed {
    pub(super) fn new(grant: Grant, pool: Arc<Pool>) -> Self {
        Self { grant: Some(grant), pool }
    }

    pub(super) fn take(mut self) -> Grant {
        self.grant.take().expect("it is there until it is taken, once")
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            self.pool.give_back(&grant);
        }
    }
}
