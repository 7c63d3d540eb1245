//! Who may call: every call with every role, tokens, certificates, what an identity may use, and addresses
//! that are open to others. From outside, with real brokers.

#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod certificates;
mod commands;
mod foreign_pools;
mod matrix;
mod open;
mod reload;
mod scope;

use std::{fs, time::Duration};

use keybroker_proto::v1::{AcquireRequest, Lease, key_broker_client::KeyBrokerClient};
use keybroker_tests::harness::{
    broker::{BrokerOptions, BrokerProcess},
    redis::RedisServer,
};
use tempfile::TempDir;
use tonic::{Request, Status, transport::Channel};
use tonic_types::StatusExt;

/// Keys and pools that most of these tests lease from.
const POOLS: &str = r#"
[[pools]]
name = "default"
[[pools]]
name = "batch"
[[projects]]
id = "project-a"
limits = [{ requests_per_minute = 100 }]
keys = [{ id = "a1", secret = "fake-key-of-project-a" }]
[[projects]]
id = "project-b"
pool = "batch"
limits = [{ requests_per_minute = 100 }]
keys = [{ id = "b1", secret = "fake-key-of-project-b" }]
"#;

/// A broker with a configuration of its own.
struct Setting {
    broker: BrokerProcess,
    folder: TempDir,
}

impl Setting {
    fn start(access: &str) -> Self {
        Self::start_on(None, access)
    }

    /// The same with its ledger in Redis, if one is given.
    fn start_on(redis: Option<&RedisServer>, access: &str) -> Self {
        let folder = TempDir::with_prefix("keybroker-access").unwrap();
        let file = folder.path().join("keybroker.toml");
        fs::write(&file, format!("{POOLS}{access}")).unwrap();
        let (option, value) = match redis {
            Some(redis) => ("--redis-url", redis.url()),
            None => ("--data-dir", folder.path().join("data").display().to_string()),
        };
        let options = BrokerOptions::default()
            .arg("--config", file.display().to_string())
            .arg(option, value)
            .env("KEYBROKER_MASTER_KEY", "07".repeat(32));
        Self { broker: BrokerProcess::start(&options).unwrap(), folder }
    }

    /// Replaces what the configuration says of access, and waits until the log says that word.
    fn reload(&self, access: &str, word: &str) {
        let seen = self.broker.log().len();
        fs::write(self.folder.path().join("keybroker.toml"), format!("{POOLS}{access}")).unwrap();
        self.wait_for(seen, word);
    }

    fn wait_for(&self, seen: usize, word: &str) {
        let told = || self.broker.log()[seen..].contains(word);
        assert!(
            keybroker_tests::harness::process::wait_until(Duration::from_secs(10), told),
            "no {word:?} in {}",
            self.broker.log()
        );
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(self.broker.url()).unwrap().connect().await.unwrap()
    }
}

/// One of `[[identities]]` that is known by the token `token-of-{name}`.
fn identity(name: &str, roles: &str, more: &str) -> String {
    let digest = keybroker::access::TokenDigest::of(&token(name));
    format!("[[identities]]\nname = \"{name}\"\nroles = {roles}\ntoken_sha256 = [\"{digest}\"]\n{more}\n")
}

fn token(name: &str) -> String {
    format!("token-of-{name}")
}

/// A request with the token of an identity.
fn of<T>(name: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let header = format!("Bearer {}", token(name)).parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    request
}

fn wish(pool: &str, model: &str, consumer: &str) -> AcquireRequest {
    AcquireRequest {
        pool: pool.to_owned(),
        model: model.to_owned(),
        consumer: consumer.to_owned(),
        ..AcquireRequest::default()
    }
}

async fn acquire(channel: Channel, request: Request<AcquireRequest>) -> Result<Lease, Status> {
    let answer = KeyBrokerClient::new(channel).acquire(request).await?;
    Ok(answer.into_inner().lease.unwrap())
}

/// The reason that a status gives, as the contract names it.
fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}
