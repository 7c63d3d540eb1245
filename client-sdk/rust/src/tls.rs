//! How the connection to a broker is encrypted.

use std::{fmt, path::PathBuf};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::error::Error;

/// How the connection to a broker is encrypted, for [`BrokerBuilder::tls`](crate::BrokerBuilder::tls).
///
/// All of it is in PEM form, in files or as text. Files are read once, when the client is made.
///
/// ```no_run
/// use keybroker_client::{Broker, Tls};
///
/// let tls = Tls::new().ca_file("ca.pem").cert_file("worker.pem").key_file("worker.key");
/// let broker = Broker::builder().tls(tls).connect("broker-0:50051,broker-1:50051")?;
/// # let _ = broker;
/// # Ok::<(), keybroker_client::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Tls {
    ca: Option<Source>,
    cert: Option<Source>,
    key: Option<Source>,
    server_name: Option<String>,
}

/// Where a text in PEM form comes from.
#[derive(Clone)]
enum Source {
    File(PathBuf),
    Pem(SecretString),
}

impl Tls {
    /// Trusts the authorities of the system, and shows no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file of the authorities that are trusted, one or several, and no others. Default: those of the system.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(Source::File(file.into()));
        self
    }

    /// The same as text.
    pub fn ca_pem(mut self, pem: impl Into<String>) -> Self {
        self.ca = Some(Source::pem(pem));
        self
    }

    /// A file of the certificate that this client shows, with what stands between it and its authority. Needs a key.
    pub fn cert_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.cert = Some(Source::File(file.into()));
        self
    }

    /// The same as text.
    pub fn cert_pem(mut self, pem: impl Into<String>) -> Self {
        self.cert = Some(Source::pem(pem));
        self
    }

    /// A file of the private key of this client's certificate.
    pub fn key_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.key = Some(Source::File(file.into()));
        self
    }

    /// The same as text.
    pub fn key_pem(mut self, pem: impl Into<String>) -> Self {
        self.key = Some(Source::pem(pem));
        self
    }

    /// The name to expect in the broker's certificate, where it is not the host of the address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Has an endpoint encrypt so.
    pub(crate) fn encrypt(&self, endpoint: Endpoint) -> Result<Endpoint, Error> {
        let mut config = match &self.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca.certificates("ca")?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let key = key.private_key("key")?;
                config = config
                    .identity(Identity::from_pem(cert.certificates("cert")?, key.expose_secret().as_bytes()));
            }
            (None, None) => {}
            (Some(_), None) => {
                return Err(invalid("cert", "it needs its private key: give key_file as well"));
            }
            (None, Some(_)) => {
                return Err(invalid("key", "it needs its certificate: give cert_file as well"));
            }
        }
        // In a URL an IPv6 address has brackets, in a certificate it has none.
        let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = self.server_name.clone().unwrap_or(host);
        endpoint.tls_config(config.domain_name(&name)).map_err(|error| {
            let why = root_cause(&error);
            invalid(
                "tls",
                format!("{why} (check that key and certificate belong together, and the name {name:?})"),
            )
        })
    }
}

impl Source {
    fn pem(pem: impl Into<String>) -> Self {
        Self::Pem(SecretString::from(pem.into()))
    }

    fn certificates(&self, field: &str) -> Result<String, Error> {
        let pem = self.read(field)?;
        let found = CertificateDer::pem_slice_iter(pem.expose_secret().as_bytes());
        match found.collect::<Result<Vec<_>, _>>() {
            Ok(found) if !found.is_empty() => Ok(pem.expose_secret().to_owned()),
            Ok(_) => Err(invalid(self.at(field), "it holds no certificate in PEM form")),
            Err(_) => Err(invalid(self.at(field), "its PEM form is broken")),
        }
    }

    fn private_key(&self, field: &str) -> Result<SecretString, Error> {
        let pem = self.read(field)?;
        match PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()) {
            Ok(_) => Ok(pem),
            Err(_) => Err(invalid(self.at(field), "it holds no private key in PEM form")),
        }
    }

    fn read(&self, field: &str) -> Result<SecretString, Error> {
        match self {
            Self::Pem(pem) => Ok(pem.clone()),
            Self::File(file) => match std::fs::read(file) {
                Ok(bytes) => Ok(SecretString::from(String::from_utf8_lossy(&bytes).into_owned())),
                Err(error) => Err(invalid(self.at(field), format!("it cannot be read: {error}"))),
            },
        }
    }

    /// What a person looks for to correct it.
    fn at(&self, field: &str) -> String {
        match self {
            Self::File(file) => format!("{field}_file {}", file.display()),
            Self::Pem(_) => format!("{field}_pem"),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.fmt(f),
            Self::Pem(_) => f.write_str("PEM"),
        }
    }
}

fn invalid(field: impl Into<String>, message: impl Into<String>) -> Error {
    Error::InvalidTls { field: field.into(), message: message.into() }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
