//! Callers: the same code for the ceiling and for the broker.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use keybroker_proto::v1::{
    AcquireRequest, Lease, LeaseReport, ReportRequest, Success, Usage, key_broker_client::KeyBrokerClient,
    lease_report::Outcome,
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use super::{Error, case::Shape, target::MODEL};
use crate::harness::api::Details;

/// Input tokens that an acquire asks for, and what its report says was used.
const TOKENS: (i64, i64) = (1000, 900);
/// No single call takes longer, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// How long a call may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections to one server.
#[derive(Clone)]
pub(super) struct Callers {
    clients: Vec<KeyBrokerClient<Channel>>,
}

/// What a slice of time brought.
pub(super) struct Slice {
    /// Loops done: leases taken.
    pub(super) leases: u64,
    /// How long it took.
    pub(super) elapsed: Duration,
    /// The time of each loop, in nanoseconds.
    pub(super) latencies: Histogram<u64>,
}

impl Slice {
    /// Leases a second.
    pub(super) fn rate(&self) -> f64 {
        self.leases as f64 / self.elapsed.as_secs_f64()
    }
}

impl Callers {
    pub(super) async fn connect(url: &str, connections: usize) -> Result<Self, Error> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).timeout(PATIENCE);
            clients.push(KeyBrokerClient::new(endpoint.connect().await?));
        }
        Ok(Self { clients })
    }

    /// Lets so many callers loop for that long.
    pub(super) async fn run(&self, shape: Shape, tasks: usize, length: Duration) -> Result<Slice, Error> {
        let started = Instant::now();
        let until = started + length;
        let callers: Vec<_> = (0..tasks)
            .map(|task| tokio::spawn(call(self.clients[task % self.clients.len()].clone(), shape, until)))
            .collect();
        let mut latencies = Histogram::new_with_bounds(1, LONGEST, 3)?;
        for caller in callers {
            for nanos in caller.await?? {
                latencies.saturating_record(nanos);
            }
        }
        Ok(Slice { leases: latencies.len(), elapsed: started.elapsed(), latencies })
    }
}

async fn call(mut client: KeyBrokerClient<Channel>, shape: Shape, until: Instant) -> Result<Vec<u64>, Error> {
    let mut times = Vec::with_capacity(4096);
    let mut now = Instant::now();
    while now < until {
        let request =
            AcquireRequest { model: MODEL.to_owned(), input_tokens: TOKENS.0, ..AcquireRequest::default() };
        let lease = acquire(&mut client, request).await?;
        if shape == Shape::AcquireReport {
            report(&mut client, lease.lease_id).await?;
        }
        let done = Instant::now();
        times.push(u64::try_from((done - now).as_nanos())?);
        now = done;
    }
    Ok(times)
}

/// A lease. Who is told to come again does, and it is part of the time that the lease takes.
async fn acquire(client: &mut KeyBrokerClient<Channel>, request: AcquireRequest) -> Result<Lease, Error> {
    loop {
        let status = match client.acquire(request.clone()).await {
            Ok(answer) => return answer.into_inner().lease.ok_or_else(|| "an answer without a lease".into()),
            Err(status) => status,
        };
        match Details::of(&status).retry_after {
            Some(delay) if status.code() == Code::ResourceExhausted => tokio::time::sleep(delay).await,
            _ => return Err(status.into()),
        }
    }
}

async fn report(client: &mut KeyBrokerClient<Channel>, lease_id: String) -> Result<(), Error> {
    let usage = Usage {
        input_tokens: Some(TOKENS.1),
        output_tokens: Some(200),
        total_tokens: Some(TOKENS.1 + 200),
        ..Usage::default()
    };
    let outcome = Some(Outcome::Success(Success { usage: Some(usage) }));
    let latency = Some(prost_types::Duration { seconds: 1, nanos: 234_000_000 });
    let reports = vec![LeaseReport { lease_id, outcome, latency }];
    let answer = client.report(ReportRequest { reports }).await?.into_inner();
    match answer.results.first() {
        Some(result) if result.state() == keybroker_proto::v1::SettleState::Settled => Ok(()),
        other => Err(format!("a report that did not settle: {other:?}").into()),
    }
}
