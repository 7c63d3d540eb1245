//! Settings of a [`Broker`].

use std::{fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};

use crate::{
    broker::Broker,
    error::Error,
    reporter::{self, ReporterSettings},
};

/// Settings of a [`Broker`]; made by [`Broker::builder`].
///
/// ```
/// use std::time::Duration;
/// use keybroker_client::Broker;
///
/// let broker = Broker::builder()
///     .connect_timeout(Duration::from_secs(1))
///     .call_timeout(Duration::from_secs(5))
///     .connect("localhost:50051")?;
/// # let _ = broker;
/// # Ok::<(), keybroker_client::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BrokerBuilder {
    connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) flush_timeout: Duration,
    pub(crate) reporter: ReporterSettings,
    pub(crate) token: Option<MetadataValue<Ascii>>,
}

impl Default for BrokerBuilder {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(10),
            flush_timeout: Duration::from_secs(10),
            reporter: ReporterSettings::default(),
            token: None,
        }
    }
}

impl BrokerBuilder {
    /// How long a connection may take to be made. Default: 3 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The deadline of each call; Acquire has its own `wait` on top. Default: 10 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// How long [`Broker::flush`] and [`Broker::close`] wait for reports. Default: 10 s.
    pub fn flush_timeout(mut self, timeout: Duration) -> Self {
        self.flush_timeout = timeout;
        self
    }

    /// How many reports may wait to be delivered; more are given up. Default: 10,000.
    pub fn report_queue(mut self, reports: usize) -> Self {
        self.reporter.queue = reports.clamp(1, reporter::LARGEST_QUEUE);
        self
    }

    /// How long the delivery of a report is tried while the broker is away. Default: 60 s.
    pub fn report_patience(mut self, patience: Duration) -> Self {
        self.reporter.patience = patience;
        self
    }

    /// A token that the broker wants with each call; sent as `authorization: Bearer ...`.
    ///
    /// # Errors
    /// [`Error::InvalidToken`] if it cannot be sent in a header.
    pub fn token(mut self, token: &SecretString) -> Result<Self, Error> {
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {}", token.expose_secret()).parse().map_err(|_| Error::InvalidToken)?;
        value.set_sensitive(true);
        self.token = Some(value);
        Ok(self)
    }

    /// Connects at the first call to `http://host:port`, or a bare `host:port`; to several, if they are separated by
    /// commas: the next is asked where one is gone.
    ///
    /// ```
    /// let broker = keybroker_client::Broker::connect("broker-0:50051,broker-1:50051")?;
    /// # let _ = broker;
    /// # Ok::<(), keybroker_client::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidAddress`], also for `https`: give endpoints with a TLS configuration to
    /// [`connect_endpoints`](Self::connect_endpoints) instead.
    pub fn connect(self, addresses: impl Into<String>) -> Result<Broker, Error> {
        let addresses = addresses.into();
        let endpoints = addresses.split(',').map(|address| endpoint(address.trim()));
        Ok(self.connect_endpoints(endpoints.collect::<Result<_, _>>()?))
    }

    /// Connects at the first call to a tonic endpoint, for TLS or a Unix socket. The timeouts of
    /// this builder replace those of the endpoint.
    pub fn connect_endpoint(self, endpoint: Endpoint) -> Broker {
        self.connect_endpoints(vec![endpoint])
    }

    /// The same with several brokers of one fleet.
    ///
    /// # Panics
    /// If there is none.
    pub fn connect_endpoints(self, endpoints: Vec<Endpoint>) -> Broker {
        assert!(!endpoints.is_empty(), "give at least one endpoint");
        // Pings find a peer that vanished without closing, which would otherwise be noticed only
        // by a whole call timeout.
        let settle = |endpoint: Endpoint| {
            endpoint
                .connect_timeout(self.connect_timeout)
                .http2_keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(5))
        };
        let endpoints = endpoints.into_iter().map(settle).collect();
        Broker::assemble(endpoints, self)
    }
}

fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let invalid =
        |message: &str| Error::InvalidAddress { address: address.to_owned(), message: message.to_owned() };
    let url = match address.split_once("://") {
        None => format!("http://{address}"),
        Some(("http", _)) => address.to_owned(),
        Some(("https", _)) => {
            return Err(invalid("for TLS use connect_endpoints with endpoints that are configured for it"));
        }
        Some(_) => return Err(invalid("the scheme must be http")),
    };
    let uri: http::Uri = url.parse().map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
    if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() {
        return Err(invalid("it needs a host and a port"));
    }
    Ok(Endpoint::from(uri))
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("addresses", &self.shared.rpc.addresses())
            .field("settings", &self.shared.settings)
            .field("unreported", &self.unreported())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_host_and_port_is_an_address() {
        let broker = Broker::connect("127.0.0.1:50051").unwrap();
        assert!(format!("{broker:?}").contains("127.0.0.1:50051"));
        Broker::connect("127.0.0.1:50051, 127.0.0.1:50052").unwrap();
        Broker::connect("http://broker.internal:50051").unwrap();
        Broker::connect("[::1]:50051").unwrap();
    }

    #[test]
    fn an_address_that_cannot_be_used_says_why() {
        for (address, word) in [
            ("https://127.0.0.1:50051", "TLS"),
            ("redis://127.0.0.1:6379", "scheme"),
            ("localhost", "port"),
            ("", "host"),
            ("http://two words:1", "invalid"),
            ("127.0.0.1:50051,", "host"),
        ] {
            let text = Broker::connect(address).unwrap_err().to_string();
            assert!(text.contains(word), "{address}: {text}");
        }
    }
}
