//! How connections are encrypted, and the certificates that clients show.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{ClientAuthorities, Denied};

/// For how long a certificate that was found right is not looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What a server shows, and whose clients it knows.
pub struct Tls {
    config: Arc<ServerConfig>,
    authorities: Option<ClientAuthorities>,
    valid_until: Option<Timestamp>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("client_authorities", &self.authorities.is_some()).finish_non_exhaustive()
    }
}

/// What is wrong with the files of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadTls {
    /// The certificate's file.
    Certificate(&'static str),
    /// The key's file.
    Key(&'static str),
    /// The file of client authorities.
    ClientAuthorities(&'static str),
}

impl Tls {
    /// From texts in PEM form.
    ///
    /// # Errors
    /// Which of them cannot be used, and why; never what is in it.
    pub fn new(certificate: &str, key: &str, client_authorities: Option<&str>) -> Result<Self, BadTls> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain =
            certificates(certificate).ok_or(BadTls::Certificate("holds no certificate in PEM form"))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| BadTls::Key("holds no private key in PEM form"))?;
        let valid_until = chain.first().and_then(valid_until);
        let authorities = client_authorities.map(|text| {
            let bad = BadTls::ClientAuthorities("holds no certificate of an authority in PEM form");
            let mut roots = RootCertStore::empty();
            for certificate in certificates(text).ok_or(bad.clone())? {
                roots.add(certificate).map_err(|_| bad.clone())?;
            }
            ClientAuthorities::new(roots, provider.clone()).ok_or(bad)
        });
        let authorities = authorities.transpose()?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|_| BadTls::Certificate("cannot be used: no version of TLS is supported"))?;
        let builder = if authorities.is_some() {
            builder.with_client_cert_verifier(Arc::new(AskForAny(provider)))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|_| BadTls::Key("is not the private key of the certificate in `cert_file`"))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), authorities, valid_until })
    }

    /// For an acceptor.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Until when clients take the server's certificate, where that can be read.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    /// Whose certificates of clients are taken, if any are.
    pub fn client_authorities(&self) -> Option<&ClientAuthorities> {
        self.authorities.as_ref()
    }
}

fn valid_until(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.ok().filter(|all| !all.is_empty())
}

/// Asks clients for a certificate and takes any that they hold the key of. Who signed it is looked at with
/// each call instead: a client is then told what is wrong, instead of finding its connection closed, and new
/// authorities hold for connections that are open.
#[derive(Debug)]
struct AskForAny(Arc<CryptoProvider>);

impl ClientCertVerifier for AskForAny {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificates that the peer of a connection showed, its own first. It holds the key of that one; who
/// signed it is not known yet.
#[derive(Debug)]
pub struct PeerCertificates {
    chain: Vec<CertificateDer<'static>>,
    looked: Mutex<Option<Looked>>,
}

#[derive(Debug)]
struct Looked {
    by: ClientAuthorities,
    at: Instant,
    names: Arc<[String]>,
}

impl PeerCertificates {
    /// These.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { chain, looked: Mutex::default() }
    }

    /// The alternative names, if one of the authorities signed it and it is valid now.
    pub(super) fn names_by(&self, authorities: &ClientAuthorities) -> Result<Arc<[String]>, Denied> {
        let mut looked = self.looked.lock().expect("no holder of this lock panics");
        if let Some(looked) = &*looked
            && looked.by.is(authorities)
            && looked.at.elapsed() < LOOK_AGAIN
        {
            return Ok(looked.names.clone());
        }
        *looked = None;
        let names: Arc<[String]> = authorities.names_of(&self.chain)?.into();
        *looked = Some(Looked { by: authorities.clone(), at: Instant::now(), names: names.clone() });
        Ok(names)
    }
}
