//! How everything stands, as the brokers and the stand-in for Gemini tell it.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use keybroker_fake_gemini::Verdict;
use keybroker_proto::v1::{
    BrokerCounters, Event, InspectPoolRequest, InspectPoolResponse, WatchEventsRequest,
    admin_client::AdminClient,
};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tonic::transport::{Channel, Endpoint};

use super::{Fault, stage::Stage, workers::Workers};

/// How long the ledger is asked for leases that are still open.
const REPORTS_PATIENCE: Duration = Duration::from_secs(3);

/// Everything at an instant.
pub(super) struct Standing {
    pub(super) after: Duration,
    /// The pool, with the counters of all brokers.
    pub(super) pool: InspectPoolResponse,
    pub(super) verdict: Verdict,
    pub(super) answered: u64,
}

pub(super) struct Watch {
    brokers: Vec<AdminClient<Channel>>,
    events: mpsc::Receiver<Event>,
    _following: JoinSet<()>,
}

impl Watch {
    pub(super) fn begin(stage: &Stage) -> Result<Self, Fault> {
        let connect = |address: &std::net::SocketAddr| {
            Ok::<_, Fault>(AdminClient::new(
                Endpoint::from_shared(format!("http://{address}"))?.connect_lazy(),
            ))
        };
        let brokers =
            stage.brokers.iter().map(|broker| connect(&broker.grpc)).collect::<Result<Vec<_>, _>>()?;
        let (sender, events) = mpsc::channel(64);
        let mut following = JoinSet::new();
        for mut broker in brokers.clone() {
            let sender = sender.clone();
            following.spawn(async move {
                let mut after = String::new();
                // A stream ends by itself now and then.
                loop {
                    let request =
                        WatchEventsRequest { after: after.clone(), ..WatchEventsRequest::default() };
                    let Ok(stream) = broker.watch_events(request).await else { return };
                    let mut stream = stream.into_inner();
                    while let Ok(Some(event)) = stream.message().await {
                        after.clone_from(&event.id);
                        if sender.send(event).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
        Ok(Self { brokers, events, _following: following })
    }

    /// What happens next.
    pub(super) async fn event(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn look(
        &self,
        stage: &Stage,
        after: Duration,
        workers: &Workers,
    ) -> Result<Standing, Fault> {
        let asked = self.brokers.iter().cloned().map(|mut broker| async move {
            broker.inspect_pool(InspectPoolRequest::default()).await.map(tonic::Response::into_inner)
        });
        let mut views = try_join_all(asked).await?;
        let counters =
            views.iter().filter_map(|view| view.counters).fold(BrokerCounters::default(), |sum, counters| {
                BrokerCounters {
                    granted: sum.granted + counters.granted,
                    refused: sum.refused + counters.refused,
                    settled: sum.settled + counters.settled,
                    waiting: sum.waiting + counters.waiting,
                }
            });
        // They share a ledger; what one tells of it, all do.
        let pool = InspectPoolResponse { counters: Some(counters), ..views.swap_remove(0) };
        let answered = workers.tally.answered.load(Relaxed);
        Ok(Standing { after, pool, verdict: stage.gemini.verdict(), answered })
    }

    /// How everything stands once no lease is open any more, or after some patience as it is.
    pub(super) async fn settled(
        &self,
        stage: &Stage,
        after: Duration,
        workers: &Workers,
    ) -> Result<Standing, Fault> {
        let until = Instant::now() + REPORTS_PATIENCE;
        loop {
            let standing = self.look(stage, after, workers).await?;
            if standing.open() == 0 || Instant::now() > until {
                return Ok(standing);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Standing {
    /// Leases that are held.
    pub(super) fn open(&self) -> i64 {
        let in_flight = self.pool.limits.iter().filter(|limit| limit.limit_name == "requests in flight");
        in_flight.map(|limit| limit.used).sum()
    }

    /// Requests that the stand-in answered with an error, for whatever reason.
    pub(super) fn refused_by_gemini(&self) -> u64 {
        self.verdict.statuses.iter().filter(|(status, _)| **status >= 400).map(|(_, calls)| calls).sum()
    }
}
