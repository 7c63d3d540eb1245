//! How long and how much is measured.

use std::time::Duration;

use clap::{Parser, Subcommand};

use super::case::Case;

/// Measures what a lease costs, as a ratio to a server that does nothing but answer.
///
/// Speed is never pass or fail: the exit code is 0 whatever the marks say, and 1 if a call failed or
/// something could not be started.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench")]
pub struct Args {
    /// What to do instead of measuring.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A run of less than a minute, of fewer keys and shorter slices
    #[arg(long)]
    pub quick: bool,
    /// Only the cases whose name contains this, such as redis/1000 or saturated; may be repeated
    #[arg(long = "case", value_name = "TEXT")]
    pub cases: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// How many keys, each of a project of its own
    #[arg(long, value_delimiter = ',', value_name = "COUNT")]
    pub keys: Vec<usize>,
    /// How many callers at once are saturation
    #[arg(long, default_value = "128", value_name = "COUNT")]
    pub tasks: usize,
    /// Over how many connections
    #[arg(long, default_value = "4", value_name = "COUNT")]
    pub connections: usize,
    /// How many pairs of slices each case has
    #[arg(long, default_value = "5", value_name = "COUNT")]
    pub pairs: usize,
    /// How long a slice at saturation takes, in milliseconds; one of a single caller takes half
    #[arg(long, value_name = "MS")]
    pub slice: Option<u64>,
    /// Start brokers with this in their environment, such as TOKIO_WORKER_THREADS=1; may be repeated
    #[arg(long = "broker-env", value_name = "NAME=VALUE", value_parser = variable)]
    pub broker_env: Vec<(String, String)>,
    /// Measure instead what telemetry costs: the same load on a broker without any, and on one that pushes metrics and
    /// traces to a collector, with this part of the calls recorded, such as 0.01
    #[arg(long, value_name = "RATIO")]
    pub telemetry: Option<f64>,
    /// Start with empty windows, not with those of a minute of work
    #[arg(long)]
    pub empty: bool,
}

/// What this program does beside measuring.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Serve canned answers until standard input ends: the ceiling
    EchoServer,
}

/// What is measured and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Numbers of keys, ascending.
    pub keys: Vec<usize>,
    /// Callers at saturation.
    pub tasks: usize,
    /// Connections they share.
    pub connections: usize,
    /// Pairs of slices.
    pub pairs: usize,
    /// Length of a slice at saturation.
    pub saturated_slice: Duration,
    /// Length of a slice of one caller.
    pub alone_slice: Duration,
    /// Whether windows are filled first.
    pub filled: bool,
    /// What brokers find in their environment.
    pub broker_env: Vec<(String, String)>,
    /// Which part of the calls is recorded, where it is measured what that costs.
    pub telemetry: Option<f64>,
    pub(super) cases: Vec<String>,
}

impl Plan {
    /// The plan that the command line asks for.
    pub fn of(args: &Args) -> Self {
        let mut keys = args.keys.clone();
        if keys.is_empty() {
            keys = if args.quick { vec![10, 1000] } else { vec![10, 100, 1000, 10_000] };
        }
        keys.sort_unstable();
        keys.dedup();
        let slice = Duration::from_millis(args.slice.unwrap_or(if args.quick { 200 } else { 500 }));
        Self {
            keys,
            tasks: args.tasks.max(1),
            connections: args.connections.max(1),
            pairs: args.pairs.max(1),
            saturated_slice: slice,
            alone_slice: slice / 2,
            filled: !args.empty,
            broker_env: args.broker_env.clone(),
            telemetry: args.telemetry,
            cases: args.cases.clone(),
        }
    }

    /// Whether a case is asked for.
    pub fn wants(&self, case: &Case) -> bool {
        self.wants_name(&case.name())
    }

    /// Whether something with this name is asked for.
    pub fn wants_name(&self, name: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|wanted| name.contains(wanted.as_str()))
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').ok_or_else(|| "write NAME=VALUE".to_owned())?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}
