//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::{
    demo::DemoArgs,
    doctor::DoctorArgs,
    ledger::redis::Durability,
    operate::{
        AcceptLossArgs, AuditArgs, EventsArgs, HealthArgs, KeysArgs, LeaseArgs, PoolsArgs, ResetArgs,
        StatusArgs, UsageArgs,
    },
    tools::{ConfigCommand, ManArgs},
    worker::{ExecArgs, ProxyArgs},
};

/// Leases Gemini API keys to a fleet of workers that share one quota exactly.
#[derive(Debug, Parser)]
#[command(name = "keybroker", version, about, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  keybroker demo
  GEMINI_API_KEYS=key-one,key-two keybroker serve
  keybroker serve --config keybroker.toml --redis-url redis://127.0.0.1:6379
  keybroker config check --config keybroker.toml
  keybroker doctor --config keybroker.toml
  keybroker status --watch
  keybroker keys list
  keybroker keys add --project team-a --secret-file new.key
  keybroker exec --model gemini-2.5-flash -- python ask.py
  keybroker proxy
  keybroker usage --from 2026-07-01 --by consumer,day --csv
  keybroker completions bash > /etc/bash_completion.d/keybroker

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker until SIGTERM or SIGINT
    Serve(ServeArgs),
    /// Watch a broker and a fleet of workers against a stand-in for Gemini, with fake keys and nothing to set up
    Demo(DemoArgs),
    /// Run a program with a leased key in GEMINI_API_KEY, renewed while it runs
    Exec(Box<ExecArgs>),
    /// Serve the Gemini API on this host, each request with a leased key
    Proxy(Box<ProxyArgs>),
    /// Check the configuration, or print all that holds
    Config {
        /// Which of it.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Look at all that a broker started here would meet, and say what is wrong and how to mend it
    Doctor(Box<DoctorArgs>),
    /// Show how pools stand: keys, cooldowns, what is used of each limit; --watch shows it live
    Status(Box<StatusArgs>),
    /// Ask a broker on this host whether leases can be had; for the health checks of containers
    Health(HealthArgs),
    /// Print what happens at a broker, and go on with --follow
    Events(Box<EventsArgs>),
    /// List, add and remove keys while brokers run
    Keys(KeysArgs),
    /// List pools
    Pools(PoolsArgs),
    /// Take, report or renew a lease by hand
    Lease(Box<LeaseArgs>),
    /// End cooldowns of a pool or of one key; what was counted stays counted
    Reset(ResetArgs),
    /// Go on though Redis lost counts of a day or a month that no broker remembers
    AcceptLoss(AcceptLossArgs),
    /// List who changed what, the newest first
    Audit(AuditArgs),
    /// Print what was used, by consumer, key, project, model, day and outcome; also as CSV and JSON
    Usage(Box<UsageArgs>),
    /// Print a new master key, under which key texts are sealed
    GenerateMasterKey {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a new token for an identity, and the digest by which the configuration knows it
    GenerateToken {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the manual page, or write one for each command into a folder
    Man(ManArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Where the configuration is.
#[derive(Debug, Args)]
#[command(after_help = KEY_VARIABLES)]
pub struct ConfigArgs {
    /// The configuration file, in TOML; keys may come from the environment as well
    #[arg(long, env = "KEYBROKER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

const KEY_VARIABLES: &str = "\
Keys are also read from:
  GEMINI_API_KEYS, GEMINI_KEYS           keys, separated by commas
  GEMINI_API_KEY, GEMINI_API_KEY_1.._100 one key each; GOOGLE_API_KEY too
  GEMINI_FREE_KEYS, GEMINI_PAID_KEY      free keys first, the paid one when all are at their limit
  GEMINI_FREE_RATE_LIMIT (60), GEMINI_PAID_RATE_LIMIT (1000)   requests per minute of each key
  KEYBROKER_KEY_FILE                     a file with one key a line
Keys of one Google Cloud project share one quota: say which belong together in the configuration
file. A key without a project counts as a project of its own.
  KEYBROKER_CONSUMER_RATE_LIMIT (20)     requests per minute of each consumer that requests name, or off";

const SERVE_VARIABLES: &str = "\
Keys can be created while brokers run, once each of them has the same master key:
  KEYBROKER_MASTER_KEY                   32 bytes in base64 or hex, or file:PATH; keybroker
                                         generate-master-key prints a new one
  KEYBROKER_MASTER_KEY_OLD               former ones, separated by commas: they open what was
                                         sealed under them, and seal nothing
keybroker config check --help names the variables that keys are read from.";

/// How to serve.
#[derive(Debug, Args)]
#[command(after_help = SERVE_VARIABLES)]
pub struct ServeArgs {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Listen for gRPC on this address
    #[arg(long, env = "KEYBROKER_GRPC_ADDR", default_value = "127.0.0.1:50051", value_name = "ADDR")]
    pub grpc_addr: SocketAddr,
    /// Listen for HTTP (/healthz, /readyz, /metrics, /v1) on this address
    #[arg(long, env = "KEYBROKER_HTTP_ADDR", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub http_addr: SocketAddr,
    /// Listen beyond this host without encryption, or without asking who calls: whoever reaches the addresses can
    /// lease the keys, and read them on their way
    #[arg(long, env = "KEYBROKER_INSECURE")]
    pub insecure: bool,
    /// Keep the ledger in this Redis (6.2 or newer, maxmemory-policy noeviction), shared by any number
    /// of brokers; without it the ledger is embedded, for this broker alone
    ///
    /// Write redis://host:6379, redis-sentinel://host1:26379,host2:26379#mymaster or
    /// redis-cluster://host1:6379,host2:6379; user and password before the hosts as in redis://user:password@host;
    /// rediss, rediss-sentinel and rediss-cluster for TLS
    #[arg(long, env = "KEYBROKER_REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// Who signed the certificates of Redis, in PEM form [default: the authorities of the system]
    #[arg(long, env = "KEYBROKER_REDIS_CA", value_name = "FILE", requires = "redis_url")]
    pub redis_ca: Option<PathBuf>,
    /// The certificate that is shown to Redis, in PEM form
    #[arg(long, env = "KEYBROKER_REDIS_CERT", value_name = "FILE", requires = "redis_key")]
    pub redis_cert: Option<PathBuf>,
    /// The private key of that certificate
    #[arg(long, env = "KEYBROKER_REDIS_KEY", value_name = "FILE", requires = "redis_cert")]
    pub redis_key: Option<PathBuf>,
    /// What a ledger on Redis is sure of before it hands a lease out
    #[arg(long, env = "KEYBROKER_DURABILITY", default_value = "strict", value_name = "MODE")]
    pub durability: Durability,
    /// Keep the embedded ledger in this folder [default: ~/.local/state/keybroker]
    #[arg(long, env = "KEYBROKER_DATA_DIR", value_name = "DIR", conflicts_with = "redis_url")]
    pub data_dir: Option<PathBuf>,
    /// How far a commit of the embedded ledger reaches before a lease is handed out
    #[arg(long, env = "KEYBROKER_DATA_SYNC", default_value = "system", value_name = "REACH")]
    pub data_sync: DataSync,
    /// Write down who held which key when: a line of JSON for each lease, renewal and report, appended to this file. It is
    /// opened anew on SIGHUP, for whoever renames it
    #[arg(long, env = "KEYBROKER_LEASE_LOG", value_name = "FILE")]
    pub lease_log: Option<PathBuf>,
    /// How long calls under way may take after SIGTERM, in seconds
    #[arg(long, env = "KEYBROKER_DRAIN_GRACE", default_value = "20", value_name = "SECONDS", value_parser = seconds)]
    pub drain_grace: Duration,
    /// How many gRPC connections may be open at a time; further ones are closed at once
    #[arg(long, env = "KEYBROKER_MAX_CONNECTIONS", default_value = "20000", value_name = "COUNT", value_parser = connections)]
    pub max_connections: usize,
    /// After how long a client is asked to connect anew, in seconds, so that clients spread over brokers;
    /// calls under way are finished
    #[arg(long, env = "KEYBROKER_MAX_CONNECTION_AGE", default_value = "1800", value_name = "SECONDS", value_parser = age)]
    pub max_connection_age: Duration,
    /// What is logged: error, warn, info, debug, trace, or directives such as keybroker=debug
    #[arg(long, env = "KEYBROKER_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: String,
    /// How it is logged
    #[arg(long, env = "KEYBROKER_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// See [`crate::ledger::embedded::Reach`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DataSync {
    /// To the operating system: survives kill -9, not a power failure
    System,
    /// To the disk: survives a power failure, and is slower
    Disk,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text.parse().map_err(|_| "write a whole number of seconds".to_owned())?;
    if seconds > 3600 { Err("write 0 to 3600".to_owned()) } else { Ok(Duration::from_secs(seconds)) }
}

fn connections(text: &str) -> Result<usize, String> {
    let count: usize = text.parse().map_err(|_| "write a whole number of connections".to_owned())?;
    if (1..=1_000_000).contains(&count) { Ok(count) } else { Err("write 1 to 1000000".to_owned()) }
}

fn age(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text.parse().map_err(|_| "write a whole number of seconds".to_owned())?;
    if (10..=86_400).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err("write 10 to 86400".to_owned())
    }
}
