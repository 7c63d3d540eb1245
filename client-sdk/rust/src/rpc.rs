//! The three calls of the contract, each with a deadline and a typed error.

use std::{
    future::Future,
    sync::OnceLock,
    time::{Duration, Instant},
};

use keybroker_proto::v1::{self, key_broker_client::KeyBrokerClient};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::{error::Error, status};

/// One address of a broker.
pub(crate) struct Rpc {
    endpoint: Endpoint,
    /// Made at the first call, because making it needs a runtime and connecting does not.
    client: OnceLock<KeyBrokerClient<Channel>>,
    pub(crate) call_timeout: Duration,
}

impl Rpc {
    pub(crate) fn new(endpoint: Endpoint, call_timeout: Duration) -> Self {
        Self { endpoint, client: OnceLock::new(), call_timeout }
    }

    /// Never retried here: an Acquire whose answer was lost may have granted a lease.
    pub(crate) async fn acquire(&self, request: v1::AcquireRequest) -> Result<v1::AcquireResponse, Error> {
        let wait = request.wait.map_or(Duration::ZERO, crate::wire::from_proto);
        let within = wait.saturating_add(self.call_timeout);
        let mut client = self.client();
        bounded(within, client.acquire(with_deadline(request, within))).await
    }

    pub(crate) async fn report(&self, reports: Vec<v1::LeaseReport>) -> Result<v1::ReportResponse, Error> {
        let request = with_deadline(v1::ReportRequest { reports }, self.call_timeout);
        let mut client = self.client();
        bounded(self.call_timeout, client.report(request)).await
    }

    pub(crate) async fn renew(&self, request: v1::RenewRequest) -> Result<v1::RenewResponse, Error> {
        let request = with_deadline(request, self.call_timeout);
        let mut client = self.client();
        bounded(self.call_timeout, client.renew(request)).await
    }

    fn client(&self) -> KeyBrokerClient<Channel> {
        self.client.get_or_init(|| KeyBrokerClient::new(self.endpoint.connect_lazy())).clone()
    }
}

/// Tells the server the deadline, so that it does not work for a caller that is gone.
fn with_deadline<T>(message: T, within: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(within);
    request
}

async fn bounded<T>(
    within: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Error> {
    match tokio::time::timeout(within, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status::read(&status, Instant::now(), within)),
        Err(_) => Err(Error::DeadlineExceeded { within }),
    }
}
