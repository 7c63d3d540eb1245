//! What can go wrong, where it can, and how soon the fleet must be well again.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::topology::Topology;

/// A single failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A broker gets SIGKILL, and is started again.
    KillBroker,
    /// A broker gets SIGSTOP, and later SIGCONT.
    FreezeBroker,
    /// A worker gets SIGKILL, with whatever it holds.
    KillWorker,
    /// A worker gets SIGSTOP, and later SIGCONT.
    FreezeWorker,
    /// A Redis that takes writes gets SIGKILL, and is started again.
    KillPrimary,
    /// A Redis that takes writes is shut down in good order, and started again.
    RestartPrimary,
    /// A Redis that takes writes gets SIGSTOP, and later SIGCONT.
    FreezePrimary,
    /// A replica gets SIGKILL, and is started again.
    KillReplica,
    /// A replica gets SIGSTOP, and later SIGCONT.
    FreezeReplica,
    /// A Sentinel gets SIGKILL, and is started again.
    KillSentinel,
    /// A Sentinel gets SIGSTOP, and later SIGCONT.
    FreezeSentinel,
    /// A replica is made primary on demand.
    Failover,
    /// The two hosts do not reach each other.
    Partition,
    /// The two hosts reach each other slowly.
    Delay,
    /// Redis has no memory left.
    FullMemory,
    /// Redis forgets its scripts.
    ScriptFlush,
    /// A broker's clock jumps.
    BrokerClockStep,
    /// A broker's clock runs too fast or too slowly.
    BrokerClockSlew,
    /// The clock of Redis' host jumps.
    RedisClockStep,
    /// The clock of Redis' host runs too fast or too slowly.
    RedisClockSlew,
    /// Brokers are restarted one by one with other limits.
    RollingDeploy,
    /// Hundreds of connections are opened and dropped.
    ConnectionStorm,
    /// A pool's slot moves to another primary under load.
    Reshard,
}

impl Fault {
    /// All, in the order of the table.
    pub const ALL: [Self; 23] = [
        Self::KillBroker,
        Self::FreezeBroker,
        Self::KillWorker,
        Self::FreezeWorker,
        Self::KillPrimary,
        Self::RestartPrimary,
        Self::FreezePrimary,
        Self::KillReplica,
        Self::FreezeReplica,
        Self::KillSentinel,
        Self::FreezeSentinel,
        Self::Failover,
        Self::Partition,
        Self::Delay,
        Self::FullMemory,
        Self::ScriptFlush,
        Self::BrokerClockStep,
        Self::BrokerClockSlew,
        Self::RedisClockStep,
        Self::RedisClockSlew,
        Self::RollingDeploy,
        Self::ConnectionStorm,
        Self::Reshard,
    ];

    /// Whether it can happen there.
    pub fn strikes(self, topology: Topology) -> bool {
        match self {
            Self::KillBroker
            | Self::FreezeBroker
            | Self::KillWorker
            | Self::FreezeWorker
            | Self::Partition
            | Self::Delay
            | Self::BrokerClockStep
            | Self::BrokerClockSlew
            | Self::RollingDeploy
            | Self::ConnectionStorm => true,
            Self::KillPrimary
            | Self::RestartPrimary
            | Self::FreezePrimary
            | Self::FullMemory
            | Self::ScriptFlush
            | Self::RedisClockStep
            | Self::RedisClockSlew => topology.has_redis(),
            Self::KillReplica | Self::FreezeReplica | Self::Failover => topology.has_replicas(),
            Self::KillSentinel | Self::FreezeSentinel => topology == Topology::Sentinel,
            Self::Reshard => topology == Topology::Cluster,
        }
    }

    /// Whether brokers end by it, with what they remember.
    pub fn ends_brokers(self) -> bool {
        matches!(self, Self::KillBroker | Self::RollingDeploy)
    }

    /// Whether a Redis that takes writes ends by it.
    pub fn ends_primary(self) -> bool {
        matches!(self, Self::KillPrimary | Self::RestartPrimary)
    }

    /// Whether it needs two hosts with a cable between them.
    pub fn needs_network(self) -> bool {
        matches!(self, Self::Partition | Self::Delay)
    }

    /// Whether a broker sees a clock of its own.
    pub fn turns_broker_clock(self) -> bool {
        matches!(self, Self::BrokerClockStep | Self::BrokerClockSlew)
    }

    /// Whether Redis sees a clock of its own.
    pub fn turns_redis_clock(self) -> bool {
        matches!(self, Self::RedisClockStep | Self::RedisClockSlew)
    }

    /// How long after it is healed every pool must be granted leases again, and every broker grant them.
    ///
    /// A Redis that comes back without what it knew is told by the brokers what they remember. What nobody remembers,
    /// and a clock that was turned ahead, is waited out: the longest trailing window and what comes on top of it.
    pub fn recovers_within(self, topology: Topology, forgets: bool) -> Duration {
        let waited_out = match self {
            Self::KillPrimary => forgets || topology == Topology::StandaloneRdb,
            Self::RestartPrimary => forgets,
            Self::BrokerClockStep | Self::BrokerClockSlew => topology == Topology::Embedded,
            Self::RedisClockStep | Self::RedisClockSlew => true,
            _ => false,
        };
        Duration::from_secs(match self {
            _ if waited_out => 75,
            Self::KillWorker | Self::FreezeWorker | Self::Delay | Self::ScriptFlush => 5,
            Self::KillSentinel | Self::FreezeSentinel => 5,
            Self::KillPrimary
            | Self::RestartPrimary
            | Self::FreezePrimary
            | Self::Failover
            | Self::Partition
            | Self::Reshard => 15,
            _ => 8,
        })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}
