//! The address of a broker, as people write it.

use std::net::IpAddr;

use http::Uri;

use crate::error::Error;

/// An address, understood.
pub(crate) struct Address {
    pub(crate) uri: Uri,
    /// Whether it is reached by TLS.
    pub(crate) encrypted: bool,
    /// Whether what is sent there stays on this host.
    pub(crate) loopback: bool,
}

impl Address {
    /// Reads `host:port`, `http://host:port` or `https://host:port`; with `tls` each of them is encrypted.
    pub(crate) fn parse(text: &str, tls: bool) -> Result<Self, Error> {
        let invalid =
            |message: &str| Error::InvalidAddress { address: text.to_owned(), message: message.to_owned() };
        let (encrypted, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(invalid("the scheme must be http, or https for TLS")),
        };
        let encrypted = encrypted || tls;
        // The scheme of the URI is what decides whether a connection is encrypted.
        let url = format!("{}://{rest}", if encrypted { "https" } else { "http" });
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        if host.is_empty() || uri.port_u16().is_none() {
            return Err(invalid("it needs a host and a port"));
        }
        let loopback =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        Ok(Self { encrypted, loopback, uri })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_whether_it_is_encrypted_and_whether_it_is_this_host() {
        for (text, encrypted, loopback) in [
            ("broker:50051", false, false),
            ("http://localhost:1", false, true),
            ("127.0.0.1:50051", false, true),
            ("[::1]:50051", false, true),
            ("https://broker.internal:50051", true, false),
            ("https://10.0.0.1:443/", true, false),
        ] {
            let address = Address::parse(text, false).unwrap();
            assert_eq!((address.encrypted, address.loopback), (encrypted, loopback), "{text}");
            let address = Address::parse(text, true).unwrap();
            assert_eq!((address.encrypted, address.uri.scheme_str()), (true, Some("https")), "{text}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_says_why() {
        for (text, word) in [
            ("redis://127.0.0.1:6379", "scheme"),
            ("localhost", "port"),
            ("", "host"),
            ("https://", "host"),
            ("http://two words:1", "invalid"),
        ] {
            let error = Address::parse(text, false).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
