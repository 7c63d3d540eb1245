//! A configuration that cannot be taken up as a whole is not taken up in part; what is taken away holds at once.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use keybroker_proto::v1::{AcquireRequest, key_broker_client::KeyBrokerClient};
use keybroker_tests::harness::{
    api::{not_sent, wire},
    broker::{BrokerOptions, BrokerProcess},
    process::wait_until,
    redis::RedisServer,
};
use tempfile::TempDir;
use tonic::{Code, transport::Channel};

use super::{POOLS, Setting, acquire, identity, of, wish};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn identities_stay_where_the_rest_of_the_configuration_cannot_be_put_in_place() {
    let mut redis = RedisServer::start().unwrap();
    let folder = TempDir::with_prefix("keybroker-access").unwrap();
    let file = folder.path().join("keybroker.toml");
    fs::write(&file, format!("{POOLS}{}", identity("one", "[\"worker\"]", ""))).unwrap();
    let options = BrokerOptions::default()
        .arg("--config", file.display().to_string())
        .env("KEYBROKER_REDIS_URL", redis.url());
    let broker = BrokerProcess::start(&options).unwrap();
    let channel = Channel::from_shared(broker.url()).unwrap().connect().await.unwrap();
    let ask = async |who: &str| {
        acquire(channel.clone(), of(who, wish("default", "gemini-2.5-flash", ""))).await.map(drop)
    };
    ask("one").await.unwrap();

    // Without its ledger the broker cannot open a pool that is new; its identities are new as well.
    redis.kill();
    let pool = "[[pools]]\nname = \"extra\"\n";
    fs::write(&file, format!("{POOLS}{pool}{}", identity("two", "[\"worker\"]", ""))).unwrap();
    let told = || broker.log().contains("the new configuration is not used yet, the old one stays");
    assert!(wait_until(PATIENCE, told), "{}", broker.log());
    assert_eq!(
        ask("one").await.unwrap_err().code(),
        Code::Unavailable,
        "it is known, and there is no ledger"
    );
    assert_eq!(ask("two").await.unwrap_err().code(), Code::Unauthenticated);

    // When the ledger is back, nobody has to ask for it again.
    redis.start_again().unwrap();
    let told = || broker.log().contains("a new configuration is in place");
    assert!(wait_until(PATIENCE, told), "{}", broker.log());
    assert_eq!(ask("one").await.unwrap_err().code(), Code::Unauthenticated);
    assert_ne!(ask("two").await.map_err(|status| status.code()), Err(Code::Unauthenticated));
}

#[tokio::test]
async fn who_may_call_waits_for_no_source_of_secrets() {
    let folder = TempDir::with_prefix("keybroker-access").unwrap();
    let (file, program) = (folder.path().join("keybroker.toml"), folder.path().join("print"));
    // It prints once, and hangs whenever it is asked again.
    let script = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\nif [ -e printed ]; then touch hangs; exec sleep 100; fi\ntouch printed\necho fake-key-that-is-printed\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let write = |access: &str| {
        let source = format!(
            "[secrets]\ncommand_timeout = \"60s\"\nrefresh_every = \"1s\"\n{POOLS}[[projects]]\nid = \"printed\"\n\
             keys = [{{ secret = \"command:{}\" }}]\n",
            program.display()
        );
        fs::write(&file, source + access).unwrap();
    };
    write(&identity("one", "[\"worker\"]", ""));
    let options = BrokerOptions::default()
        .arg("--config", file.display().to_string())
        .arg("--data-dir", folder.path().join("data").display().to_string());
    let broker = BrokerProcess::start(&options).unwrap();
    let channel = Channel::from_shared(broker.url()).unwrap().connect().await.unwrap();
    assert!(wait_until(PATIENCE, || folder.path().join("hangs").exists()), "it is asked again, and hangs");
    write(&identity("two", "[\"worker\"]", ""));
    let told = || broker.log().contains("certificates, tokens and identities are in place");
    assert!(wait_until(PATIENCE, told), "{}", broker.log());
    let ask = |who: &str| acquire(channel.clone(), of(who, wish("default", "gemini-2.5-flash", "")));
    assert_eq!(ask("one").await.unwrap_err().code(), Code::Unauthenticated);
    ask("two").await.unwrap();
}

#[tokio::test]
async fn who_is_not_known_any_more_gets_no_lease_that_was_waited_for() {
    let limited = "[[projects]]\nid = \"narrow\"\npool = \"batch\"\nlimits = [{ in_flight = 1 }]\nkeys = [{ secret = \"fake-key-narrow\" }]\n";
    let [one, two] = ["one", "two"].map(|name| identity(name, "[\"worker\", \"viewer\"]", ""));
    let setting = Setting::start(&format!("{limited}{one}{two}"));
    let channel = setting.channel().await;
    let narrow = || AcquireRequest {
        constraints: Some(keybroker_proto::v1::Constraints {
            project: "narrow".to_owned(),
            ..keybroker_proto::v1::Constraints::default()
        }),
        wait: Some(wire(Duration::from_secs(60))),
        ..wish("batch", "gemini-2.5-flash", "")
    };
    let held = acquire(channel.clone(), of("two", narrow())).await.unwrap();
    let waiting = tokio::spawn(acquire(channel.clone(), of("one", narrow())));
    let mut viewer = keybroker_proto::v1::admin_client::AdminClient::new(channel.clone());
    let mut waits = async || {
        let pool = keybroker_proto::v1::InspectPoolRequest { pool: "batch".to_owned() };
        viewer.inspect_pool(of("two", pool)).await.unwrap().into_inner().counters.unwrap().waiting == 1
    };
    while !waits().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    setting.reload(&format!("{limited}{two}"), "identities are in place");
    KeyBrokerClient::new(channel.clone())
        .report(of("two", keybroker_proto::v1::ReportRequest { reports: vec![not_sent(&held.lease_id)] }))
        .await
        .unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().code(), Code::Unauthenticated);
}
