//! The three calls of the contract, each with a deadline and a typed error.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use keybroker_proto::v1::{self, key_broker_client::KeyBrokerClient};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{error::Error, status, trace};

/// The addresses of a fleet's brokers; one of them is asked until it is gone.
pub(crate) struct Rpc {
    nodes: Vec<Node>,
    current: AtomicUsize,
    token: Option<MetadataValue<Ascii>>,
    pub(crate) call_timeout: Duration,
}

type Call<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

struct Node {
    endpoint: Endpoint,
    /// Made at the first call, because making it needs a runtime and connecting does not.
    client: OnceLock<KeyBrokerClient<Channel>>,
}

impl Node {
    fn client(&self) -> KeyBrokerClient<Channel> {
        self.client.get_or_init(|| KeyBrokerClient::new(self.endpoint.connect_lazy())).clone()
    }

    fn address(&self) -> &str {
        self.endpoint.uri().authority().map_or("", http::uri::Authority::as_str)
    }
}

impl Rpc {
    pub(crate) fn new(
        endpoints: Vec<Endpoint>,
        token: Option<MetadataValue<Ascii>>,
        call_timeout: Duration,
    ) -> Self {
        let nodes = endpoints.into_iter().map(|endpoint| Node { endpoint, client: OnceLock::new() });
        Self { nodes: nodes.collect(), current: AtomicUsize::new(0), token, call_timeout }
    }

    /// What the brokers are called in texts.
    pub(crate) fn addresses(&self) -> String {
        self.nodes.iter().map(Node::address).collect::<Vec<_>>().join(",")
    }

    /// Asked of another broker only where nothing can have been handed out: an Acquire whose answer was lost may
    /// have granted a lease. The instant is the one just before the call that was answered: what a lease counts from there
    /// ends here no later than at the broker.
    pub(crate) async fn acquire(
        &self,
        request: v1::AcquireRequest,
    ) -> Result<(v1::AcquireResponse, Instant), Error> {
        let wait = request.wait.map_or(Duration::ZERO, crate::wire::from_proto);
        let within = wait.saturating_add(self.call_timeout);
        self.each(within, Error::is_nothing_handed_out, |mut client| {
            let request = self.request(request.clone(), within);
            Box::pin(async move { client.acquire(request).await })
        })
        .await
    }

    pub(crate) async fn report(&self, reports: Vec<v1::LeaseReport>) -> Result<v1::ReportResponse, Error> {
        let within = self.call_timeout;
        let message = v1::ReportRequest { reports };
        let answered = self.each(within, Error::is_broker_gone, |mut client| {
            let request = self.request(message.clone(), within);
            Box::pin(async move { client.report(request).await })
        });
        Ok(answered.await?.0)
    }

    /// With the instant just before the call that was answered.
    pub(crate) async fn renew(
        &self,
        message: v1::RenewRequest,
    ) -> Result<(v1::RenewResponse, Instant), Error> {
        let within = self.call_timeout;
        self.each(within, Error::is_broker_gone, |mut client| {
            let request = self.request(message.clone(), within);
            Box::pin(async move { client.renew(request).await })
        })
        .await
    }

    /// Asks the broker that answered last, and the others in turn if it is gone; and when the one that answered was asked.
    async fn each<T>(
        &self,
        within: Duration,
        goes_on: impl Fn(&Error) -> bool,
        call: impl Fn(KeyBrokerClient<Channel>) -> Call<T>,
    ) -> Result<(T, Instant), Error> {
        let mut asked = 1;
        loop {
            let number = self.current.load(Relaxed);
            let node = &self.nodes[number % self.nodes.len()];
            let asked_at = Instant::now();
            let error = match bounded(within, call(node.client())).await {
                Ok(answer) => return Ok((answer, asked_at)),
                Err(error) => error.at(node.address()),
            };
            if error.is_broker_gone() {
                // Others may have seen it as well.
                let _ = self.current.compare_exchange(number, number.wrapping_add(1), Relaxed, Relaxed);
            }
            if asked == self.nodes.len() || !goes_on(&error) {
                return Err(error);
            }
            asked += 1;
        }
    }

    /// Tells the server the deadline, so that it does not work for a caller that is gone; and who asks, for what.
    fn request<T>(&self, message: T, within: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(within);
        trace::inject(request.metadata_mut());
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
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
