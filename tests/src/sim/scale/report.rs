//! The figures of a day, and how they are told.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use super::{
    fair::{fair_shares, jain},
    fleet::{Plan, WEIGHTS},
    growth::Cost,
    pool::Day,
    slot::shard_of,
};
use crate::sim::setting::MINUTE;

/// What one shard's core does in leases a second by the project's own measurements, with its report: 36 and 16
/// microseconds a lease on 1,000 and 10 keys, 64 a call.
pub(super) const LEASES_A_CORE: [(&str, f64); 2] = [("1,000 keys", 1e6 / 36.0), ("10 keys", 1e6 / 16.0)];
/// Numbers of shards over which the pools are spread in the table.
const SHARDS: [usize; 5] = [1, 2, 4, 8, 16];

/// A day of the whole fleet.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Requests a minute that the quota allows.
    pub(super) capacity: u64,
    /// By minutes, over all pools.
    pub(super) wanted: Vec<u64>,
    pub(super) granted: Vec<u64>,
    pub(super) given_up: u64,
    pub(super) calls: Vec<u64>,
    pub(super) operations: Vec<u64>,
    pub(super) batches: BTreeMap<usize, u64>,
    pub(super) most_held: usize,
    pub(super) kernel: Duration,
    pub(super) over_limit: u64,
    /// What was used in the minutes in which somebody waited all the time, of what the quota allows.
    pub(super) utilisation: f64,
    pub(super) full_minutes: usize,
    /// Jain's index over consumers of a pool in the busy hours: the mean and the worst of all pools and hours; none
    /// if no hour was busy.
    pub(super) fairness: Option<(f64, f64)>,
    /// Leases in the busiest minute of each shard over those of the mean shard, for numbers of shards.
    pub(super) spread: Vec<(usize, f64)>,
}

impl Figures {
    pub(super) fn of(plan: &Plan, days: &[Day]) -> Self {
        let minutes = days.iter().map(|day| day.wanted.len()).max().unwrap_or(0);
        let sum = |of: fn(&Day) -> &Vec<u64>| -> Vec<u64> {
            (0..minutes).map(|minute| days.iter().map(|day| of(day)[minute]).sum()).collect()
        };
        let mut batches = BTreeMap::new();
        for (size, number) in days.iter().flat_map(|day| &day.batches) {
            *batches.entry(*size).or_default() += number;
        }
        let (utilisation, full_minutes) = utilisation(plan, days);
        Self {
            capacity: plan.projects * plan.rpm,
            wanted: sum(|day| &day.wanted),
            granted: sum(|day| &day.granted),
            given_up: days.iter().flat_map(|day| &day.given_up).sum(),
            calls: sum(|day| &day.calls),
            operations: sum(|day| &day.operations),
            batches,
            most_held: days.iter().map(|day| day.most_held).sum(),
            kernel: days.iter().map(|day| day.kernel).sum(),
            over_limit: days.iter().map(|day| day.over_limit).sum(),
            utilisation,
            full_minutes,
            fairness: fairness(plan, days),
            spread: SHARDS.into_iter().map(|shards| (shards, spread(days, shards))).collect(),
        }
    }

    pub(super) fn leases(&self) -> u64 {
        self.granted.iter().sum()
    }

    /// Leases a second in the busiest minute.
    pub(super) fn peak(&self) -> f64 {
        self.granted.iter().max().copied().unwrap_or(0) as f64 / 60.0
    }
}

/// Minutes of a pool in which somebody waited all the time, two minutes after the first such one; a minute's quota is
/// not used evenly, so the sums are compared.
fn utilisation(plan: &Plan, days: &[Day]) -> (f64, usize) {
    let (mut granted, mut possible, mut minutes) = (0, 0, 0);
    for (pool, day) in days.iter().enumerate() {
        let capacity = plan.part(plan.projects, pool as u64) * plan.rpm;
        let full: Vec<bool> = day.waited.iter().map(|waited| *waited >= MINUTE).collect();
        for minute in 2..full.len() {
            if full[minute - 2..=minute].iter().all(|full| *full) {
                granted += day.granted[minute];
                possible += capacity;
                minutes += 1;
            }
        }
    }
    (if possible == 0 { 0.0 } else { granted as f64 / possible as f64 }, minutes)
}

/// In hours in which a pool was asked for more than it has.
fn fairness(plan: &Plan, days: &[Day]) -> Option<(f64, f64)> {
    let mut indexes = Vec::new();
    for (pool, day) in days.iter().enumerate() {
        let capacity = plan.part(plan.projects, pool as u64) * plan.rpm * 60;
        for (wanted, granted) in day.wanted_by.iter().zip(&day.granted_by) {
            if wanted.iter().sum::<u64>() <= capacity {
                continue;
            }
            let (wanted, got) = (wanted.map(|number| number as f64), granted.map(|number| number as f64));
            indexes.push(jain(&got, &fair_shares(&wanted, got.iter().sum())));
        }
    }
    let mean = indexes.iter().sum::<f64>() / indexes.len() as f64;
    indexes.into_iter().reduce(f64::min).map(|worst| (mean, worst))
}

/// Pools lie on the shard of their slot; how much more the busiest shard does than the mean one.
fn spread(days: &[Day], shards: usize) -> f64 {
    let mut leases = vec![0_u64; shards];
    for (pool, day) in days.iter().enumerate() {
        leases[shard_of(&format!("pool-{pool}"), shards)] += day.granted.iter().sum::<u64>();
    }
    let mean = leases.iter().sum::<u64>() as f64 / shards as f64;
    leases.into_iter().max().unwrap_or(0) as f64 / mean.max(1.0)
}

pub(super) fn print(plan: &Plan, figures: &Figures, took: Duration, out: &mut dyn Write) -> io::Result<()> {
    let (leases, seconds) = (figures.leases(), plan.length as f64 / 1_000.0);
    let kernel = figures.kernel.as_secs_f64();
    writeln!(
        out,
        "{} projects of {} requests a minute in {} pools, {} workers, {} consumers a pool, {:.1} h in {:.0} s",
        plan.projects,
        plan.rpm,
        plan.pools,
        plan.workers,
        WEIGHTS.len(),
        seconds / 3600.0,
        took.as_secs_f64()
    )?;
    writeln!(out, "wanted            {}", figures.wanted.iter().sum::<u64>())?;
    writeln!(
        out,
        "leases            {leases}, {:.0} a second, {:.0} at the peak",
        leases as f64 / seconds,
        figures.peak()
    )?;
    writeln!(out, "given up          {}", figures.given_up)?;
    writeln!(out, "over the limit    {} of Google's trailing minutes", figures.over_limit)?;
    writeln!(
        out,
        "utilisation       {:.1} % in {} minutes of pools with somebody waiting all the time",
        100.0 * figures.utilisation,
        figures.full_minutes
    )?;
    match figures.fairness {
        Some((mean, worst)) => writeln!(
            out,
            "fairness          {mean:.4} (Jain, mean of busy hours and pools), {worst:.4} at worst"
        )?,
        None => writeln!(out, "fairness          in no hour was more wanted than there is")?,
    }
    let calls: u64 = figures.calls.iter().sum();
    let operations: u64 = figures.operations.iter().sum();
    let busiest = figures.calls.iter().max().copied().unwrap_or(0) as f64 / 60.0;
    writeln!(
        out,
        "ledger calls      {calls}, {:.0} a second, {busiest:.0} at the peak",
        calls as f64 / seconds
    )?;
    writeln!(
        out,
        "operations a call {:.2} on average, {} for half of the operations, {} at most",
        operations as f64 / calls.max(1) as f64,
        half(&figures.batches, operations),
        figures.batches.keys().last().copied().unwrap_or(0)
    )?;
    writeln!(out, "held at once      {} at most", figures.most_held)?;
    writeln!(
        out,
        "kernel            {:.2} us a lease with its report and its share of refusals; {kernel:.0} s in all",
        kernel * 1e6 / leases.max(1) as f64
    )?;
    for (shards, over) in &figures.spread {
        writeln!(
            out,
            "{shards:>2} shards         the busiest has {over:.2} times the leases of the mean one"
        )?;
    }
    for (size, a_core) in LEASES_A_CORE {
        writeln!(
            out,
            "one core of Redis {a_core:.0} leases a second on {size}; {:.3} cores at the peak",
            figures.peak() / a_core
        )?;
    }
    Ok(())
}

/// In calls of at least what size half of all operations were.
fn half(batches: &BTreeMap<usize, u64>, operations: u64) -> usize {
    let mut left = operations / 2;
    for (size, number) in batches.iter().rev() {
        let here = *size as u64 * number;
        if here >= left {
            return *size;
        }
        left -= here;
    }
    0
}

pub(super) fn print_growth(costs: &[Cost], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "projects   us a lease   bytes of a full account   granted")?;
    for cost in costs {
        writeln!(
            out,
            "{:>8} {:>12.2} {:>25} {:>8.1} %",
            cost.projects,
            cost.nanoseconds / 1_000.0,
            cost.account_bytes,
            100.0 * cost.granted
        )?;
    }
    Ok(())
}
