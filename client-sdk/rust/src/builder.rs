//! Settings of a [`Broker`].

use std::{fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};

use crate::{
    address::Address,
    broker::Broker,
    error::Error,
    reporter::{self, ReporterSettings},
    tls::Tls,
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
    allow_insecure_token: bool,
    tls: Option<Tls>,
}

impl Default for BrokerBuilder {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(10),
            flush_timeout: Duration::from_secs(10),
            reporter: ReporterSettings::default(),
            token: None,
            allow_insecure_token: false,
            tls: None,
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

    /// Encrypts the connection to every address so, also where it does not begin with `https://`.
    /// Default: as the address asks, with the authorities of the system.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// A token that the broker wants with each call; sent as `authorization: Bearer ...`, over TLS or to a loopback
    /// address only. [`connect`](Self::connect) refuses anything else with [`Error::InsecureToken`].
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

    /// Sends the token without TLS to any address, where others may read it.
    pub fn allow_insecure_token(mut self) -> Self {
        self.allow_insecure_token = true;
        self
    }

    /// Connects at the first call to `host:port`, or with TLS to `https://host:port`; to several, if they are
    /// separated by commas: the next is asked where one is gone.
    ///
    /// ```
    /// let broker = keybroker_client::Broker::connect("broker-0:50051,broker-1:50051")?;
    /// # let _ = broker;
    /// # Ok::<(), keybroker_client::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidAddress`]; [`Error::InvalidTls`] if what [`tls`](Self::tls) was given cannot be used;
    /// [`Error::InsecureToken`].
    pub fn connect(self, addresses: impl Into<String>) -> Result<Broker, Error> {
        let addresses = addresses.into();
        let endpoints = addresses.split(',').map(|address| self.endpoint(address.trim()));
        let endpoints = endpoints.collect::<Result<_, _>>()?;
        self.connect_endpoints(endpoints)
    }

    /// Connects at the first call to tonic endpoints, of several brokers of one fleet, for what an address cannot
    /// say, such as a Unix socket. The connect timeout of this builder replaces that of the endpoints; they encrypt as
    /// they are set up, and a token is sent to them all.
    ///
    /// # Errors
    /// [`Error::InvalidAddress`] if there is none.
    pub fn connect_endpoints(self, endpoints: Vec<Endpoint>) -> Result<Broker, Error> {
        if endpoints.is_empty() {
            return Err(Error::InvalidAddress {
                address: String::new(),
                message: "there is none".to_owned(),
            });
        }
        // Pings find a peer that vanished without closing, which would otherwise be noticed only
        // by a whole call timeout.
        let settle = |endpoint: Endpoint| {
            endpoint
                .connect_timeout(self.connect_timeout)
                .http2_keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(5))
        };
        let endpoints = endpoints.into_iter().map(settle).collect();
        Ok(Broker::assemble(endpoints, self))
    }

    /// The metadata `authorization` of each call, if there is a token.
    pub fn authorization(&self) -> Option<&MetadataValue<Ascii>> {
        self.token.as_ref()
    }

    /// The endpoint of one address, encrypted as it would be by [`connect`](Self::connect): for another client of the
    /// broker, such as one of `keybroker.v1.Admin`. It does not send the token: see
    /// [`authorization`](Self::authorization).
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn endpoint(&self, address: &str) -> Result<Endpoint, Error> {
        let Address { uri, encrypted, loopback } = Address::parse(address, self.tls.is_some())?;
        if encrypted {
            return self.tls.clone().unwrap_or_default().encrypt(Endpoint::from(uri));
        }
        if self.token.is_some() && !loopback && !self.allow_insecure_token {
            return Err(Error::InsecureToken { address: address.to_owned() });
        }
        Ok(Endpoint::from(uri))
    }
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
        assert!(Broker::builder().connect_endpoints(Vec::new()).is_err());
    }

    #[test]
    fn a_token_goes_in_plain_text_to_this_host_only() {
        let builder = || Broker::builder().token(&SecretString::from("fake-token")).unwrap();
        builder().connect("localhost:50051,[::1]:50051,127.0.0.2:1").unwrap();
        builder().allow_insecure_token().connect("broker.internal:50051").unwrap();
        let error = builder().connect("127.0.0.1:1,http://broker.internal:50051").unwrap_err().to_string();
        assert!(error.contains("broker.internal:50051") && error.contains("tls"), "{error}");
        assert!(!error.contains("fake-token") && !format!("{:?}", builder()).contains("fake-token"));
    }

    #[test]
    fn an_address_that_cannot_be_used_says_why() {
        for (address, word) in [("redis://127.0.0.1:6379", "scheme"), ("127.0.0.1:50051,", "host")] {
            let text = Broker::connect(address).unwrap_err().to_string();
            assert!(text.contains(word), "{address}: {text}");
        }
    }
}
