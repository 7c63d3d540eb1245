//! `keybroker health`: by its exit code alone, as containers ask.

use std::fs;

use keybroker_tests::harness::{
    broker::{BrokerOptions, BrokerProcess},
    certificates::{Authority, Validity},
    redis::RedisServer,
};
use tempfile::TempDir;

use super::{json, keybroker, run};

const KEYS: &str = "[[projects]]\nid = \"a\"\nkeys = [{ secret = \"fake-key-of-health-0001\" }]\n";

fn start(config: &str, change: impl FnOnce(BrokerOptions) -> BrokerOptions) -> (BrokerProcess, TempDir) {
    let folder = TempDir::with_prefix("keybroker-health").unwrap();
    let file = folder.path().join("keybroker.toml");
    fs::write(&file, config).unwrap();
    let options = BrokerOptions::default()
        .arg("--config", file.display().to_string())
        .env("KEYBROKER_DATA_DIR", folder.path().join("data").display().to_string());
    (BrokerProcess::start(&change(options)).unwrap(), folder)
}

#[test]
fn a_broker_is_well_until_its_ledger_or_it_is_gone() {
    let redis = RedisServer::start().unwrap();
    let without_data = |mut options: BrokerOptions| {
        options.env.clear();
        options.env("KEYBROKER_REDIS_URL", redis.url())
    };
    let (mut broker, _folder) = start(KEYS, without_data);
    let http = broker.http.clone();
    let health = |more: &[&str]| keybroker(&[&["health", "--http-addr", &http], more].concat());
    assert_eq!(run(&mut health(&[]), 0), "ready\n");
    assert_eq!(run(&mut health(&["--live"]), 0), "ok\n");
    assert_eq!(json(&mut health(&["--json"]))["well"], true);
    // As a container knows it: by the variable that the broker has, which says all addresses.
    let port = http.rsplit(':').next().unwrap();
    let everywhere = format!("0.0.0.0:{port}");
    assert_eq!(run(keybroker(&["health"]).env("KEYBROKER_HTTP_ADDR", everywhere), 0), "ready\n");

    drop(redis);
    assert!(run(&mut health(&[]), 1).contains("not ready"));
    assert_eq!(run(&mut health(&["--live"]), 0), "ok\n");
    broker.process().kill();
    let gone = run(&mut health(&["--live"]), 1);
    assert!(gone.contains(&format!("no answer from {http}")), "{gone}");
    assert!(run(&mut keybroker(&["health", "--http-addr", "nowhere"]), 2).contains("--http-addr"));
}

#[test]
fn a_broker_that_speaks_tls_is_asked_over_tls_and_for_no_token() {
    let authority = Authority::new("own").unwrap();
    authority.sign("server", "broker.example", Validity::Valid).unwrap();
    let config = format!(
        "[tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\nclient_ca_file = \"{}\"\n{KEYS}\
         [[identities]]\nname = \"w\"\nroles = [\"worker\"]\ncertificate_names = [\"worker.example\"]\n",
        authority.file("server.pem"),
        authority.file("server.key"),
        authority.file("ca.pem")
    );
    let (broker, _folder) = start(&config, |options| options);
    assert_eq!(run(&mut keybroker(&["health", "--http-addr", &broker.http]), 0), "ready\n");
}
