//! The command line of workers.

use std::{ffi::OsString, net::SocketAddr, time::Duration};

use clap::{Args, ValueEnum};
use keybroker_client::{AcquireOptions, Broker, Tier};

use super::Failure;
use crate::connection::{SecurityArgs, unusable};

/// Which broker, and which keys.
#[derive(Debug, Clone, Args)]
pub(super) struct LeaseArgs {
    /// The gRPC addresses of brokers, separated by commas; the next is asked where one is gone
    #[arg(long, env = "KEYBROKER_BROKER", default_value = "127.0.0.1:50051", value_name = "ADDR")]
    pub(super) broker: String,
    /// The pool to lease from
    #[arg(long, env = "KEYBROKER_POOL", default_value = "default", value_name = "POOL")]
    pub(super) pool: String,
    /// Who asks, under the limits of whose plan
    #[arg(long, env = "KEYBROKER_CONSUMER", value_name = "NAME")]
    pub(super) consumer: Option<String>,
    /// Only keys of this tier
    #[arg(long, value_enum, value_name = "TIER")]
    pub(super) tier: Option<TierArg>,
    #[command(flatten)]
    pub(super) security: SecurityArgs,
}

/// A tier on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum TierArg {
    /// Free keys
    Free,
    /// Paid keys
    Paid,
}

impl TierArg {
    pub(super) fn tier(self) -> Tier {
        match self {
            Self::Free => Tier::Free,
            Self::Paid => Tier::Paid,
        }
    }
}

impl LeaseArgs {
    pub(super) fn connect(&self) -> Result<Broker, Failure> {
        let builder = self.security.builder(&self.broker).map_err(|text| Failure::with_code(text, 2))?;
        builder.connect(self.broker.as_str()).map_err(|error| Failure::with_code(unusable(&error), 2))
    }

    pub(super) fn options(&self, model: &str) -> AcquireOptions {
        let options = AcquireOptions::new(model).pool(&self.pool);
        let options = self.consumer.iter().fold(options, |options, consumer| options.consumer(consumer));
        self.tier.iter().fold(options, |options, tier| options.tier(tier.tier()))
    }
}

const EXEC_HELP: &str = "\
The key is in GEMINI_API_KEY and GOOGLE_API_KEY. It is leased for --permits requests and renewed while the
program runs: what a program sends beyond is in nobody's books, so that the quota may be exceeded. A program
that sends an unknown number of requests is better served by `keybroker proxy`.

Exit codes: that of the program; 128 and the signal's number if a signal ended it; 127 if it was not found, 126
if it cannot be run; 125 if there was no lease.

Examples:
  keybroker exec --model gemini-2.5-flash -- python ask.py
  keybroker exec --model gemini-2.5-flash --permits 20 --wait 300 -- ./nightly-report";

/// How to run a program.
#[derive(Debug, Args)]
#[command(after_help = EXEC_HELP)]
pub struct ExecArgs {
    #[command(flatten)]
    pub(super) lease: LeaseArgs,
    /// The model that the program will call
    #[arg(long, env = "KEYBROKER_MODEL", value_name = "MODEL")]
    pub(super) model: String,
    /// How many requests the program may send, 1 to 1000
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1000), value_name = "COUNT")]
    pub(super) permits: i32,
    /// An upper bound on the input tokens of all of them; 0: not counted
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..), value_name = "COUNT")]
    pub(super) input_tokens: i64,
    /// How long to wait for a key, 0 to 600 seconds
    #[arg(long, default_value = "60", value_parser = seconds(0.0, 600.0), value_name = "SECONDS")]
    pub(super) wait: Duration,
    /// How long the key stays leased should this process be killed, 2 to 3600 seconds
    #[arg(long, default_value = "60", value_parser = seconds(2.0, 3600.0), value_name = "SECONDS")]
    pub(super) ttl: Duration,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

const PROXY_HELP: &str = "\
Set the base URL of a client to the proxy's address, and any text as its key: the proxy takes a lease for each
request, sends it with the leased key, reports what came of it, and tries again as the broker advises. Clients
never see a key. Streams, uploads and both versions of the API pass.

What the proxy itself refuses has the shape of Google's errors: 429 with a Retry-After while all keys are at
their limit, 401 or 403 if the broker does not know or not permit the proxy, 503 while no broker answers, 502 where Google cannot be reached, 504 after --deadline.

Examples:
  keybroker proxy
  curl http://127.0.0.1:8787/v1beta/models/gemini-2.5-flash:generateContent \\
    -H 'content-type: application/json' -d '{\"contents\":[{\"parts\":[{\"text\":\"Name three rivers.\"}]}]}'";

/// How to serve the API on this host.
#[derive(Debug, Args)]
#[command(after_help = PROXY_HELP)]
pub struct ProxyArgs {
    #[command(flatten)]
    pub(super) lease: LeaseArgs,
    /// Where to listen
    #[arg(long, env = "KEYBROKER_PROXY_ADDR", default_value = "127.0.0.1:8787", value_name = "ADDR")]
    pub(super) listen: SocketAddr,
    /// Listen beyond this host: whoever reaches the address uses the keys
    #[arg(long)]
    pub(super) allow_remote: bool,
    /// Where Gemini is
    #[arg(
        long,
        env = "KEYBROKER_UPSTREAM",
        default_value = "https://generativelanguage.googleapis.com",
        value_name = "URL"
    )]
    pub(super) upstream: String,
    /// The model to lease for where a request names none, such as an upload
    #[arg(long, default_value = "gemini-2.5-flash", value_name = "MODEL")]
    pub(super) default_model: String,
    /// How long a request may take with all of its waits and tries, 1 to 3600 seconds
    #[arg(long, default_value = "600", value_parser = seconds(1.0, 3600.0), value_name = "SECONDS")]
    pub(super) deadline: Duration,
    /// How often a request is sent at most, 1 to 256
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=256), value_name = "COUNT")]
    pub(super) attempts: u32,
    /// The largest body of a request, in MiB
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=4096), value_name = "MIB")]
    pub(super) max_body: u64,
}

/// Reads a number of seconds.
pub(crate) fn seconds(
    least: f64,
    most: f64,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.trim().parse::<f64>().ok().filter(|number| (least..=most).contains(number));
        number
            .map(Duration::from_secs_f64)
            .ok_or_else(|| format!("write a number of seconds from {least} to {most}"))
    }
}
