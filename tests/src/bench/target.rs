//! A broker that is measured, with its ledger and its keys.

use std::{fmt::Write, path::Path};

use tempfile::TempDir;

use super::{Error, case::Ledger, cost::Meter, fill, load::Callers, plan::Plan};
use crate::harness::{
    broker::{BrokerOptions, BrokerProcess},
    redis::RedisServer,
};

/// The model that is asked for.
pub(super) const MODEL: &str = "gemini-2.5-flash";

/// Something that calls are made to.
pub(super) struct Target {
    /// Where it serves.
    pub(super) url: String,
    /// Its connections.
    pub(super) callers: Callers,
    /// What it costs.
    pub(super) meter: Meter,
    // Dropped in this order: the broker ends before its ledger.
    _broker: Option<BrokerProcess>,
    _redis: Option<RedisServer>,
    _folder: Option<TempDir>,
}

impl Target {
    /// A server that runs elsewhere.
    pub(super) async fn of_process(url: &str, process: u32, connections: usize) -> Result<Self, Error> {
        let callers = Callers::connect(url, connections).await?;
        let (url, meter) = (url.to_owned(), Meter::of_process(process));
        Ok(Self { url, callers, meter, _broker: None, _redis: None, _folder: None })
    }

    /// Starts a broker on a ledger of its own.
    pub(super) async fn start(ledger: Ledger, keys: usize, plan: &Plan) -> Result<Self, Error> {
        let (filled, connections) = (plan.filled, plan.connections);
        let folder = TempDir::with_prefix("keybroker-bench")?;
        let config = folder.path().join("keybroker.toml");
        write_catalogue(&config, keys)?;
        // The harness waits for the line that says where it serves; nothing else is logged.
        let options = BrokerOptions { env: plan.broker_env.clone(), ..BrokerOptions::default() }
            .arg("--config", config.display().to_string())
            .arg("--log", "error,keybroker::serve=info");
        let (broker, redis, meter) = match ledger {
            Ledger::Redis => {
                let mut redis = RedisServer::start()?;
                if filled {
                    fill::redis(&redis.url(), &config).await?;
                }
                let mut broker = BrokerProcess::start(&options.arg("--redis-url", redis.url()))?;
                let meter = Meter::of_process(broker.process().id())
                    .with_redis(redis.process().id(), redis.connect()?);
                (broker, Some(redis), meter)
            }
            Ledger::Embedded => {
                let data = folder.path().join("data");
                if filled {
                    fill::embedded(&data, &config).await?;
                }
                let mut broker =
                    BrokerProcess::start(&options.arg("--data-dir", data.display().to_string()))?;
                let meter = Meter::of_process(broker.process().id()).with_file(data.join("ledger.redb"));
                (broker, None, meter)
            }
        };
        let url = broker.url();
        let callers = Callers::connect(&url, connections).await?;
        Ok(Self { url, callers, meter, _broker: Some(broker), _redis: redis, _folder: Some(folder) })
    }
}

/// Writes a catalogue of so many keys.
pub(super) fn write_catalogue(path: &Path, keys: usize) -> Result<(), Error> {
    Ok(std::fs::write(path, catalogue(keys))?)
}

/// Keys that each have a project of their own, under limits that are counted and never reached.
fn catalogue(keys: usize) -> String {
    let mut text = "[[pools]]\nname = \"default\"\n\n[[pools.limits]]\nmodel = \"*\"\n\
                    requests_per_minute = 1000000000\ninput_tokens_per_minute = 1000000000000\n\
                    requests_per_day = 1000000000000\n\n"
        .to_owned();
    for key in 0..keys {
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "[[projects]]\nid = \"project-{key:05}\"\nkeys = [{{ id = \"key-{key:05}\", secret = \"AIza{key:035}\" }}]\n\n"
        );
    }
    text
}
