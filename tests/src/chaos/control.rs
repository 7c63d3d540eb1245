//! Known-bad fleets, which the checker must catch: it is only worth something if it does.

use clap::ValueEnum;
use keybroker::ledger::redis::batch_script;

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
/// What marks the line that refuses a Redis that was restarted.
const RUN_CHECK: &str = "-- known-bad: no run check";

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

    /// The batch script of its variant; none if there is no such variant.
    pub fn script(variant: &str) -> Option<String> {
        let script = batch_script();
        let changed = match variant {
            "fixed-window" => script.replace(RIGHT_END, FIXED_END),
            "no-run-check" => {
                let kept = script.lines().filter(|line| !line.trim_end().ends_with(RUN_CHECK));
                kept.collect::<Vec<_>>().join("\n")
            }
            _ => return None,
        };
        (changed.trim() != script.trim()).then_some(changed)
    }
}

/// The change by which a fixed window takes the place of a trailing one, for whoever tests the script.
pub const FIXED_WINDOW: (&str, &str) = (RIGHT_END, FIXED_END);
