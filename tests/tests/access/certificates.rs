//! Encrypted connections, client certificates, signed tokens, and what changes without a restart.

use std::{fs, time::Duration};

use keybroker_tests::harness::certificates::{Authority, Validity};
use tonic::{
    Code, Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{Setting, acquire, identity, of, reason, wish};

const WORKER: &str = "spiffe://example.org/ns/jobs/sa/nightly";

/// A broker behind TLS, its authority, and a foreign one.
struct Encrypted {
    setting: Setting,
    own: Authority,
    foreign: Authority,
}

impl Encrypted {
    fn start() -> Self {
        let (own, foreign) = (Authority::new("own").unwrap(), Authority::new("foreign").unwrap());
        own.sign("server", "127.0.0.1", Validity::Valid).unwrap();
        own.sign("worker", WORKER, Validity::Valid).unwrap();
        own.sign("stranger", "spiffe://example.org/ns/jobs/sa/other", Validity::Valid).unwrap();
        own.sign("expired", WORKER, Validity::Expired).unwrap();
        foreign.sign("worker", WORKER, Validity::Valid).unwrap();
        foreign.sign("server", "127.0.0.1", Validity::Valid).unwrap();
        Self { setting: Setting::start(&Self::access(&own)), own, foreign }
    }

    fn access(own: &Authority) -> String {
        format!(
            "[tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\nclient_ca_file = \"{}\"\n\
             [[identities]]\nname = \"nightly\"\nroles = [\"worker\"]\ncertificate_names = [\"{WORKER}\"]\n",
            own.file("server.pem"),
            own.file("server.key"),
            own.file("ca.pem"),
        ) + &identity("token", "[\"worker\"]", "")
    }

    fn endpoint(&self, trusted: &Authority, shown: Option<(&Authority, &str)>) -> Endpoint {
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted.read("ca.pem").unwrap()));
        if let Some((authority, name)) = shown {
            let (pem, key) = (format!("{name}.pem"), format!("{name}.key"));
            tls = tls
                .identity(Identity::from_pem(authority.read(&pem).unwrap(), authority.read(&key).unwrap()));
        }
        let url = format!("https://{}", self.setting.broker.grpc);
        Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().connect_timeout(Duration::from_secs(5))
    }

    async fn connect(&self, shown: Option<(&Authority, &str)>) -> Channel {
        self.endpoint(&self.own, shown).connect().await.unwrap()
    }
}

async fn ask(channel: Channel) -> Result<(), Status> {
    acquire(channel, Request::new(wish("default", "gemini-2.5-flash", ""))).await.map(drop)
}

#[tokio::test]
async fn a_client_certificate_names_its_identity_and_a_wrong_one_is_told_why() {
    let it = Encrypted::start();
    ask(it.connect(Some((&it.own, "worker"))).await).await.unwrap();
    for (shown, said) in [
        (Some((&it.foreign, "worker")), "no authority"),
        (Some((&it.own, "expired")), "expired"),
        (Some((&it.own, "stranger")), "no identity"),
        (None, "no credentials"),
    ] {
        let status = ask(it.connect(shown).await).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "NOT_AUTHENTICATED"));
        assert!(status.message().contains(said), "{}", status.message());
    }
    // A token decides where one is sent, also a wrong one.
    let with_token = async |name: &str| {
        let request = of(name, wish("default", "gemini-2.5-flash", ""));
        acquire(it.connect(Some((&it.own, "worker"))).await, request).await
    };
    with_token("token").await.unwrap();
    assert_eq!(with_token("nobody").await.unwrap_err().code(), Code::Unauthenticated);
    assert!(it.setting.broker.log().contains("it is not known who makes them"));
}

#[tokio::test]
async fn nobody_connects_in_plain_text_or_to_a_broker_of_another_authority() {
    let it = Encrypted::start();
    it.endpoint(&it.foreign, None).connect().await.unwrap_err();
    let plain = Channel::from_shared(it.setting.broker.url()).unwrap().connect_lazy();
    ask(plain).await.unwrap_err();
    // One that says nothing holds nobody up.
    let silent: Vec<_> =
        (0..50).map(|_| std::net::TcpStream::connect(&it.setting.broker.grpc).unwrap()).collect();
    ask(it.connect(Some((&it.own, "worker"))).await).await.unwrap();
    drop(silent);
    // Probes are answered over the same encryption.
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(it.own.read("ca.pem").unwrap().as_bytes()).unwrap()])
        .build()
        .unwrap();
    let url = format!("https://{}/readyz", it.setting.broker.http);
    assert_eq!(client.get(url).send().await.unwrap().text().await.unwrap(), "ready\n");
    reqwest::get(format!("http://{}/readyz", it.setting.broker.http)).await.unwrap_err();
}

#[tokio::test]
async fn certificates_and_tokens_change_without_a_restart() {
    let it = Encrypted::start();
    let open = it.connect(Some((&it.own, "worker"))).await;
    ask(open.clone()).await.unwrap();

    // The server's certificate is renewed, by another authority.
    let seen = it.setting.broker.log().len();
    fs::copy(it.foreign.path("server.key"), it.own.path("server.key")).unwrap();
    fs::copy(it.foreign.path("server.pem"), it.own.path("server.pem")).unwrap();
    it.setting.wait_for(seen, "certificates, tokens and identities are in place");
    let trusting = it.endpoint(&it.foreign, Some((&it.own, "worker"))).connect().await.unwrap();
    ask(trusting).await.unwrap();
    ask(open.clone()).await.unwrap();

    // The authority of clients is replaced: that holds for connections that are open.
    let seen = it.setting.broker.log().len();
    fs::copy(it.foreign.path("ca.pem"), it.own.path("ca.pem")).unwrap();
    it.setting.wait_for(seen, "certificates, tokens and identities are in place");
    assert_eq!(ask(open.clone()).await.unwrap_err().code(), Code::Unauthenticated);

    // A token is taken back; a file that is wrong changes nothing.
    let with_token = || of("token", wish("default", "gemini-2.5-flash", ""));
    acquire(open.clone(), with_token()).await.unwrap();
    let without = Encrypted::access(&it.own).replace(&identity("token", "[\"worker\"]", ""), "");
    it.setting.reload(&without, "certificates, tokens and identities are in place");
    assert_eq!(acquire(open.clone(), with_token()).await.unwrap_err().code(), Code::Unauthenticated);
    it.setting.reload(&without.replace("\"worker\"", "\"king\""), "is not a role");
    it.setting.reload("", "[tls] cannot be added or removed");
    let foreign = it.endpoint(&it.foreign, Some((&it.foreign, "worker"))).connect().await.unwrap();
    ask(foreign).await.unwrap();
}
