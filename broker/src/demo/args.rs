//! What the demo can be told, and the numbers that follow from it.

use std::{net::SocketAddr, time::Duration};

use clap::Args;

const EXPLANATION: &str = "\
What you see:
  granted, refused  leases that the broker gave, and refused with the exact time to come back
  waiting           tasks that wait inside the broker for the next free key
  limits            what the ledger counts of each
  sent, answered    requests that the stand-in for Gemini got, and answers that workers got
  refused by Gemini what it answered with an error. Some of it is played: now and then it says that a quota is
                    spent (429), and suspends a key for a while; the workers are answered by other keys meanwhile
  over the quota    what it refused because too much was sent. It judges every trailing 60 s with no tolerance

All keys are fake, and nothing is sent to Google. Other commands work on the demo while it runs:
  keybroker status --watch
  keybroker events --follow
  keybroker lease acquire --model gemini-2.5-flash

Examples:
  keybroker demo                                until Ctrl-C
  keybroker demo --redis --brokers 3            three brokers on a private redis-server
  keybroker demo --seconds 30 --json | jq 'select(.type == \"summary\")'

Exit codes: 0 nothing was sent over the quota, 1 otherwise or if it could not run, 2 wrong usage, 130 if it is
interrupted twice.";

/// How large the demo is, and for how long.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXPLANATION)]
pub struct DemoArgs {
    /// How long it runs [default: until Ctrl-C]
    #[arg(long, value_parser = clap::value_parser!(u64).range(3..=86_400), value_name = "SECONDS")]
    pub(super) seconds: Option<u64>,
    /// How many Google Cloud projects there are, each with one key
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(2..=200), value_name = "COUNT")]
    pub(super) projects: u64,
    /// Requests a minute that each project allows
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000), value_name = "COUNT")]
    pub(super) rpm: u64,
    /// How many workers there are
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=64), value_name = "COUNT")]
    pub(super) workers: u64,
    /// How many times as much they want as the quota allows
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100), value_name = "TIMES")]
    pub(super) demand: u64,
    /// Share the ledger through a private redis-server, instead of one broker alone
    #[arg(long)]
    pub(super) redis: bool,
    /// How many brokers share that Redis
    #[arg(long, default_value_t = 2, requires = "redis", value_parser = clap::value_parser!(u64).range(1..=16), value_name = "COUNT")]
    pub(super) brokers: u64,
    /// Where the first broker listens for gRPC; a free port of the system's if that one is taken
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "ADDR")]
    pub(super) grpc_addr: SocketAddr,
    /// Where it listens for HTTP, likewise
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub(super) http_addr: SocketAddr,
    /// Print one JSON object a line: one each second, each event, and the summary at the end
    #[arg(long)]
    pub(super) json: bool,
    /// Print lines instead of a live picture, also on a terminal
    #[arg(long, conflicts_with = "json")]
    pub(super) plain: bool,
}

/// How many tasks of a worker ask at the same time.
pub(super) const TASKS: u64 = 4;

impl DemoArgs {
    /// How many brokers there are.
    pub(super) fn broker_count(&self) -> u64 {
        if self.redis { self.brokers } else { 1 }
    }

    /// Requests a minute that all projects allow together.
    pub(super) fn capacity(&self) -> u64 {
        self.projects * self.rpm
    }

    /// How often each task has a request to send.
    pub(super) fn pace(&self) -> Duration {
        Duration::from_secs_f64((self.workers * TASKS * 60) as f64 / (self.capacity() * self.demand) as f64)
    }
}
