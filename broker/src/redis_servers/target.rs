//! What a Redis URL says: which servers, how they hang together, and how they are spoken to.

use std::{fmt, path::PathBuf};

use redis::{Client, ClientTlsConfig, ConnectionInfo, TlsCertificates};

/// How Redis servers hang together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server, maybe with replicas that nobody promotes by himself.
    Standalone(Address),
    /// Sentinels that know who is the primary.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<Address>,
        /// What they call the primary.
        name: String,
    },
    /// A cluster, of which these nodes are known.
    Cluster(Vec<Address>),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// A name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Address {
    /// Reads `host`, `host:port` or `[address]:port`.
    fn parse(text: &str, default_port: u16) -> Result<Self, BadRedisUrl> {
        let bad = || BadRedisUrl(format!("{text:?} is not a host and a port, such as redis-0.example:6379"));
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(bad)?;
                (host, port.strip_prefix(':'))
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(default_port), |port| port.parse().map_err(|_| bad()))?;
        if host.is_empty() { Err(bad()) } else { Ok(Self { host: host.to_owned(), port }) }
    }
}

/// Certificates for TLS, in files in PEM form.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Who signed the servers' certificates; the system's authorities if not given.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown to the servers.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// A Redis URL that cannot be used, in a sentence without its password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRedisUrl(String);

impl BadRedisUrl {
    /// The same with the option that is to be corrected.
    #[must_use]
    pub fn of_option(self, option: &str) -> Self {
        Self(format!("the Redis URL cannot be used: {}; correct {option}", self.0))
    }
}

/// What a Redis URL says. It holds a password, so it is not printed.
pub struct Target {
    topology: Topology,
    // `redis` or `rediss`, and user, password and database as the URL has them.
    scheme: &'static str,
    login: String,
    database: String,
    tls: Option<TlsCertificates>,
}

const FORMS: &str = "write redis://host:6379, redis-sentinel://host1:26379,host2:26379#mymaster or \
                     redis-cluster://host1:6379,host2:6379; rediss, rediss-sentinel and rediss-cluster for TLS";

impl Target {
    /// Reads a URL and the certificates that go with it.
    ///
    /// # Errors
    /// If it is not a Redis URL, or a file cannot be read.
    pub fn parse(url: &str, files: &TlsFiles) -> Result<Self, BadRedisUrl> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").ok_or_else(|| BadRedisUrl(FORMS.to_owned()))?;
        let (kind, scheme) = match scheme {
            "redis" => (Kind::Standalone, "redis"),
            "rediss" => (Kind::Standalone, "rediss"),
            "redis-sentinel" => (Kind::Sentinel, "redis"),
            "rediss-sentinel" => (Kind::Sentinel, "rediss"),
            "redis-cluster" => (Kind::Cluster, "redis"),
            "rediss-cluster" => (Kind::Cluster, "rediss"),
            other => return Err(BadRedisUrl(format!("{other:?} is not a kind of Redis URL; {FORMS}"))),
        };
        let (rest, fragment) =
            rest.split_once('#').map_or((rest, None), |(rest, fragment)| (rest, Some(fragment)));
        let (login, rest) =
            rest.rsplit_once('@').map_or((String::new(), rest), |(login, rest)| (format!("{login}@"), rest));
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let default_port = if kind == Kind::Sentinel { 26_379 } else { 6_379 };
        let hosts: Result<Vec<Address>, _> =
            hosts.split(',').map(|host| Address::parse(host.trim(), default_port)).collect();
        let hosts = hosts?;
        let topology = match kind {
            Kind::Standalone if hosts.len() > 1 => {
                return Err(BadRedisUrl(format!(
                    "several hosts need to know how they hang together; {FORMS}"
                )));
            }
            Kind::Standalone => Topology::Standalone(hosts[0].clone()),
            Kind::Cluster if !matches!(database, "" | "0") => {
                return Err(BadRedisUrl(
                    "a cluster has no databases; leave the path of the URL away".to_owned(),
                ));
            }
            Kind::Cluster => Topology::Cluster(hosts),
            Kind::Sentinel => match fragment.filter(|name| !name.is_empty()) {
                Some(name) => Topology::Sentinel { sentinels: hosts, name: name.to_owned() },
                None => {
                    return Err(BadRedisUrl(
                        "sentinels need the name of the primary after a #, such as #mymaster".to_owned(),
                    ));
                }
            },
        };
        let tls = if scheme == "rediss" { Some(certificates(files)?) } else { None };
        let target = Self { topology, scheme, login, database: database.to_owned(), tls };
        // Login and database are read by the library, once for all hosts.
        target.server(&Address { host: "localhost".to_owned(), port: default_port })?;
        Ok(target)
    }

    /// How the servers hang together.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How a server that holds data is reached.
    ///
    /// # Errors
    /// If login or database cannot be read.
    pub(super) fn server(&self, address: &Address) -> Result<ConnectionInfo, BadRedisUrl> {
        self.client(&format!("{}://{}{address}/{}", self.scheme, self.login, self.database))
    }

    /// How a sentinel is reached: without login, as sentinels have none unless they are told to.
    pub(super) fn sentinel(&self, address: &Address) -> Result<ConnectionInfo, BadRedisUrl> {
        self.client(&format!("{}://{address}", self.scheme))
    }

    fn client(&self, url: &str) -> Result<ConnectionInfo, BadRedisUrl> {
        let client = match &self.tls {
            Some(tls) => Client::build_with_tls(
                url,
                TlsCertificates { client_tls: tls.client_tls.clone(), root_cert: tls.root_cert.clone() },
            ),
            None => Client::open(url),
        };
        client
            .map(|client| client.get_connection_info().clone())
            .map_err(|error| BadRedisUrl(format!("{}; {FORMS}", error.category())))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Standalone,
    Sentinel,
    Cluster,
}

fn certificates(files: &TlsFiles) -> Result<TlsCertificates, BadRedisUrl> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| BadRedisUrl(format!("cannot read {}: {error}", path.display())))
    };
    let client_tls = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        (None, None) => None,
        _ => return Err(BadRedisUrl("a certificate and its key go together: give both or none".to_owned())),
    };
    Ok(TlsCertificates { client_tls, root_cert: files.ca.as_ref().map(read).transpose()? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails panics")]
mod tests {
    use super::*;

    fn topology(url: &str) -> Result<Topology, String> {
        Target::parse(url, &TlsFiles::default())
            .map(|target| target.topology().clone())
            .map_err(|error| error.to_string())
    }

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    #[test]
    fn every_form_of_url_is_understood() {
        assert_eq!(topology("redis://localhost"), Ok(Topology::Standalone(at("localhost", 6379))));
        assert_eq!(topology("redis://:pass@10.0.0.1:7000/2"), Ok(Topology::Standalone(at("10.0.0.1", 7000))));
        assert_eq!(topology("redis://[::1]:7000"), Ok(Topology::Standalone(at("::1", 7000))));
        assert_eq!(
            topology("redis-sentinel://user:p%40ss@a,b:1/0#main"),
            Ok(Topology::Sentinel { sentinels: vec![at("a", 26379), at("b", 1)], name: "main".to_owned() })
        );
        assert_eq!(topology("redis-cluster://a,b:1"), Ok(Topology::Cluster(vec![at("a", 6379), at("b", 1)])));
    }

    #[test]
    fn a_url_that_cannot_be_used_says_what_to_write_and_shows_no_password() {
        for (url, says) in [
            ("localhost:6379", "write redis://"),
            ("http://secret@host", "not a kind of Redis URL"),
            ("redis://:secret@a,b", "redis-cluster://"),
            ("redis-sentinel://:secret@a", "#mymaster"),
            ("redis-sentinel://:secret@a#", "#mymaster"),
            ("redis-cluster://:secret@a/3", "no databases"),
            ("redis://:secret@host:port", "host and a port"),
            ("redis://:secret@", "host and a port"),
            ("redis://:secret@host/nine", "write redis://"),
        ] {
            let error = topology(url).unwrap_err();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("secret@"), "{url}: {error}");
        }
    }

    #[test]
    fn certificates_are_named_when_they_cannot_be_read_or_go_alone() {
        let files = TlsFiles { ca: Some("/nowhere/ca.pem".into()), ..TlsFiles::default() };
        let error = Target::parse("rediss://host", &files).err().unwrap().to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
        let files = TlsFiles { cert: Some("/nowhere/cert.pem".into()), ..TlsFiles::default() };
        let error = Target::parse("rediss://host", &files).err().unwrap().to_string();
        assert!(error.contains("go together"), "{error}");
    }
}
