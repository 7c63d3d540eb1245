//! Plain calls to a broker, by the contract and without an SDK.

use std::{collections::HashMap, time::Duration};

use keybroker_proto::v1::{
    AcquireRequest, AcquireResponse, HttpError, InspectPoolRequest, InspectPoolResponse, Lease, LeaseReport,
    NotSent, RenewRequest, RenewResponse, ReportRequest, ReportResult, Success, Usage,
    admin_client::AdminClient, key_broker_client::KeyBrokerClient, lease_report::Outcome,
};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt;

/// The model that tests ask for.
pub const MODEL: &str = "gemini-fake";

/// A connection to one broker.
#[derive(Debug, Clone)]
pub struct Api {
    broker: KeyBrokerClient<Channel>,
    admin: AdminClient<Channel>,
}

impl Api {
    /// Connects to a URL.
    ///
    /// # Panics
    /// If nobody listens there.
    pub async fn connect(url: String) -> Self {
        let endpoint = Channel::from_shared(url).expect("the URL of a broker is one");
        let channel = endpoint.connect().await.expect("the broker listens");
        Self { broker: KeyBrokerClient::new(channel.clone()), admin: AdminClient::new(channel) }
    }

    /// The service of operators.
    pub fn admin(&self) -> AdminClient<Channel> {
        self.admin.clone()
    }

    /// Takes a lease.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn acquire(&self, request: AcquireRequest) -> Result<Lease, Status> {
        self.acquire_settling(request).await.map(|answer| answer.lease.expect("a granted lease is there"))
    }

    /// Takes a lease and answers all that came with it.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn acquire_settling(&self, request: AcquireRequest) -> Result<AcquireResponse, Status> {
        self.broker.clone().acquire(request).await.map(tonic::Response::into_inner)
    }

    /// Takes a lease for [`MODEL`] that must be granted.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn lease(&self) -> Lease {
        self.acquire(ask(MODEL)).await.expect("a lease is free")
    }

    /// Reports one lease.
    ///
    /// # Errors
    /// The broker's.
    pub async fn report(&self, report: LeaseReport) -> Result<ReportResult, Status> {
        self.report_all(vec![report]).await.map(|mut results| results.remove(0))
    }

    /// Reports leases.
    ///
    /// # Errors
    /// The broker's.
    pub async fn report_all(&self, reports: Vec<LeaseReport>) -> Result<Vec<ReportResult>, Status> {
        let answer = self.broker.clone().report(ReportRequest { reports }).await?;
        Ok(answer.into_inner().results)
    }

    /// Extends a lease.
    ///
    /// # Errors
    /// The broker's.
    pub async fn renew(&self, lease_id: &str, ttl: prost_types::Duration) -> Result<RenewResponse, Status> {
        let request = RenewRequest { lease_id: lease_id.to_owned(), ttl: Some(ttl) };
        self.broker.clone().renew(request).await.map(tonic::Response::into_inner)
    }

    /// How a pool stands.
    ///
    /// # Errors
    /// The broker's.
    pub async fn try_inspect(&self, pool: &str) -> Result<InspectPoolResponse, Status> {
        let request = InspectPoolRequest { pool: pool.to_owned() };
        self.admin.clone().inspect_pool(request).await.map(tonic::Response::into_inner)
    }

    /// How the default pool stands.
    ///
    /// # Panics
    /// If the broker does not say.
    pub async fn inspect(&self) -> InspectPoolResponse {
        self.try_inspect("").await.expect("the default pool can be inspected")
    }

    /// What a project has used of [`MODEL`], by the name of the limit.
    pub async fn used(&self, project: &str, limit_name: &str) -> i64 {
        let limits = self.inspect().await.limits;
        let found = limits.iter().find(|limit| {
            (limit.project.as_str(), limit.quota_model.as_str(), limit.limit_name.as_str())
                == (project, MODEL, limit_name)
        });
        found.map_or(0, |limit| limit.used)
    }
}

/// Asks for one lease for a model, by the defaults.
pub fn ask(model: &str) -> AcquireRequest {
    AcquireRequest { model: model.to_owned(), ..AcquireRequest::default() }
}

/// A time on the wire.
pub fn wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).expect("the times of tests are short")
}

/// A time from the wire.
pub fn time(duration: Option<prost_types::Duration>) -> Duration {
    duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .expect("a time of nought or more is there")
}

/// Reports that a request succeeded, with as many input tokens.
pub fn succeeded(lease_id: &str, input_tokens: i64) -> LeaseReport {
    let usage = Usage { input_tokens: Some(input_tokens), ..Usage::default() };
    reported(lease_id, Outcome::Success(Success { usage: Some(usage) }))
}

/// Reports that a request was not sent.
pub fn not_sent(lease_id: &str) -> LeaseReport {
    reported(lease_id, Outcome::NotSent(NotSent {}))
}

/// Reports an error answer.
pub fn answered(lease_id: &str, status: i32, body: impl Into<Vec<u8>>) -> LeaseReport {
    let body: Vec<u8> = body.into();
    reported(lease_id, Outcome::HttpError(HttpError { status, body: body.into(), retry_after: None }))
}

/// Reports an outcome.
pub fn reported(lease_id: &str, outcome: Outcome) -> LeaseReport {
    LeaseReport { lease_id: lease_id.to_owned(), outcome: Some(outcome), latency: None }
}

/// The details of a refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The reason of its `ErrorInfo`.
    pub reason: String,
    /// The metadata of its `ErrorInfo`.
    pub metadata: HashMap<String, String>,
    /// The delay of its `RetryInfo`.
    pub retry_after: Option<Duration>,
    /// What its `QuotaFailure` names.
    pub spent: Vec<String>,
    /// The fields of its `BadRequest`, each with what is wrong and the fix.
    pub fields: Vec<(String, String)>,
}

impl Details {
    /// Reads them.
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().cloned();
        let bad = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        let spent = details.quota_failure().map(|failure| failure.violations.clone()).unwrap_or_default();
        Self {
            reason: info.as_ref().map(|info| info.reason.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata).unwrap_or_default(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            spent: spent.into_iter().map(|violation| violation.subject).collect(),
            fields: bad.into_iter().map(|violation| (violation.field, violation.description)).collect(),
        }
    }

    /// The names of the fields.
    pub fn field_names(&self) -> Vec<&str> {
        self.fields.iter().map(|(field, _)| field.as_str()).collect()
    }
}
