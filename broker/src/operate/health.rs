//! `keybroker health`: what a container asks itself, where there is no shell to ask with.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde_json::json;

use super::{Failure, print};
use crate::connection::root_cause;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 it is, 1 it is not or nobody answers, 2 wrong usage. It needs no token, and it asks over TLS where the \
broker speaks it; the certificate is not looked at, since nothing but the answer is exchanged.")]
pub struct HealthArgs {
    /// The HTTP address of the broker; where it is that of all interfaces, this host is asked
    #[arg(long, env = "KEYBROKER_HTTP_ADDR", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub http_addr: SocketAddr,
    /// Ask whether the process runs (/healthz), not whether leases can be had (/readyz)
    #[arg(long)]
    pub live: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) async fn run(args: HealthArgs) -> Result<ExitCode, Failure> {
    let address = of_this_host(args.http_addr);
    let path = if args.live { "healthz" } else { "readyz" };
    let answer = match ask("http", address, path).await {
        // A server that speaks TLS does not answer in plain text.
        Err(plain) if !plain.is_connect() && !plain.is_timeout() => ask("https", address, path).await,
        answer => answer,
    };
    let (well, words) = match answer {
        Ok((status, words)) => (status == 200, words.trim().to_owned()),
        Err(error) => (false, format!("no answer from {address}: {}", root_cause(&error))),
    };
    if args.json {
        print::json(&json!({ "well": well, "message": words }))?;
    } else if well {
        print::line(&words)?;
    } else {
        return Err(Failure::Failed(words));
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(scheme: &str, address: SocketAddr, path: &str) -> Result<(u16, String), reqwest::Error> {
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .tls_danger_accept_invalid_certs(scheme == "https")
        .build()?;
    let answer = client.get(format!("{scheme}://{address}/{path}")).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// Where to ask a broker that listens at that address.
fn of_this_host(address: SocketAddr) -> SocketAddr {
    let host = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        host => host,
    };
    SocketAddr::new(host, address.port())
}
