//! The command line of leases by hand.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use keybroker_proto::v1::transport_error::Kind;

use super::super::args::{BrokerArgs, TierArg, pair};
use crate::worker::seconds;

const LEASE_EXAMPLES: &str = "\
Examples:
  keybroker lease acquire --model gemini-2.5-flash
  keybroker lease acquire --model gemini-2.5-flash --wait 60 --key-file /run/one.key --json
  keybroker lease renew LEASE --ttl 300
  keybroker lease report LEASE --ok --input-tokens 12 --total-tokens 40
  keybroker lease report LEASE --http-status 429 --body-file answer.json
  keybroker lease report LEASE --not-sent

A lease is charged as soon as it is taken. One that is not reported stays charged as far as it was asked for;
report one that was not used as --not-sent. To run a program with a leased key, use `keybroker exec`.";

/// What to do with a lease.
#[derive(Debug, Args)]
#[command(after_help = LEASE_EXAMPLES, mut_arg("actor", |actor| actor.hide(true)))]
pub struct LeaseArgs {
    #[command(flatten)]
    pub(super) broker: BrokerArgs,
    #[command(subcommand)]
    pub(super) command: LeaseCommand,
}

/// The commands about leases.
#[derive(Debug, Subcommand)]
pub(super) enum LeaseCommand {
    /// Take a lease, and print what it is; the key's text only if that is asked for
    Acquire(Box<AcquireArgs>),
    /// Say what came of a lease, and print what the broker advises
    Report(Box<ReportArgs>),
    /// Extend a lease that has not expired
    Renew {
        /// The lease's id
        #[arg(value_name = "LEASE")]
        lease: String,
        /// How long it lives from now on, 1 to 3600 seconds; it is never shortened
        #[arg(long, default_value = "60", value_parser = seconds(1.0, 3600.0), value_name = "SECONDS")]
        ttl: Duration,
    },
}

/// Which lease to take.
#[derive(Debug, Clone, Args)]
pub(super) struct AcquireArgs {
    /// The model that will be called
    #[arg(long, env = "KEYBROKER_MODEL", value_name = "MODEL")]
    pub(super) model: String,
    /// The pool to lease from
    #[arg(long, env = "KEYBROKER_POOL", default_value = "default", value_name = "POOL")]
    pub(super) pool: String,
    /// Who asks, under the limits of whose plan
    #[arg(
        long,
        env = "KEYBROKER_CONSUMER",
        default_value = "",
        hide_default_value = true,
        value_name = "NAME"
    )]
    pub(super) consumer: String,
    /// Only keys of this tier
    #[arg(long, value_name = "TIER")]
    pub(super) tier: Option<TierArg>,
    /// Only keys of this project
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    pub(super) project: String,
    /// Only keys with this label of the configuration; may be given several times
    #[arg(long = "key-label", value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) key_labels: Vec<(String, String)>,
    /// Not this key; may be given several times
    #[arg(long = "exclude-key", value_name = "KEY")]
    pub(super) exclude_keys: Vec<String>,
    /// Not keys of this project; may be given several times
    #[arg(long = "exclude-project", value_name = "ID")]
    pub(super) exclude_projects: Vec<String>,
    /// How many requests will be sent, 1 to 1000
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1000), value_name = "COUNT")]
    pub(super) permits: i32,
    /// An upper bound on their input tokens; 0: not counted
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..), value_name = "COUNT")]
    pub(super) input_tokens: i64,
    /// An upper bound on their output tokens; 0: not known
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..), value_name = "COUNT")]
    pub(super) output_tokens: i64,
    /// How long to wait for a key, 0 to 600 seconds
    #[arg(long, default_value = "0", value_parser = seconds(0.0, 600.0), value_name = "SECONDS")]
    pub(super) wait: Duration,
    /// How long the lease lives without a report, 1 to 3600 seconds [default: the pool's]
    #[arg(long, value_parser = seconds(1.0, 3600.0), value_name = "SECONDS")]
    pub(super) ttl: Option<Duration>,
    /// A note for logs, traces and hooks; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) labels: Vec<(String, String)>,
    /// Print the key's text too: whoever sees the output can use the key
    #[arg(long)]
    pub(super) show_key: bool,
    /// Write the key's text into this new file, which only its owner may read
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
}

/// What came of a lease.
#[derive(Debug, Clone, Args)]
pub(super) struct ReportArgs {
    /// The lease's id
    #[arg(value_name = "LEASE")]
    pub(super) lease: String,
    #[command(flatten)]
    pub(super) outcome: OutcomeArgs,
    /// The body of the error, as Gemini sent it; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(super) body_file: Option<PathBuf>,
    /// The header Retry-After, in seconds
    #[arg(long, value_parser = seconds(0.0, 604_800.0), value_name = "SECONDS")]
    pub(super) retry_after: Option<Duration>,
    /// promptTokenCount of the answer's usage
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) input_tokens: Option<i64>,
    /// candidatesTokenCount
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) output_tokens: Option<i64>,
    /// thoughtsTokenCount
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) thoughts_tokens: Option<i64>,
    /// cachedContentTokenCount
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) cached_tokens: Option<i64>,
    /// totalTokenCount
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) total_tokens: Option<i64>,
}

/// Exactly one of these.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(super) struct OutcomeArgs {
    /// Gemini answered
    #[arg(long)]
    pub(super) ok: bool,
    /// Gemini answered with this error
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(i32).range(100..=599))]
    pub(super) http_status: Option<i32>,
    /// No complete answer came
    #[arg(long, value_name = "KIND")]
    pub(super) transport: Option<TransportArg>,
    /// The request was never sent: all of its charge is refunded
    #[arg(long)]
    pub(super) not_sent: bool,
}

/// Why no complete answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TransportArg {
    /// The connection could not be made; nothing was sent
    Connect,
    /// No answer in time
    Timeout,
    /// The connection broke before the answer was complete
    Reset,
    /// The caller gave up while the request was on its way
    Cancelled,
}

impl From<TransportArg> for Kind {
    fn from(kind: TransportArg) -> Self {
        match kind {
            TransportArg::Connect => Self::Connect,
            TransportArg::Timeout => Self::Timeout,
            TransportArg::Reset => Self::Reset,
            TransportArg::Cancelled => Self::Cancelled,
        }
    }
}
