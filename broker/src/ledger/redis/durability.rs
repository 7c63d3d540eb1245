//! What a ledger on Redis is sure of before it hands a lease out.

use clap::ValueEnum;

/// What a ledger on Redis is sure of before it hands a lease out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// Every replica there is has it; after a restart or a failover what is lacking is put back first
    #[default]
    Strict,
    /// The primary has it: a restart or a failover may lose leases, and their quota is spent twice
    Fast,
}
