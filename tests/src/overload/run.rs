//! The measurement: at capacity, at five times capacity, and afterwards.

use std::{fmt, path::PathBuf};

use clap::Args;

use super::{Error, Load, Outcome, Second, Stage};
use crate::harness::rig::Backing;

/// How many times capacity is asked for.
const TIMES: u64 = 5;
/// A second after the overload is as good as before with so much of the leases, and this many times the p99.
const RECOVERED: (f64, f64) = (0.9, 1.5);

/// How much is measured.
#[derive(Debug, Clone, Args)]
pub struct Plan {
    /// How long each stretch at capacity takes, in seconds
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// How long the overload takes, in seconds
    #[arg(long, default_value_t = 60)]
    pub over_seconds: u64,
    /// How many keys, each of a project of its own
    #[arg(long, default_value_t = 200)]
    pub keys: usize,
    /// Ask without labels: the ledger is then faster than a client on the same machine can be
    #[arg(long)]
    pub plain: bool,
    /// How many acquires the client has under way at most; what is due beyond is not sent, and counted
    #[arg(long, default_value_t = 2000)]
    pub outstanding: u32,
    /// Ask at this many acquires a second instead of finding out what capacity is
    #[arg(long)]
    pub capacity: Option<u64>,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Leases a second at most.
    pub capacity: u64,
    /// At capacity.
    pub at: Outcome,
    /// At five times capacity.
    pub over: Outcome,
    /// At capacity again, right afterwards.
    pub after: Outcome,
    /// The broker's memory at most, in bytes: at capacity, under overload, afterwards.
    pub memory: [u64; 3],
}

/// Measures a broker of its own.
///
/// # Errors
/// If something cannot be started.
pub async fn measure(backing: Backing, plan: &Plan, program: PathBuf) -> Result<Measured, Error> {
    let mut stage = Stage::start(backing, plan.keys, program).await;
    let load = Load {
        url: stage.rig.broker.url(),
        rate: 0,
        callers: 64,
        seconds: plan.seconds.min(10),
        connections: 4,
        outstanding: plan.outstanding,
        by_labels: !plan.plain,
    };
    let capacity = match plan.capacity {
        Some(capacity) => capacity,
        None => stage.load(&load).await?.0.rate() as u64,
    };
    let at = Load { rate: capacity, seconds: plan.seconds, ..load };
    let over = Load { rate: capacity * TIMES, seconds: plan.over_seconds, ..at.clone() };
    let (before, memory_before) = stage.load(&at).await?;
    let (over, memory_over) = stage.load(&over).await?;
    let (after, memory_after) = stage.load(&at).await?;
    let memory = [memory_before, memory_over, memory_after];
    Ok(Measured { capacity, at: before, over, after, memory })
}

impl Measured {
    /// The p99 under overload, as so many times that at capacity.
    pub fn slower(&self) -> f64 {
        self.over.p99 as f64 / self.at.p99.max(1) as f64
    }

    /// After how many seconds a second was as good as before the overload.
    pub fn recovered_after(&self) -> Option<usize> {
        let (share, times) = RECOVERED;
        let granted = self.at.granted as f64 / self.at.seconds.len().max(1) as f64;
        let good = |second: &Second| {
            second.granted as f64 >= granted * share && second.p99 as f64 <= self.at.p99 as f64 * times
        };
        self.after.seconds.iter().position(good)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  capacity {} leases/s, each reported", self.capacity)?;
        let stretches = [("at capacity", &self.at), ("5 times", &self.over), ("afterwards", &self.after)];
        for ((name, outcome), memory) in stretches.into_iter().zip(self.memory) {
            writeln!(
                f,
                "  {name:<12} offered {:>8.0}/s  granted {:>7.0}/s  shed {:>8}  p50 {:>7.1} ms  p99 {:>7.1} ms  \
                 shed p99 {:>7.1} ms  memory {:>4} MB",
                (outcome.offered + outcome.unsent) as f64 / outcome.elapsed,
                outcome.rate(),
                outcome.refused_for("OVERLOADED"),
                millis(outcome.p50),
                millis(outcome.p99),
                millis(outcome.refused_p99),
                memory / 1_000_000,
            )?;
            let others = outcome.refused.iter().filter(|(reason, _)| *reason != "OVERLOADED");
            for (reason, count) in others {
                writeln!(f, "               {count} refused: {reason}")?;
            }
            for (reason, count) in &outcome.reports_refused {
                writeln!(f, "               {count} reports not taken: {reason}")?;
            }
            if outcome.unsent > 0 {
                writeln!(f, "               {} not sent: the client had too many under way", outcome.unsent)?;
            }
        }
        let recovered = self.recovered_after().map_or("not".to_owned(), |second| format!("after {second} s"));
        writeln!(
            f,
            "  p99 under overload / at capacity {:.2} (mark: 3)   recovered {recovered} (mark: 10 s)",
            self.slower()
        )
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
