//! The command line of `doctor`.

use clap::Args;

use crate::{cli::ServeArgs, connection::SecurityArgs};

const EXAMPLES: &str = "\
It takes the options and variables of `keybroker serve`, so give it those of your broker:
  keybroker doctor --config keybroker.toml --redis-url redis://127.0.0.1:6379
  keybroker doctor --offline --json
  keybroker doctor --broker https://broker-0:50051,https://broker-1:50051 --token-file viewer.token

Each key is probed by counting the tokens of one word, which costs nothing; --offline leaves that out. Nothing is
changed, nothing is leased, and no broker is started.

Exit codes: 0 nothing is wrong or there are warnings alone, 1 an error was found, 2 wrong usage.";

/// What to look at.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub(super) serve: ServeArgs,
    /// The gRPC addresses of running brokers, separated by commas [default: that of --grpc-addr, if one runs there]
    #[arg(long, env = "KEYBROKER_BROKER", value_name = "ADDR")]
    pub(super) broker: Option<String>,
    /// Ask Google nothing: probe no key
    #[arg(long)]
    pub(super) offline: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) security: SecurityArgs,
}
