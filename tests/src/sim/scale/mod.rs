//! One day of a large fleet: thousands of projects and a million workers over many pools, in virtual time.
//!
//! Pools share nothing, so each is a run of its own, by a seed of its own. Workers are not simulated one by one: those
//! of a pool and a consumer are a Poisson stream whose rate is that of the workers that are idle, each of which has at
//! most one request waiting or under way.

mod curve;
mod fair;
mod fleet;
mod growth;
mod plot;
mod pool;
mod report;
mod slot;

use std::{io::Write, path::PathBuf, time::Instant};

use clap::Args;

pub use fair::{fair_shares, jain};
pub use fleet::Plan;
pub use pool::{Day, simulate_pool};
pub use slot::slot_of;

/// How large the fleet is.
#[derive(Debug, Clone, Args)]
pub struct ScaleArgs {
    /// Simulate a day of a large fleet
    #[arg(long, conflicts_with_all = ["seed", "seeds"])]
    pub scale: bool,
    /// Google Cloud projects
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub projects: u64,
    /// Worker processes
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub workers: u64,
    /// Pools that the projects are spread over
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub pools: u64,
    /// Requests a minute of each project; 5 is the flash family in the free tier
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub rpm: u64,
    /// The hour of the day at which it begins
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..=23))]
    pub from: i64,
    /// Hours of virtual time
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i64).range(1..=48))]
    pub hours: i64,
    /// Leave out how the cost of a lease grows with the projects of one pool
    #[arg(long)]
    pub no_growth: bool,
    /// Write the plots into this folder
    #[arg(long)]
    pub plots: Option<PathBuf>,
}

/// Runs the day and prints its figures; whether every rule held.
///
/// # Errors
/// If nothing can be printed or plotted.
pub fn run(args: &ScaleArgs, out: &mut dyn Write) -> std::io::Result<bool> {
    let plan = Plan::of(args);
    let began = Instant::now();
    let days = fleet::simulate(&plan);
    let took = began.elapsed();
    let figures = report::Figures::of(&plan, &days);
    report::print(&plan, &figures, took, out)?;
    if let Some(folder) = &args.plots {
        std::fs::create_dir_all(folder)?;
        plot::day(&figures, &folder.join("day.svg")).map_err(std::io::Error::other)?;
    }
    if !args.no_growth {
        let growth = growth::measure();
        report::print_growth(&growth, out)?;
        if let Some(folder) = &args.plots {
            plot::growth(&growth, &folder.join("growth.svg")).map_err(std::io::Error::other)?;
        }
    }
    Ok(figures.over_limit == 0)
}
