//! A broker that records every call and answers by a script.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use keybroker_client::Broker;
use keybroker_proto::{
    ERROR_DOMAIN,
    v1::{
        self, AcquireRequest, AcquireResponse, Advice, ErrorReason, LeaseReport, RenewRequest, RenewResponse,
        ReportRequest, ReportResponse, ReportResult, SettleState, advice::Action, key_broker_server,
        lease_report::Outcome, transport_error::Kind,
    },
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataMap,
    transport::{Server, ServerTlsConfig},
};
use tonic_types::{ErrorDetails, StatusExt};

/// The consumer that is over its plan.
pub(crate) const SPENDTHRIFT: &str = "spendthrift";

/// What the next Acquire is answered.
pub(crate) enum Grant {
    Refuse(Status),
    /// A lease, after a delay, with this `send_within` and `expires_in`.
    Lease {
        delay: Duration,
        send_within: Duration,
        expires_in: Duration,
    },
}

impl Grant {
    pub(crate) const USUAL: Self = Self::Lease {
        delay: Duration::ZERO,
        send_within: Duration::from_secs(5),
        expires_in: Duration::from_secs(60),
    };

    pub(crate) const TOO_LATE: Self = Self::Lease {
        delay: Duration::from_millis(20),
        send_within: Duration::from_millis(1),
        expires_in: Duration::from_secs(60),
    };

    pub(crate) fn refused_for(wait: Duration) -> Self {
        let mut details = ErrorDetails::with_retry_info(Some(wait));
        details.add_quota_failure_violation("project:alpha", "requests in 60 s: 5 of 5");
        Self::failed(Code::ResourceExhausted, ErrorReason::QuotaExhausted, details)
    }

    pub(crate) fn failed(code: Code, reason: ErrorReason, mut details: ErrorDetails) -> Self {
        details.set_error_info(reason.as_str_name(), ERROR_DOMAIN, []);
        Self::Refuse(Status::with_error_details(code, "said the mock", details))
    }
}

#[derive(Default)]
pub(crate) struct Script {
    pub(crate) grants: VecDeque<Grant>,
    pub(crate) advice: VecDeque<Advice>,
    pub(crate) report_failures: VecDeque<Status>,
    pub(crate) renew_failures: VecDeque<Status>,
    pub(crate) acquires: Vec<AcquireRequest>,
    /// What came along with each Acquire.
    pub(crate) metadata: Vec<MetadataMap>,
    /// The token that is wanted of each Acquire, if any.
    pub(crate) token: Option<&'static str>,
    pub(crate) reports: Vec<LeaseReport>,
    pub(crate) report_calls: usize,
    pub(crate) renews: Vec<RenewRequest>,
    granted: usize,
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<Script>>);

impl Service {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct MockBroker {
    service: Service,
    address: SocketAddr,
    tls: Option<ServerTlsConfig>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl MockBroker {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(tls: Option<ServerTlsConfig>) -> Self {
        let (service, address) = (Service::default(), ([127, 0, 0, 1], 0).into());
        let mut broker = Self { service, address, tls, running: None };
        broker.come_back().await;
        broker
    }

    pub(crate) async fn go_away(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            drop(stop);
            task.await.expect("the mock stops cleanly");
        }
    }

    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is free");
        self.address = listener.local_addr().expect("a bound socket has an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let service = key_broker_server::KeyBrokerServer::new(self.service.clone());
        let tls = self.tls.clone();
        let task = tokio::spawn(async move {
            let mut server = Server::builder();
            if let Some(tls) = tls {
                server = server.tls_config(tls).expect("the certificates can be used");
            }
            server
                .add_service(service)
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                    drop(stopped.await);
                })
                .await
                .expect("the mock serves");
        });
        self.running = Some((stop, task));
    }

    pub(crate) fn client(&self) -> Broker {
        Broker::connect(self.address.to_string()).expect("the address is valid")
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.service.script()
    }

    pub(crate) fn will_grant(&self, grants: impl IntoIterator<Item = Grant>) {
        self.script().grants.extend(grants);
    }

    pub(crate) fn will_advise(&self, actions: impl IntoIterator<Item = (Action, Option<Duration>)>) {
        let advice = actions.into_iter().map(|(action, wait)| advice(action, wait));
        self.script().advice.extend(advice);
    }

    /// Waits until there are at least this many reports.
    pub(crate) async fn reports(&self, count: usize) -> Vec<LeaseReport> {
        self.until(|script| script.reports.len() >= count).await;
        self.script().reports.clone()
    }

    pub(crate) async fn until(&self, condition: impl Fn(&Script) -> bool) {
        for _ in 0..2_000 {
            if condition(&self.script()) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        let reports = self.script().reports.clone();
        panic!("the broker was not told what was expected; reports: {reports:?}");
    }
}

pub(crate) fn advice(action: Action, wait: Option<Duration>) -> Advice {
    let retry_after = wait.map(|wait| prost_types::Duration::try_from(wait).expect("a short wait"));
    Advice { action: action as i32, retry_after, message: "said the mock".to_owned(), ..Advice::default() }
}

/// The outcome of a report in one word.
pub(crate) fn word(report: &LeaseReport) -> String {
    match report.outcome.as_ref().expect("a report has an outcome") {
        Outcome::Success(_) => "success".to_owned(),
        Outcome::HttpError(error) => format!("http {}", error.status),
        Outcome::TransportError(error) => {
            Kind::try_from(error.kind).expect("a known kind").as_str_name().to_lowercase()
        }
        Outcome::NotSent(_) => "not sent".to_owned(),
    }
}

pub(crate) fn words(reports: &[LeaseReport]) -> Vec<String> {
    reports.iter().map(word).collect()
}

impl Service {
    fn settle(&self, report: LeaseReport) -> ReportResult {
        let mut script = self.script();
        let usual = match report.outcome {
            Some(Outcome::Success(_) | Outcome::NotSent(_)) => Action::Done,
            _ => Action::DoNotRetry,
        };
        let advice = script.advice.pop_front().unwrap_or_else(|| advice(usual, None));
        let lease_id = report.lease_id.clone();
        script.reports.push(report);
        ReportResult { lease_id, state: SettleState::Settled as i32, advice: Some(advice) }
    }
}

#[tonic::async_trait]
impl key_broker_server::KeyBroker for Service {
    async fn acquire(&self, request: Request<AcquireRequest>) -> Result<Response<AcquireResponse>, Status> {
        let (metadata, _, mut request) = request.into_parts();
        let token = metadata.get("authorization").and_then(|token| token.to_str().ok()).map(str::to_owned);
        let wanted = self.script().token.map(|token| format!("Bearer {token}"));
        if wanted.is_some() && token != wanted {
            return Err(Status::unauthenticated("the token is not known"));
        }
        self.script().metadata.push(metadata);
        let settled = request.settle.take().map(|report| self.settle(report));
        let (grant, number) = {
            let mut script = self.script();
            script.acquires.push(request.clone());
            script.granted += 1;
            (script.grants.pop_front().unwrap_or(Grant::USUAL), script.granted)
        };
        let (delay, send_within, expires_in) = match grant {
            Grant::Refuse(status) => return Err(status),
            Grant::Lease { delay, send_within, expires_in } => (delay, send_within, expires_in),
        };
        sleep(delay).await;
        let lease = v1::Lease {
            lease_id: format!("lease-{number}"),
            key_id: format!("key-{number}"),
            api_key: format!("fake-secret-{number}"),
            project: "alpha".to_owned(),
            quota_model: "gemini-flash".to_owned(),
            send_within: Some(send_within.try_into().expect("a short time")),
            expires_at: None,
            expires_in: Some(expires_in.try_into().expect("a short time")),
            permits: request.permits.unwrap_or(1),
            over_plan: request.consumer == SPENDTHRIFT,
        };
        Ok(Response::new(AcquireResponse { lease: Some(lease), settled }))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let failure = {
            let mut script = self.script();
            script.report_calls += 1;
            script.report_failures.pop_front()
        };
        if let Some(status) = failure {
            return Err(status);
        }
        let reports = request.into_inner().reports;
        if reports.iter().any(|report| report.lease_id.is_empty()) {
            return Err(Status::invalid_argument("a report without a lease_id"));
        }
        let results = reports.into_iter().map(|report| self.settle(report)).collect();
        Ok(Response::new(ReportResponse { results }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let request = request.into_inner();
        let mut script = self.script();
        let ttl = request.ttl;
        script.renews.push(request);
        match script.renew_failures.pop_front() {
            Some(status) => Err(status),
            None => Ok(Response::new(RenewResponse { expires_at: None, expires_in: ttl })),
        }
    }
}
