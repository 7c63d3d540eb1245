//! How accounts are read.

use std::sync::Arc;

use crate::ledger::{Inspection, Ledger, LedgerFuture};

/// Whoever can read the accounts of a pool as they stand.
pub trait ReadAccounts: Send + Sync + 'static {
    /// The accounts, with the ledger's clock.
    fn read<'a>(&'a self, pool: &'a str, accounts: &'a [String]) -> LedgerFuture<'a, Inspection>;
}

impl ReadAccounts for Arc<dyn Ledger> {
    fn read<'a>(&'a self, pool: &'a str, accounts: &'a [String]) -> LedgerFuture<'a, Inspection> {
        self.inspect(pool, accounts)
    }
}
