//! On what a fleet counts.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Where the ledger is, and what survives there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// One broker, with the ledger inside.
    Embedded,
    /// One Redis that appends every write to a file.
    StandaloneAof,
    /// One Redis with a snapshot from some time ago.
    StandaloneRdb,
    /// One Redis that keeps nothing, and comes back empty.
    StandaloneEmpty,
    /// A primary, two replicas, three Sentinels.
    Sentinel,
    /// Three primaries, each with a replica.
    Cluster,
}

impl Topology {
    /// All, in the order of the table.
    pub const ALL: [Self; 6] = [
        Self::Embedded,
        Self::StandaloneAof,
        Self::StandaloneRdb,
        Self::StandaloneEmpty,
        Self::Sentinel,
        Self::Cluster,
    ];

    /// Whether there is a Redis.
    pub fn has_redis(self) -> bool {
        self != Self::Embedded
    }

    /// Whether there are replicas.
    pub fn has_replicas(self) -> bool {
        matches!(self, Self::Sentinel | Self::Cluster)
    }
}

impl std::fmt::Display for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::StandaloneAof => "standalone-aof",
            Self::StandaloneRdb => "standalone-rdb",
            Self::StandaloneEmpty => "standalone-empty",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        })
    }
}
