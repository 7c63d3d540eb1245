//! A Redis that wants TLS, certificates on both sides and a user of its own: real brokers get in with what they are
//! given, and say what is wrong where they do not.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

use std::time::Duration;

use keybroker_tests::harness::{
    api::{Api, succeeded},
    broker::{BrokerOptions, BrokerProcess},
    certificates::{Authority, Validity},
    process::free_port,
    redis::RedisServer,
};

/// What a broker may do to Redis, as `docs/redis.md` has it: nothing beyond its own keys.
const RIGHTS: &str = "~kb:* -@all +@read +@write +@scripting +@connection +info +time +wait +role";
const KEY: &str = "test-key-good-1111";
const PATIENCE: Duration = Duration::from_secs(20);

/// An authority that signed a server's certificate and a client's.
fn certificates() -> Authority {
    let authority = Authority::new("test authority").unwrap();
    authority.sign("server", "127.0.0.1", Validity::Valid).unwrap();
    authority.sign("client", "127.0.0.1", Validity::Valid).unwrap();
    authority
}

/// A Redis behind TLS that asks for a certificate, with the user `keybroker`; and its port.
fn guarded(certificates: &Authority) -> (RedisServer, u16) {
    let port = free_port().unwrap();
    let (tls_port, cert, key, ca) = (
        port.to_string(),
        certificates.file("server.pem"),
        certificates.file("server.key"),
        certificates.file("ca.pem"),
    );
    let rights: Vec<&str> = RIGHTS.split(' ').collect();
    let mut arguments = vec![
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "yes",
        "--user",
        "keybroker",
        "on",
        ">test-password",
    ];
    arguments.extend(rights);
    (RedisServer::start_with(None, &arguments).unwrap(), port)
}

fn broker(url: &str) -> BrokerOptions {
    BrokerOptions::default().env("GEMINI_API_KEYS", KEY).env("KEYBROKER_REDIS_URL", url)
}

/// What a broker says that does not get in.
fn refused(options: &BrokerOptions) -> String {
    let (code, text) = BrokerProcess::run_to_end(options, PATIENCE).unwrap();
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("panicked") && !text.contains("test-password"), "{text}");
    text.lines().last().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_broker_leases_behind_tls_as_a_user_with_no_more_rights_than_it_needs() {
    let certificates = certificates();
    let (_redis, port) = guarded(&certificates);
    let options = broker(&format!("rediss://keybroker:test-password@127.0.0.1:{port}"))
        .arg("--redis-ca", certificates.file("ca.pem"))
        .arg("--redis-cert", certificates.file("client.pem"))
        .arg("--redis-key", certificates.file("client.key"));
    let mut broker = BrokerProcess::start(&options).unwrap();
    let api = Api::connect(broker.url()).await;
    let lease = api.lease().await;
    assert_eq!(lease.api_key, KEY);
    api.report(succeeded(&lease.lease_id, 10)).await.unwrap();
    api.inspect().await;
    // A beat, a look at the registry, and an end in order.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    broker.process().signal("TERM").unwrap();
    assert!(broker.process().wait(PATIENCE).unwrap().success());
    let log = broker.log();
    assert!(!log.contains("NOPERM") && !log.contains("\"level\":\"ERROR\""), "{log}");
    assert!(!log.contains("cannot be reached") && !log.contains("gave no answer"), "{log}");
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let certificates = certificates();
    let (_redis, port) = guarded(&certificates);
    let url = format!("rediss://keybroker:test-password@127.0.0.1:{port}");
    let (ca, cert, key) =
        (certificates.file("ca.pem"), certificates.file("client.pem"), certificates.file("client.key"));

    let said = refused(&broker(&url));
    assert!(
        said.contains("certificate") && said.contains("--redis-ca"),
        "an authority that is not known: {said}"
    );
    let said = refused(&broker(&url).arg("--redis-ca", &ca));
    assert!(said.contains("CertificateRequired") && said.contains("--redis-cert"), "no certificate: {said}");
    let wrong = format!("rediss://keybroker:wrong-password@127.0.0.1:{port}");
    let with_all =
        |url: &str| broker(url).arg("--redis-ca", &ca).arg("--redis-cert", &cert).arg("--redis-key", &key);
    let said = refused(&with_all(&wrong));
    assert!(said.contains("user or password") && !said.contains("wrong-password"), "{said}");
    let absent =
        broker(&url).arg("--redis-ca", &ca).arg("--redis-cert", "/nowhere.pem").arg("--redis-key", &key);
    let said = refused(&absent);
    assert!(said.contains("/nowhere.pem"), "{said}");
}
