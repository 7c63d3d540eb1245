//! HAProxy before the brokers: it shares out calls of one connection, and asks `/readyz` who may have any.

use std::{
    fmt::Write,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::Error;
use crate::harness::process::{Process, free_port, wait_until};

const PATIENCE: Duration = Duration::from_secs(10);

/// A running balancer; it ends with this.
pub(super) struct Balancer {
    /// Where it listens.
    pub(super) url: String,
    _process: Process,
}

impl Balancer {
    /// Starts one before these brokers, each with its addresses for gRPC and HTTP.
    pub(super) fn start(brokers: &[(String, String)], folder: &Path) -> Result<Self, Error> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let file = folder.join("haproxy.cfg");
        fs::write(&file, configuration(&address, brokers))?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process::start("haproxy", &mut command)?;
        if !wait_until(PATIENCE, || std::net::TcpStream::connect(&address).is_ok()) {
            return Err("haproxy does not listen".into());
        }
        Ok(Self { url: format!("http://{address}"), _process: process })
    }
}

/// The one of `deploy/README.md`: calls go to brokers that say they are ready, those that reached none are made again
/// elsewhere, and a call may wait as long as a broker lets it.
fn configuration(address: &str, brokers: &[(String, String)]) -> String {
    let mut text = format!(
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 11m\n  timeout server 11m\n  retries 3\n  \
         retry-on conn-failure\n  option redispatch 1\n\
         frontend grpc\n  bind {address} proto h2\n  default_backend brokers\n\
         backend brokers\n  balance leastconn\n  option httpchk GET /readyz\n  \
         default-server proto h2 check check-proto h1 inter 200ms rise 1 fall 1\n"
    );
    for (number, (grpc, http)) in brokers.iter().enumerate() {
        let port = http.rsplit(':').next().unwrap_or_default();
        let _ = writeln!(text, "  server broker-{number} {grpc} port {port}");
    }
    text
}
