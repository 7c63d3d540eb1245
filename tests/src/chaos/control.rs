//! Known-bad fleets, which the checker must catch: it is only worth something if it does.

use clap::ValueEnum;
use keybroker::ledger::redis::Scripts;

use super::{fault::Fault, topology::Topology};

/// A known-bad fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Control {
    /// Brokers that count in fixed windows.
    FixedWindow,
    /// Brokers that do not wait for replicas; a replica is frozen, the primary killed, and the replica promoted.
    FastFrozenReplica,
    /// Brokers that do not notice that Redis has come back without what it knew.
    NoRunCheck,
}

/// How the batch script ends a charge of a trailing window.
const RIGHT_END: &str = "return (math.floor(granted_at / width) + 1) * width + span + send_within";
/// How a fixed window would.
const FIXED_END: &str = "return (math.floor(granted_at / span) + 1) * span";
/// How a batch and a beat notice a Redis that was restarted, or another one that was promoted.
const RUN_CHECKS: [&str; 2] = ["if ARGV[2] ~= '' and meta[4] ~= ARGV[2] then", "if meta[2] ~= ARGV[2] then"];
/// How they would not.
const NO_RUN_CHECK: &str = "if false then";

impl Control {
    /// The broker's variant; none for the real broker.
    pub fn variant(self) -> Option<&'static str> {
        match self {
            Self::FixedWindow => Some("fixed-window"),
            Self::NoRunCheck => Some("no-run-check"),
            Self::FastFrozenReplica => None,
        }
    }

    /// What is said to the brokers.
    pub fn broker_arguments(self) -> Vec<&'static str> {
        match self {
            Self::FastFrozenReplica => vec!["--durability", "fast"],
            Self::FixedWindow | Self::NoRunCheck => Vec::new(),
        }
    }

    /// Where it shows.
    pub fn topology(self) -> Topology {
        match self {
            Self::FixedWindow => Topology::StandaloneAof,
            Self::NoRunCheck => Topology::StandaloneRdb,
            Self::FastFrozenReplica => Topology::Sentinel,
        }
    }

    /// What must happen for it to show.
    pub fn fault(self) -> Fault {
        match self {
            Self::FixedWindow => Fault::ScriptFlush,
            Self::NoRunCheck | Self::FastFrozenReplica => Fault::KillPrimary,
        }
    }

    /// The scripts of its variant; none if there is no such variant.
    pub fn scripts(variant: &str) -> Option<Scripts> {
        match variant {
            "fixed-window" => Some(Scripts::default().changed(RIGHT_END, FIXED_END)),
            "no-run-check" => {
                let unchecked = |scripts: Scripts, check| scripts.changed(check, NO_RUN_CHECK);
                Some(RUN_CHECKS.into_iter().fold(Scripts::default(), unchecked))
            }
            _ => None,
        }
    }
}

/// The change by which a fixed window takes the place of a trailing one, for whoever tests the script.
pub const FIXED_WINDOW: (&str, &str) = (RIGHT_END, FIXED_END);
