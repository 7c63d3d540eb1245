//! Client certificates: whether an authority of ours signed them, and whom they name.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use super::Denied;

/// Whoever signs certificates of clients that are taken here.
#[derive(Clone, Debug)]
pub struct ClientAuthorities {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientAuthorities {
    /// These.
    pub(super) fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Option<Self> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        Some(Self { verifier: builder.build().ok()? })
    }

    /// Whether these are the very same, not only alike.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.verifier, &other.verifier)
    }

    /// The alternative names of a certificate that is valid now.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`] with what is wrong.
    pub(super) fn names_of(&self, chain: &[CertificateDer<'_>]) -> Result<Vec<String>, Denied> {
        let wrong =
            |why: &str| Denied::unauthenticated(format!("the client certificate is not taken: {why}"));
        let (own, others) = chain.split_first().ok_or_else(|| wrong("there is none"))?;
        self.verifier.verify_client_cert(own, others, UnixTime::now()).map_err(|error| {
            use rustls::{CertificateError as Bad, Error};
            wrong(match error {
                Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => "it has expired",
                Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
                    "it is not valid yet"
                }
                Error::InvalidCertificate(Bad::UnknownIssuer) => "no authority of `client_ca_file` signed it",
                Error::InvalidCertificate(Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. }) => {
                    "it is not one for clients"
                }
                _ => "it cannot be verified",
            })
        })?;
        let (_, parsed) = X509Certificate::from_der(own).map_err(|_| wrong("it cannot be read"))?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        Ok(names.iter().filter_map(text_of).collect())
    }
}

fn text_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    }
}
