//! What the command line says of usage.

use clap::{Args, ValueEnum};
use keybroker_proto::v1::UsageDimension;

use super::super::args::BrokerArgs;

/// Which usage, and how to print it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UsageArgs {
    #[command(flatten)]
    pub(in super::super) broker: BrokerArgs,
    /// The first Pacific day [default: the last one]
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(super) from: Option<String>,
    /// The last Pacific day, included [default: today]
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(super) to: Option<String>,
    /// Tell rows apart by these, and sum over the rest [default: everything]
    #[arg(long, value_name = "WHAT,...", value_delimiter = ',')]
    pub(super) by: Vec<By>,
    /// Only this pool
    #[arg(long, value_name = "POOL")]
    pub(super) pool: Option<String>,
    /// Only this consumer; '' for requests that named none
    #[arg(long, value_name = "ID")]
    pub(super) consumer: Option<String>,
    /// Only this project
    #[arg(long, value_name = "ID")]
    pub(super) project: Option<String>,
    /// Only this key
    #[arg(long, value_name = "ID")]
    pub(super) key: Option<String>,
    /// Only this quota model, or that of a model's alias
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Only leases that ended so: ok, not_sent, minute_quota, ..., unreported
    #[arg(long, value_name = "OUTCOME")]
    pub(super) outcome: Option<String>,
    /// Print CSV (RFC 4180)
    #[arg(long, conflicts_with = "json")]
    pub(super) csv: bool,
}

const EXAMPLES: &str = "\
Examples:
  keybroker usage                                  today, by everything
  keybroker usage --from 2026-07-01 --to 2026-07-31 --by consumer
  keybroker usage --from 2026-07-01 --by day,model --consumer reports@example.com
  keybroker usage --from 2026-01-01 --csv > usage.csv

A day is one of Google's: it ends at midnight in Los Angeles. A lease counts once, on the day on which
it was reported. Usage is kept for 400 days. LEASES counts all, REQUESTS what Google may have counted,
OVER PLAN the requests over a soft plan. CSV and JSON hold the spend in dollars and in millionths.

Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// What rows are told apart by, in the order of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum By {
    /// The Pacific date
    #[value(alias = "date")]
    Day,
    /// The pool
    Pool,
    /// Who asked
    Consumer,
    /// The project
    Project,
    /// The key
    Key,
    /// The quota model
    #[value(alias = "quota-model", alias = "quota_model")]
    Model,
    /// What came of the lease
    Outcome,
}

impl From<By> for UsageDimension {
    fn from(by: By) -> Self {
        match by {
            By::Day => Self::Date,
            By::Pool => Self::Pool,
            By::Consumer => Self::Consumer,
            By::Project => Self::Project,
            By::Key => Self::Key,
            By::Model => Self::QuotaModel,
            By::Outcome => Self::Outcome,
        }
    }
}
