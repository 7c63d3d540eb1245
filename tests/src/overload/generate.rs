//! The load: acquires at a rate, whatever the answers are, and a report of each lease.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Args;
use keybroker_proto::v1::{
    AcquireRequest, Constraints, ReportRequest, SettleState, key_broker_client::KeyBrokerClient,
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::{Error, Outcome, outcome::Counter, stage::LABEL};
use crate::harness::api::{Details, MODEL, succeeded};

const TICK: Duration = Duration::from_millis(1);

/// A load.
#[derive(Debug, Clone, Args)]
pub struct Load {
    /// The broker's URL
    #[arg(long)]
    pub url: String,
    /// Acquires a second; 0 lets `callers` ask again as soon as they were answered
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// How many ask at a time when there is no rate
    #[arg(long, default_value_t = 64)]
    pub callers: usize,
    /// For how long, in seconds
    #[arg(long)]
    pub seconds: u64,
    /// Over how many connections
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// How many acquires may be under way; what is due beyond is not sent, and counted
    #[arg(long, default_value_t = 2000)]
    pub outstanding: u32,
    /// Ask by labels, so that the ledger looks at each of the keys
    #[arg(long)]
    pub by_labels: bool,
}

struct Generator {
    clients: Vec<KeyBrokerClient<Channel>>,
    request: AcquireRequest,
    counter: Mutex<Counter>,
    started: Instant,
}

/// Puts a load on a broker.
///
/// # Errors
/// If the broker cannot be reached.
pub async fn generate(load: &Load) -> Result<Outcome, Error> {
    let mut clients = Vec::with_capacity(load.connections);
    for _ in 0..load.connections.max(1) {
        let endpoint = Endpoint::from_shared(load.url.clone())?.tcp_nodelay(true);
        clients.push(KeyBrokerClient::new(endpoint.connect().await?));
    }
    let mut request =
        AcquireRequest { model: MODEL.to_owned(), input_tokens: 10, ..AcquireRequest::default() };
    if load.by_labels {
        let (name, value) = LABEL;
        let labels = [(name.to_owned(), value.to_owned())].into();
        request.constraints = Some(Constraints { labels, ..Constraints::default() });
    }
    let seconds = usize::try_from(load.seconds)?;
    let counter = Mutex::new(Counter::new(seconds));
    let generator = Arc::new(Generator { clients, request, counter, started: Instant::now() });
    if load.rate == 0 {
        generator.clone().keep_asking(load).await;
    } else {
        generator.clone().ask_at_rate(load).await?;
    }
    let elapsed = generator.started.elapsed();
    let generator = Arc::into_inner(generator).ok_or("a call is still under way")?;
    Ok(generator.counter.into_inner()?.finish(elapsed))
}

impl Generator {
    async fn keep_asking(self: Arc<Self>, load: &Load) {
        let until = self.started + Duration::from_secs(load.seconds);
        let mut callers = JoinSet::new();
        for caller in 0..load.callers {
            let this = self.clone();
            callers.spawn(async move {
                while Instant::now() < until {
                    this.count(|counter| counter.outcome.offered += 1);
                    this.ask(caller, Instant::now()).await;
                }
            });
        }
        callers.join_all().await;
    }

    async fn ask_at_rate(self: Arc<Self>, load: &Load) -> Result<(), Error> {
        let room = Arc::new(Semaphore::new(usize::try_from(load.outstanding)?));
        let (mut sent, all) = (0, load.rate * load.seconds);
        while sent < all {
            let due = u64::try_from(self.started.elapsed().as_micros())? * load.rate / 1_000_000;
            for number in sent..due.min(all) {
                let Ok(place) = room.clone().try_acquire_owned() else {
                    self.count(|counter| counter.outcome.unsent += 1);
                    continue;
                };
                self.count(|counter| counter.outcome.offered += 1);
                let (this, at) = (self.clone(), Duration::from_micros(number * 1_000_000 / load.rate));
                tokio::spawn(async move {
                    let _place = place;
                    this.ask(usize::try_from(number).unwrap_or_default(), this.started + at).await;
                });
            }
            sent = due.min(all).max(sent);
            sleep_until(Instant::now() + TICK).await;
        }
        // All are answered when every place is free again.
        let _ = room.acquire_many(load.outstanding).await?;
        while Arc::strong_count(&self) > 2 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Asks once, and reports what was leased.
    async fn ask(&self, number: usize, due: Instant) {
        let mut client = self.clients[number % self.clients.len()].clone();
        let answer = client.acquire(self.request.clone()).await;
        let took = due.elapsed();
        let second = usize::try_from((due - self.started).as_secs()).unwrap_or(usize::MAX);
        match answer.map(|answer| answer.into_inner().lease.unwrap_or_default()) {
            Ok(lease) => {
                self.count(|counter| counter.granted(second, took));
                let reports = vec![succeeded(&lease.lease_id, 9)];
                let answer = client.report(ReportRequest { reports }).await;
                self.count(|counter| match answer {
                    Ok(answer)
                        if answer.get_ref().results.iter().all(|one| one.state() == SettleState::Settled) =>
                    {
                        counter.outcome.settled += 1;
                    }
                    Ok(_) => *counter.outcome.reports_refused.entry("unsettled".to_owned()).or_default() += 1,
                    Err(status) => {
                        *counter.outcome.reports_refused.entry(reason(&status)).or_default() += 1;
                    }
                });
            }
            Err(status) => self.count(|counter| counter.refused(reason(&status), took)),
        }
    }

    fn count(&self, count: impl FnOnce(&mut Counter)) {
        count(&mut self.counter.lock().expect("no holder of this lock panics"));
    }
}

fn reason(status: &Status) -> String {
    let reason = Details::of(status).reason;
    if reason.is_empty() { format!("{:?}: {}", status.code(), status.message()) } else { reason }
}
