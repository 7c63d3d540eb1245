//! A configuration that cannot be taken up as a whole is not taken up in part.

use std::{fs, time::Duration};

use keybroker_tests::harness::{
    broker::{BrokerOptions, BrokerProcess},
    process::wait_until,
    redis::RedisServer,
};
use tempfile::TempDir;
use tonic::{Code, transport::Channel};

use super::{POOLS, acquire, identity, of, wish};

#[tokio::test]
async fn identities_stay_where_the_rest_of_the_configuration_cannot_be_put_in_place() {
    let redis = RedisServer::start().unwrap();
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
    drop(redis);
    let pool = "[[pools]]\nname = \"extra\"\n";
    fs::write(&file, format!("{POOLS}{pool}{}", identity("two", "[\"worker\"]", ""))).unwrap();
    let told = || broker.log().contains("the new configuration is not used, the old one stays");
    assert!(wait_until(Duration::from_secs(20), told), "{}", broker.log());
    assert_eq!(
        ask("one").await.unwrap_err().code(),
        Code::Unavailable,
        "it is known, and there is no ledger"
    );
    assert_eq!(ask("two").await.unwrap_err().code(), Code::Unauthenticated);
}
