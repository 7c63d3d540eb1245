//! TLS to a broker that asks for a certificate and for a token.

use std::{fs, path::PathBuf};

use keybroker_client::{AcquireOptions, Broker, BrokerBuilder, Error, SecretString, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::broker::MockBroker;

/// An authority, and what it has signed: files in a folder.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = TempDir::with_prefix("keybroker-sdk-tls").unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn issue(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file(&format!("{name}.pem")), signed.pem()).unwrap();
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// A broker named `broker.test`, which wants a client certificate and a token.
    async fn broker(&self) -> MockBroker {
        self.issue("broker.test");
        self.issue("worker.test");
        let identity = Identity::from_pem(self.text("broker.test.pem"), self.text("broker.test.key"));
        let authority = Certificate::from_pem(self.text("ca.pem"));
        let tls = ServerTlsConfig::new().identity(identity).client_ca_root(authority);
        let mock = MockBroker::start_with(Some(tls)).await;
        mock.script().token = Some("fake-token");
        mock
    }

    fn trusted(&self) -> Tls {
        Tls::new().ca_file(self.file("ca.pem")).server_name("broker.test")
    }

    fn known(&self) -> Tls {
        self.trusted().cert_file(self.file("worker.test.pem")).key_file(self.file("worker.test.key"))
    }
}

fn with_token() -> BrokerBuilder {
    Broker::builder().token(&SecretString::from("fake-token")).unwrap()
}

async fn ask(broker: &Broker) -> Result<(), Error> {
    let lease = broker.acquire(AcquireOptions::new("gemini-2.5-flash")).await?;
    lease.not_sent().await.map(drop)
}

#[tokio::test]
async fn a_client_with_a_certificate_and_a_token_is_served() {
    let authority = Authority::new();
    let mock = authority.broker().await;
    ask(&with_token().tls(authority.known()).connect(mock.address()).unwrap()).await.unwrap();
    let address = format!("https://{}", mock.address());
    ask(&with_token().tls(authority.known()).connect(&address).unwrap()).await.unwrap();
    let as_text = Tls::new()
        .ca_pem(authority.text("ca.pem"))
        .cert_pem(authority.text("worker.test.pem"))
        .key_pem(authority.text("worker.test.key"))
        .server_name("broker.test");
    assert!(!format!("{as_text:?}").contains("PRIVATE"), "{as_text:?}");
    ask(&with_token().tls(as_text).connect(&address).unwrap()).await.unwrap();
}

#[tokio::test]
async fn who_is_not_trusted_or_not_known_is_told_so() {
    let authority = Authority::new();
    let mock = authority.broker().await;
    let elsewhere = Authority::new();
    for (tls, word) in [
        (authority.known().ca_file(elsewhere.file("ca.pem")), "certificate"),
        // The authorities of the system know nothing of this broker.
        (Tls::new().server_name("broker.test"), "certificate"),
        (authority.known().server_name("elsewhere.test"), "elsewhere.test"),
        (authority.trusted(), "certificate"),
    ] {
        let error = ask(&with_token().tls(tls).connect(mock.address()).unwrap()).await.unwrap_err();
        let text = error.to_string().to_lowercase();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(text.contains(word) && text.contains(&mock.address()) && text.contains("tls"), "{text}");
    }
    // What is not encrypted is not understood.
    let error = ask(&with_token().connect(mock.address()).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }) && error.to_string().contains("tls"), "{error}");
    assert_eq!(mock.script().acquires.len(), 0);
}

#[tokio::test]
async fn a_wrong_token_is_told_so() {
    let authority = Authority::new();
    let mock = authority.broker().await;
    let wrong = Broker::builder().token(&SecretString::from("another-token")).unwrap();
    for builder in [wrong, Broker::builder()] {
        let error = ask(&builder.tls(authority.known()).connect(mock.address()).unwrap()).await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
        assert!(error.to_string().contains("token") && !error.to_string().contains("another-token"));
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_named_with_its_file_and_the_fix() {
    let authority = Authority::new();
    authority.issue("worker.test");
    authority.issue("other.test");
    fs::write(authority.file("broken.pem"), "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n")
        .unwrap();
    let file = |name: &str| authority.file(name);
    for (tls, words) in [
        (Tls::new().ca_file(file("missing.pem")), ["ca_file", "missing.pem"]),
        (Tls::new().ca_file(file("worker.test.key")), ["worker.test.key", "no certificate"]),
        (Tls::new().ca_file(file("broken.pem")), ["broken.pem", "PEM"]),
        (Tls::new().ca_pem("text"), ["ca_pem", "no certificate"]),
        (authority.trusted().cert_file(file("worker.test.pem")), ["cert", "key_file"]),
        (authority.trusted().key_file(file("worker.test.key")), ["key", "cert_file"]),
        (authority.known().key_file(file("worker.test.pem")), ["key_file", "no private key"]),
        (authority.known().key_file(file("other.test.key")), ["tls", "belong together"]),
        (authority.known().server_name("no name"), ["tls", "no name"]),
    ] {
        let error = Broker::builder().tls(tls).connect("127.0.0.1:50051").unwrap_err();
        assert!(matches!(error, Error::InvalidTls { .. }), "{error:?}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    }
}
