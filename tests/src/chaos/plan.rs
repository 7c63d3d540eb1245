//! What will happen in a run: a pure function of the seed and of what the run is restricted to.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{fault::Fault, side::Side, topology::Topology};

/// How long most faults last.
const SHORT: std::ops::Range<u64> = 300..2_500;
/// How long faults last that make others take over.
const LONG: std::ops::Range<u64> = 400..5_000;

/// To what a run is restricted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choice {
    /// Only this topology.
    pub topology: Option<Topology>,
    /// Only this fault.
    pub fault: Option<Fault>,
    /// There is a cable that can be cut.
    pub network: bool,
    /// There are clocks that can be set.
    pub clocks: bool,
    /// How many faults follow each other.
    pub strikes: usize,
}

/// One fault of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// What happens.
    pub fault: Fault,
    /// To which of those it can happen to, counted around.
    pub target: usize,
    /// For how long.
    pub lasts: Duration,
    /// How much: milliseconds of a step or a delay, thousandths of a rate.
    pub amount: i64,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The seed it came from.
    pub seed: u64,
    /// Where the ledger is.
    pub topology: Topology,
    /// Where the primary, or the first of the primaries, is.
    pub primary: Side,
    /// Where two of three Sentinels or primaries are.
    pub majority: Side,
    /// Whether replicated Redis servers keep a file; of one that saves snapshots, whether it saves one under load.
    pub persistent: bool,
    /// How many brokers there are.
    pub brokers: usize,
    /// How many workers there are.
    pub workers: usize,
    /// How long the fleet works before anything happens.
    pub warm_up: Duration,
    /// What happens, one after the other.
    pub strikes: Vec<Strike>,
}

impl Plan {
    /// The plan of a seed; none if the choice leaves no fault for it.
    pub fn of(seed: u64, choice: Choice) -> Option<Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let topologies: Vec<Topology> = Topology::ALL
            .into_iter()
            .filter(|topology| choice.topology.is_none_or(|only| only == *topology))
            .filter(|topology| choice.fault.is_none_or(|only| only.strikes(*topology)))
            .collect();
        let turn = |seed: u64, of: usize| usize::try_from(seed % of.max(1) as u64).unwrap_or(0);
        // Seeds take turns through topologies, and through the faults of each, so that many of them cover all.
        let topology = *topologies.get(turn(seed, topologies.len()))?;
        let mut faults: Vec<Fault> =
            Fault::ALL.into_iter().filter(|fault| choice.allows(*fault, topology)).collect();
        let first = *faults.get(turn(seed / topologies.len() as u64, faults.len()))?;
        faults.retain(|fault| *fault != first);
        faults.shuffle(&mut random);
        faults.insert(0, first);
        let side = |right: bool| if right { Side::Right } else { Side::Left };
        let (primary, majority) = (side(random.random()), side(random.random()));
        let persistent = random.random();
        let brokers = if topology == Topology::Embedded { 1 } else { random.random_range(2..=3) };
        let warm_up = Duration::from_millis(random.random_range(2_000..3_500));
        let taken = faults.into_iter().cycle().take(if choice.fault.is_some() { 1 } else { choice.strikes });
        let strikes = taken.map(|fault| Strike::draw(fault, &mut random)).collect();
        Some(Self { seed, topology, primary, majority, persistent, brokers, workers: 3, warm_up, strikes })
    }

    /// Whether a Redis that is started again knows nothing of what it knew.
    pub fn forgets(&self) -> bool {
        self.topology == Topology::StandaloneEmpty || (self.topology.has_replicas() && !self.persistent)
    }

    /// How soon the fleet of this plan must have recovered from a fault.
    pub fn recovers_within(&self, fault: Fault) -> Duration {
        fault.recovers_within(self.topology, self.forgets())
    }

    /// Whether a fault of the plan is one of those.
    pub fn has(&self, asked: impl Fn(Fault) -> bool) -> bool {
        self.strikes.iter().any(|strike| asked(strike.fault))
    }
}

impl Choice {
    fn allows(self, fault: Fault, topology: Topology) -> bool {
        fault.strikes(topology)
            && self.fault.is_none_or(|only| only == fault)
            && (self.network || !fault.needs_network())
            && (self.clocks || !(fault.turns_broker_clock() || fault.turns_redis_clock()))
    }
}

impl Strike {
    /// Whether a clock that jumped is set right again when the fault ends.
    pub fn is_taken_back(&self) -> bool {
        matches!(self.fault, Fault::BrokerClockStep | Fault::RedisClockStep) && self.target.is_multiple_of(2)
    }

    fn draw(fault: Fault, random: &mut StdRng) -> Self {
        let lasts = match fault {
            Fault::KillPrimary | Fault::RestartPrimary | Fault::FreezePrimary | Fault::Partition => LONG,
            // They are over as soon as they have happened.
            Fault::ScriptFlush | Fault::Failover | Fault::RollingDeploy | Fault::Reshard => 0..1,
            _ => SHORT,
        };
        let sign = if random.random() { 1 } else { -1 };
        let amount = match fault {
            Fault::BrokerClockStep | Fault::RedisClockStep => sign * random.random_range(500..60_000),
            Fault::BrokerClockSlew | Fault::RedisClockSlew => sign * random.random_range(50..300),
            Fault::Delay => random.random_range(5..60),
            _ => 0,
        };
        let target = random.random_range(0..60);
        let mut strike =
            Self { fault, target, lasts: Duration::from_millis(random.random_range(lasts)), amount };
        if matches!(fault, Fault::BrokerClockStep | Fault::RedisClockStep)
            && amount > 0
            && !strike.is_taken_back()
        {
            // Most of these end a window that is full.
            strike.amount += 50_000;
        }
        strike
    }
}

impl std::fmt::Display for Strike {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { fault, target, lasts, amount } = self;
        write!(f, "{fault} of no. {target}")?;
        if !lasts.is_zero() {
            write!(f, " for {lasts:?}")?;
        }
        match fault {
            Fault::BrokerClockStep | Fault::RedisClockStep if self.is_taken_back() => {
                write!(f, " by {amount} ms and back")
            }
            Fault::BrokerClockStep | Fault::RedisClockStep => write!(f, " by {amount} ms for good"),
            Fault::BrokerClockSlew | Fault::RedisClockSlew => write!(f, " by {amount} ms a second"),
            Fault::Delay => write!(f, " by {amount} ms"),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { topology, primary, majority, persistent, brokers, workers, warm_up, .. } = self;
        write!(f, "{topology}, {brokers} brokers, {workers} workers, primary {primary}")?;
        if topology.has_replicas() {
            let kept = if *persistent { "with" } else { "without" };
            write!(f, ", majority {majority}, {kept} files")?;
        }
        if *topology == Topology::StandaloneRdb {
            write!(f, ", snapshot {} load", if *persistent { "under" } else { "before" })?;
        }
        write!(f, "; after {warm_up:?}")?;
        for (number, strike) in self.strikes.iter().enumerate() {
            write!(f, "{} {strike}", if number == 0 { ":" } else { ", then" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: Choice = Choice { topology: None, fault: None, network: true, clocks: true, strikes: 2 };

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another_one() {
        let plans = |seeds: std::ops::Range<u64>| seeds.map(|seed| Plan::of(seed, ALL)).collect::<Vec<_>>();
        assert_eq!(plans(0..200), plans(0..200));
        assert!(plans(0..200).windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn two_hundred_seeds_meet_every_fault_on_every_topology() {
        let met: BTreeSet<(Topology, Fault)> = (0..200)
            .filter_map(|seed| Plan::of(seed, ALL))
            .flat_map(|plan| plan.strikes.into_iter().map(move |strike| (plan.topology, strike.fault)))
            .collect();
        let all = Topology::ALL
            .into_iter()
            .flat_map(|topology| Fault::ALL.map(|fault| (topology, fault)))
            .filter(|(topology, fault)| fault.strikes(*topology));
        assert_eq!(met, all.collect());
    }

    #[test]
    fn a_choice_is_kept_to() {
        let choice = Choice { fault: Some(Fault::Reshard), ..ALL };
        let plan = Plan::of(7, choice).expect("a cluster can be resharded");
        assert_eq!((plan.topology, plan.strikes.len()), (Topology::Cluster, 1));
        let choice = Choice { topology: Some(Topology::Embedded), ..choice };
        assert_eq!(Plan::of(7, choice), None);
        let bare = Choice { network: false, clocks: false, ..ALL };
        let needy =
            |fault: Fault| fault.needs_network() || fault.turns_broker_clock() || fault.turns_redis_clock();
        assert!((0..200).filter_map(|seed| Plan::of(seed, bare)).all(|plan| !plan.has(needy)));
    }
}
