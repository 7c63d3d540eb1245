//! In which order a pool's keys are leased.

use std::fmt;

use super::pool::{Key, Pool, Project, Tier};

/// In which order the keys of a pool are leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// Each key in turn.
    #[default]
    RoundRobin,
    /// Each key as often as its weight says.
    Weighted,
    /// The lowest class first, a higher one only while no lower one can serve; by weight within one.
    Priority,
    /// The key that was leased the longest time ago.
    LeastRecentlyUsed,
    /// By weight and by how well each key has answered of late.
    HealthAware,
    /// The key whose quota is used the least.
    LeastUtilized,
}

/// The class of paid keys without a priority of their own beside free ones: in the middle, so that
/// there is room for classes before and behind.
const PAID_CLASS: u8 = 8;

/// Where a key stands under its pool's strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its class, 0 to 15: keys of a lower one are leased first.
    pub class: u8,
    /// Its share among the keys of its class, 1 to 1000.
    pub weight: u32,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 6] = [
        Self::RoundRobin,
        Self::Weighted,
        Self::Priority,
        Self::LeastRecentlyUsed,
        Self::HealthAware,
        Self::LeastUtilized,
    ];

    /// Its name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::Weighted => "weighted",
            Self::Priority => "priority",
            Self::LeastRecentlyUsed => "least_recently_used",
            Self::HealthAware => "health_aware",
            Self::LeastUtilized => "least_utilized",
        }
    }

    /// The strategy of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.as_str() == name)
    }

    /// Whether the weights of keys mean anything to it.
    pub fn reads_weight(self) -> bool {
        matches!(self, Self::Weighted | Self::Priority | Self::HealthAware)
    }

    /// Whether the priorities of keys mean anything to it.
    pub fn reads_priority(self) -> bool {
        self == Self::Priority
    }
}

impl Pool {
    /// Where a key of one of the pool's projects stands: the one place that knows which strategy
    /// reads what. Under [`Strategy::Priority`] a paid key that names no priority stands behind
    /// the free ones, if the pool has any: free first, paid only when every free key is at its limit.
    pub fn standing_of(&self, project: &Project, key: &Key) -> Standing {
        let behind = || project.tier == Tier::Paid && self.has_free_projects();
        let class = match key.priority {
            _ if !self.strategy.reads_priority() => 0,
            Some(priority) => priority,
            None if behind() => PAID_CLASS,
            None => 0,
        };
        let weight = if self.strategy.reads_weight() { key.weight } else { 1 };
        Standing { class, weight }
    }

    fn has_free_projects(&self) -> bool {
        self.projects.iter().any(|project| project.tier == Tier::Free)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
