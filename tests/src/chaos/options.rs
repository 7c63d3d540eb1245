//! What the harness can be told.

use std::{path::PathBuf, thread};

use clap::{Parser, ValueEnum};

use super::{control::Control, fault::Fault, topology::Topology};

/// Lets real fleets of brokers, workers and Redis servers work, lets things fail that a seed chooses, and checks
/// that no quota is spent twice, nothing acknowledged is lost and the fleet comes back by itself.
#[derive(Debug, Clone, Parser)]
#[command(name = "chaos", after_help = EXPLANATION)]
pub struct Options {
    /// Run this seed alone, or these; the same seed gives the same plan
    #[arg(long, value_delimiter = ',', conflicts_with = "seeds")]
    pub seed: Vec<u64>,
    /// How many seeds to run
    #[arg(long, default_value_t = 12)]
    pub seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// Only where the ledger is this
    #[arg(long)]
    pub topology: Option<Topology>,
    /// Only this fault
    #[arg(long)]
    pub fault: Option<Fault>,
    /// How many faults follow each other in a run
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub strikes: u8,
    /// Run known-bad fleets, and succeed only if the checker catches them
    #[arg(long, conflicts_with_all = ["topology", "fault"])]
    pub control: Option<Control>,
    /// How the two hosts of a run are made
    #[arg(long, default_value = "namespaces")]
    pub network: Network,
    /// How many runs go on at the same time
    #[arg(long, default_value_t = thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)))]
    pub jobs: usize,
    /// Print the plans and run nothing
    #[arg(long)]
    pub plan: bool,
    /// Write the table to this file as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write the table to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Keep logs of runs that break a promise in this folder
    #[arg(long, value_name = "DIR")]
    pub evidence: Option<PathBuf>,
    /// Keep logs of all runs there
    #[arg(long, requires = "evidence")]
    pub keep: bool,
}

/// How the two hosts of a run are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// As network namespaces joined by a cable that can be cut; needs root, iproute2 and /dev/net/tun
    Namespaces,
    /// Both on loopback; faults of the network are left out
    Loopback,
}

const EXPLANATION: &str = "\
Examples:
  chaos --seeds 200 --markdown table.md
  chaos --seed 42                          one run again
  chaos --fault partition --topology sentinel --seeds 10
  chaos --control fixed-window             must be caught

Exit codes: 0 every promise was kept (or the control was caught), 1 one was broken, 2 something could not be run.";
