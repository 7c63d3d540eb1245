//! The service `keybroker.v1.KeyBroker`.

use std::sync::Arc;

use futures_util::future::try_join_all;
use keybroker_proto::v1::{
    AcquireRequest, AcquireResponse, ErrorReason, RenewRequest, RenewResponse, ReportRequest, ReportResponse,
    ReportResult, key_broker_server::KeyBroker,
};
use tokio::{sync::Semaphore, time::Instant};
use tonic::{Code, Request, Response, Status};

use super::{
    caller_of,
    check::{self, Faults},
    convert, deadline, pool_of, status,
};
use crate::{
    access::Caller,
    broker::{Broker, pool_name},
    events::instant,
    fleet::Fleet,
    lease_id::LeaseId,
    lease_log::{LeaseLog, Line, What},
    ledger::SettleState,
    pool::{AcquireError, Limited, Report, Reported, Wish},
    server::Peer,
};

const MOST_REPORTS: usize = 256;
/// How many learned names of models are written down at a time; what is left out is learned again.
const MOST_LEARNING: usize = 8;

/// Leases keys.
pub struct KeyBrokerService {
    broker: Arc<Broker>,
    fleet: Arc<Fleet>,
    learning: Arc<Semaphore>,
    lease_log: Option<Arc<LeaseLog>>,
}

impl KeyBrokerService {
    /// The service of that fleet's broker.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        let learning = Arc::new(Semaphore::new(MOST_LEARNING));
        Self { broker: fleet.broker().clone(), fleet, learning, lease_log: None }
    }

    /// The same, which writes down who held which key when.
    #[must_use]
    pub fn writing(self, lease_log: Option<Arc<LeaseLog>>) -> Self {
        Self { lease_log, ..self }
    }

    /// Who makes a call, if that is written down.
    fn by<T>(&self, request: &Request<T>, caller: &Caller) -> Option<By> {
        self.lease_log.as_ref().map(|lease_log| By::of(request, caller, lease_log.clone()))
    }

    async fn report_one(&self, report: &Report<'_>, by: Option<&By>) -> Result<ReportResult, Status> {
        let id = report.lease.to_string();
        let reported = match self.broker.pool_of_lease(report.lease.pool) {
            Some(pool) => pool.report(report).await.map_err(|error| status::of_acquire(&error))?,
            None => Reported::unknown(&report.outcome),
        };
        if let Some(by) = by
            && matches!(reported.state, SettleState::Settled | SettleState::Late)
        {
            by.write(Line {
                key_id: reported.key_id.clone(),
                quota_model: report.lease.quota_model().to_owned(),
                outcome: reported.signal.as_str().to_owned(),
                ..by.line(What::Settled, &id, report.lease.pool)
            });
        }
        if let Some(quota_model) = reported.counted_as.clone()
            && let Ok(permit) = self.learning.clone().try_acquire_owned()
        {
            // What is learned is for those who come next; nobody waits for it.
            let (fleet, model) = (self.fleet.clone(), report.lease.quota_model().to_owned());
            tokio::spawn(async move {
                let _permit = permit;
                if let Err(error) = fleet.learn_alias(&model, &quota_model).await {
                    tracing::warn!(%error, model, quota_model, "what a model counts as could not be remembered");
                }
            });
        }
        Ok(convert::reported(&id, &reported))
    }
}

/// Who makes a call, as the lease log tells it.
struct By {
    lease_log: Arc<LeaseLog>,
    identity: String,
    peer: String,
}

impl By {
    fn of<T>(request: &Request<T>, caller: &Caller, lease_log: Arc<LeaseLog>) -> Self {
        let peer = request.extensions().get::<Peer>().and_then(|peer| peer.address);
        let peer = peer.map(|address| address.ip().to_string()).unwrap_or_default();
        Self { lease_log, identity: caller.name().to_owned(), peer }
    }

    fn write(&self, line: Line) {
        self.lease_log.write(line);
    }

    fn line(&self, what: What, lease_id: &str, pool: &str) -> Line {
        Line { identity: self.identity.clone(), peer: self.peer.clone(), ..Line::new(what, lease_id, pool) }
    }
}

/// Passes if the caller may have such a lease. A request that names no consumer counts for the caller's own.
fn may_lease(caller: &Caller, pool: &str, wish: &mut Wish) -> Result<(), Status> {
    let consumer = caller
        .may_use_pool(pool_name(pool))
        .and_then(|()| caller.may_use_model(&wish.quota_model))
        .and_then(|()| caller.consumer(&wish.consumer))
        .map_err(|why| status::denied(&why))?
        .to_owned();
    wish.consumer = consumer;
    wish.identity =
        caller.plan().map(|plan| Limited { identity: caller.name().to_owned(), plan: plan.to_owned() });
    Ok(())
}

#[tonic::async_trait]
impl KeyBroker for KeyBrokerService {
    async fn acquire(&self, request: Request<AcquireRequest>) -> Result<Response<AcquireResponse>, Status> {
        let caller = caller_of(&request);
        let by = self.by(&request, &caller);
        let mut faults = Faults::default();
        let deadline = deadline::of(&request, &mut faults);
        let request = request.into_inner();
        let mut wish = check::wish(&request, &mut faults);
        let earlier =
            request.settle.as_ref().and_then(|earlier| check::report(earlier, "settle", &mut faults));
        faults.into_result()?;
        may_lease(&caller, &request.pool, &mut wish)?;
        if let Some(earlier) = &earlier {
            caller.may_use_pool(earlier.lease.pool).map_err(|why| status::denied(&why))?;
        }
        let pool = pool_of(&self.broker, &request.pool, &caller)?;
        wish.note = self.broker.note(&wish.consumer, &request.labels).encode();
        wish.quota_model = self.broker.quota_model(&wish.quota_model);
        // The earlier lease is settled also when no new one can be had.
        let settled = match &earlier {
            Some(report) => Some(self.report_one(report, by.as_ref()).await?),
            None => None,
        };
        if self.broker.is_draining() {
            return Err(status::shutting_down());
        }
        if let Some(deadline) = deadline {
            if deadline.at <= Instant::now() {
                return Err(status::of_acquire(&AcquireError::DeadlinePassed));
            }
            // Nobody waits for longer than the caller listens; a refusal is to reach it as well.
            wish.wait = wish.wait.min(deadline.answer_by.saturating_duration_since(Instant::now()));
            wish.deadline = Some(deadline.at);
        }
        match pool.acquire(&wish, self.broker.drained()).await {
            Ok(grant) => {
                if let Some(by) = by {
                    by.write(Line {
                        key_id: grant.key.id.clone(),
                        project: grant.project.clone(),
                        quota_model: grant.quota_model.clone(),
                        consumer: wish.consumer.clone(),
                        expires_at: instant(grant.expires_at),
                        ..by.line(What::Leased, &grant.lease_id, pool_name(&request.pool))
                    });
                }
                Ok(Response::new(AcquireResponse { lease: Some(convert::lease(&grant)), settled }))
            }
            Err(error) => Err(status::of_acquire(&error)),
        }
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let caller = caller_of(&request);
        let by = self.by(&request, &caller);
        let request = request.into_inner();
        let mut faults = Faults::default();
        let count = request.reports.len();
        if !(1..=MOST_REPORTS).contains(&count) {
            faults.add("reports", format!("are {count}; send 1 to {MOST_REPORTS}"));
        }
        let checked = |(index, report)| check::report(report, &format!("reports[{index}]"), &mut faults);
        let reports: Vec<_> =
            request.reports.iter().take(MOST_REPORTS).enumerate().filter_map(checked).collect();
        faults.into_result()?;
        for report in &reports {
            caller.may_use_pool(report.lease.pool).map_err(|why| status::denied(&why))?;
        }
        // All at once: they share the batches of group commit.
        let mut settling = Vec::with_capacity(reports.len());
        for report in &reports {
            settling.push(self.report_one(report, by.as_ref()));
        }
        let results = try_join_all(settling).await?;
        Ok(Response::new(ReportResponse { results }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let caller = caller_of(&request);
        let by = self.by(&request, &caller);
        let request = request.into_inner();
        let mut faults = Faults::default();
        let ttl = check::ttl(request.ttl.as_ref(), &mut faults);
        let id = LeaseId::parse(&request.lease_id);
        if id.is_none() {
            faults.add("lease_id", "is not a lease id; pass on what Acquire returned");
        }
        faults.into_result()?;
        let unknown = || {
            let message = "no such lease is known: its pool is not configured here";
            status::status(Code::NotFound, ErrorReason::UnknownLeaseId, message)
        };
        let id = id.ok_or_else(unknown)?;
        caller.may_use_pool(id.pool).map_err(|why| status::denied(&why))?;
        let pool = self.broker.pool_of_lease(id.pool).ok_or_else(unknown)?;
        let (expires_at, expires_in) = pool.renew(id, ttl).await.map_err(|error| status::of_renew(&error))?;
        if let Some(by) = by {
            by.write(Line {
                quota_model: id.quota_model().to_owned(),
                expires_at: instant(expires_at),
                ..by.line(What::Renewed, &request.lease_id, id.pool)
            });
        }
        Ok(Response::new(RenewResponse {
            expires_at: Some(convert::timestamp(expires_at)),
            expires_in: Some(convert::duration(expires_in)),
        }))
    }
}
