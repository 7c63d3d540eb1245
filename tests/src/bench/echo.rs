//! The ceiling: a server of the same contract that gives canned answers of the usual size.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
    time::Duration,
};

use keybroker_proto::v1::{
    AcquireRequest, AcquireResponse, Advice, Lease, RenewRequest, RenewResponse, ReportRequest,
    ReportResponse, ReportResult, SettleState, Signal,
    advice::Action,
    key_broker_server::{KeyBroker, KeyBrokerServer},
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::{Error, target::MODEL};
use crate::harness::process::Process;

/// What the broker reads at most too.
const LARGEST_REQUEST: usize = 8 * 1024 * 1024;

struct Echo {
    lease: Lease,
}

impl Echo {
    fn new() -> Self {
        Self {
            lease: Lease {
                lease_id: format!("default:0123456789abcdef/{MODEL}:0123456789abcdef-12345"),
                key_id: "key-00001".to_owned(),
                api_key: format!("AIza{:035}", 1),
                project: "project-00001".to_owned(),
                quota_model: MODEL.to_owned(),
                send_within: Some(prost_types::Duration { seconds: 1, nanos: 1 }),
                expires_at: Some(prost_types::Timestamp { seconds: 2_000_000_000, nanos: 0 }),
                expires_in: Some(prost_types::Duration { seconds: 60, nanos: 123_000_000 }),
                permits: 1,
                over_plan: false,
            },
        }
    }
}

#[tonic::async_trait]
impl KeyBroker for Echo {
    async fn acquire(&self, _: Request<AcquireRequest>) -> Result<Response<AcquireResponse>, Status> {
        Ok(Response::new(AcquireResponse { lease: Some(self.lease.clone()), settled: None }))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let result = |report: keybroker_proto::v1::LeaseReport| ReportResult {
            lease_id: report.lease_id,
            state: SettleState::Settled.into(),
            advice: Some(Advice {
                action: Action::Done.into(),
                retry_after: None,
                signal: Signal::Ok.into(),
                message: "the request succeeded".to_owned(),
                once: false,
            }),
        };
        let results = request.into_inner().reports.into_iter().map(result).collect();
        Ok(Response::new(ReportResponse { results }))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(Status::unimplemented("the echo does not renew"))
    }
}

/// Serves until standard input ends, with the runtime and the options of the broker. The address is
/// the first line of standard output.
///
/// # Errors
/// If it cannot listen.
pub fn serve() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", listener.local_addr()?)?;
        stdout.flush()?;
        // Whoever started this holds the other end, and lets go of it however it ends.
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            drop(ended);
        });
        let server = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .add_service(KeyBrokerServer::new(Echo::new()).max_decoding_message_size(LARGEST_REQUEST))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        tokio::select! {
            ended = server => ended.map_err(Error::from),
            _ = end => Ok(()),
        }
    })
}

/// A running echo; it ends when this is dropped.
pub(super) struct EchoProcess {
    process: Process,
    /// Where it serves.
    pub(super) url: String,
}

impl EchoProcess {
    pub(super) fn start() -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("echo-server").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start("echo-server", &mut command)?;
        let stdout = process.child().stdout.take().ok_or("standard output is piped")?;
        let mut addr = String::new();
        BufReader::new(stdout).read_line(&mut addr)?;
        if addr.trim().is_empty() {
            return Err("the echo server does not serve".into());
        }
        Ok(Self { process, url: format!("http://{}", addr.trim()) })
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }
}
