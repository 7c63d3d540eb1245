//! A broker on a ledger and with a configuration file of its own.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    api::{Api, not_sent},
    broker::{BrokerOptions, BrokerProcess},
    redis::RedisServer,
};

/// Where a rig's brokers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// In a file of the broker's own.
    Embedded,
    /// In a private Redis.
    Redis,
}

/// A broker and all that it stands on. The broker ends before the rest does.
#[derive(Debug)]
pub struct Rig {
    /// The broker.
    pub broker: BrokerProcess,
    /// A connection to it.
    pub api: Api,
    /// The Redis it counts in, if it does.
    pub redis: Option<RedisServer>,
    options: BrokerOptions,
    folder: TempDir,
}

impl Rig {
    /// Starts a broker with this configuration file.
    ///
    /// # Panics
    /// If a part of it does not start.
    pub async fn start(backing: Backing, config: &str) -> Self {
        Self::start_with(backing, config, BrokerOptions::default()).await
    }

    /// The same with further variables and arguments.
    ///
    /// # Panics
    /// If a part of it does not start.
    pub async fn start_with(backing: Backing, config: &str, options: BrokerOptions) -> Self {
        let folder = TempDir::with_prefix("keybroker-rig").expect("a folder can be made");
        let redis = (backing == Backing::Redis).then(|| RedisServer::start().expect("redis-server starts"));
        let options = match &redis {
            Some(redis) => options.arg("--redis-url", redis.url()),
            None => options.arg("--data-dir", folder.path().join("data").display().to_string()),
        };
        let options = options.arg("--config", folder.path().join("keybroker.toml").display().to_string());
        std::fs::write(folder.path().join("keybroker.toml"), config).expect("the folder can be written");
        let broker = BrokerProcess::start(&options).expect("the broker starts");
        let api = Api::connect(broker.url()).await;
        Self { broker, api, redis, options, folder }
    }

    /// Starts the broker anew, with the file and the ledger as they are now.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn restart(&mut self) {
        self.broker.process().kill();
        self.broker = BrokerProcess::start(&self.options).expect("the broker starts again");
        self.api = Api::connect(self.broker.url()).await;
    }

    /// Starts a second broker on the same Redis with a file of its own.
    ///
    /// # Panics
    /// If it does not start, or there is no Redis.
    pub async fn beside(&self, name: &str, config: &str) -> (BrokerProcess, Api) {
        self.beside_with(name, config, BrokerOptions::default()).await
    }

    /// The same with further variables and arguments.
    ///
    /// # Panics
    /// As [`Rig::beside`].
    pub async fn beside_with(
        &self,
        name: &str,
        config: &str,
        options: BrokerOptions,
    ) -> (BrokerProcess, Api) {
        let redis = self.redis.as_ref().expect("only a Redis can be shared");
        let file = self.folder.path().join(name);
        std::fs::write(&file, config).expect("the folder can be written");
        let options = options.arg("--redis-url", redis.url()).arg("--config", file.display().to_string());
        let broker = BrokerProcess::start(&options).expect("the broker starts");
        let api = Api::connect(broker.url()).await;
        (broker, api)
    }

    /// Writes the configuration file anew.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.config_file(), config).expect("the folder can be written");
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("keybroker.toml")
    }

    /// The data directory of the embedded ledger.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The broker still serves a good request, which costs nothing, and nothing in it panicked.
    ///
    /// # Panics
    /// If it does not.
    pub async fn still_serves(&mut self) {
        let lease = self.api.lease().await;
        self.api.report(not_sent(&lease.lease_id)).await.expect("a lease can be given back");
        assert!(self.broker.process().is_running(), "the broker runs");
        let log = self.broker.log();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Waits until the log holds a text.
    ///
    /// # Panics
    /// If it does not within a few seconds.
    pub async fn logs(&self, text: &str) {
        let logged = eventually(async || self.broker.log().contains(text)).await;
        assert!(logged, "{text:?} is not in the log:\n{}", self.broker.log());
    }
}

/// Asks until the answer is yes, for ten seconds at most.
pub async fn eventually(mut ask: impl AsyncFnMut() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(10);
    while !ask().await {
        if Instant::now() > until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

/// Makes a test of each function on each ledger: `embedded::name` and `redis::name`.
#[macro_export]
macro_rules! on_both_ledgers {
    ($($(#[$attribute:meta])* $name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test] $(#[$attribute])* async fn $name() {
                super::$name($crate::harness::rig::Backing::Embedded).await;
            })+
        }
        mod redis {
            $(#[tokio::test] $(#[$attribute])* async fn $name() {
                super::$name($crate::harness::rig::Backing::Redis).await;
            })+
        }
    };
}
