//! Brokers and a fake Gemini, as a scenario wants them.

use std::{
    path::Path,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use keybroker_client::{Broker as Client, BrokerBuilder, Tls};
use keybroker_proto::v1::{InspectPoolRequest, InspectPoolResponse, LimitStatus, admin_client::AdminClient};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Request;

use super::{Error, Expected, Scenario, Seen, StageStep, scenario::OWN_TOKEN};
use crate::{
    fake_gemini::{FakeGemini, FakeGeminiConfig, Limits, config::ANY},
    harness::{
        broker::{BrokerOptions, BrokerProcess},
        certificates::{Authority, Validity},
        process::free_port,
        redis::RedisServer,
    },
};

/// How long is waited for what is expected to be seen.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The stage of one scenario; all of it ends when this is dropped.
#[derive(Debug)]
pub struct Stage {
    /// The fake Gemini.
    pub gemini: FakeGemini,
    brokers: Vec<Broker>,
    look_with: BrokerBuilder,
    // All outlive the brokers.
    _redis: Option<RedisServer>,
    _authorities: Vec<Authority>,
    folder: TempDir,
}

#[derive(Debug)]
struct Broker {
    address: String,
    options: BrokerOptions,
    process: Option<BrokerProcess>,
    /// It starts later.
    late: Option<JoinHandle<std::io::Result<BrokerProcess>>>,
}

impl Broker {
    fn start(&mut self) -> Result<(), Error> {
        self.process = Some(BrokerProcess::start(&self.options)?);
        Ok(())
    }

    fn start_after(&mut self, wait: Duration) {
        let options = self.options.clone();
        self.late = Some(std::thread::spawn(move || {
            std::thread::sleep(wait);
            BrokerProcess::start(&options)
        }));
    }

    /// Waits for a start that was to come later.
    fn settle(&mut self) -> Result<(), Error> {
        if let Some(late) = self.late.take() {
            self.process = Some(late.join().map_err(|_| "the thread that starts a broker panicked")??);
        }
        Ok(())
    }

    async fn inspect(&self, with: &BrokerBuilder) -> Option<InspectPoolResponse> {
        let endpoint = with.endpoint(&self.address).ok()?;
        let mut admin = AdminClient::new(endpoint.connect().await.ok()?);
        let mut request = Request::new(InspectPoolRequest { pool: "default".to_owned() });
        if let Some(token) = with.authorization() {
            request.metadata_mut().insert("authorization", token.clone());
        }
        admin.inspect_pool(request).await.ok().map(tonic::Response::into_inner)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Else it would outlive this one.
        let _ = self.settle();
    }
}

impl Stage {
    /// Starts what a test needs: the fields of a scenario, without which ten requests may be in flight.
    ///
    /// # Errors
    /// If it is no scenario, or a part does not start.
    pub async fn of(scenario: &Value) -> Result<Self, Error> {
        let mut whole = json!({ "name": "test", "about": "", "pool": { "limits": [{ "in_flight": 10 }] } });
        let (fields, said) = (whole.as_object_mut(), scenario.as_object().ok_or("a scenario is an object")?);
        fields.into_iter().for_each(|fields| fields.extend(said.clone()));
        Self::start(&serde_json::from_value(whole)?).await
    }

    /// Waits for the books to say this, as the step `see` does.
    ///
    /// # Errors
    /// What they do not say, after 5 seconds.
    pub async fn sees(&mut self, expect: &Value) -> Result<(), Error> {
        let seen = self.take(serde_json::from_value(json!({ "stage": "see", "expect": expect }))?).await?;
        for (name, wanted) in expect.as_object().into_iter().flatten() {
            if &seen[name] != wanted {
                return Err(format!("{name} is not {wanted} in {seen}").into());
            }
        }
        Ok(())
    }

    /// Starts what the scenario needs.
    ///
    /// # Errors
    /// If a part does not start.
    pub async fn start(scenario: &Scenario) -> Result<Self, Error> {
        let mut config = FakeGeminiConfig::default().with_projects(scenario.projects, "fake-key-");
        if scenario.quota != Limits::default() {
            config.limits.set(ANY, ANY, scenario.quota);
        }
        let gemini = FakeGemini::start(config).await?;
        for rule in &scenario.faults {
            gemini.control().add_fault(rule).await?;
        }
        let folder = TempDir::with_prefix("keybroker-contract")?;
        let file = folder.path().join("keybroker.toml");
        std::fs::write(&file, scenario.catalogue(folder.path())?)?;
        let authorities = authorities(scenario, folder.path())?;
        let mut look_with = Client::builder();
        if !scenario.identities.is_empty() {
            look_with = look_with.token(&OWN_TOKEN.into())?;
        }
        if let Some(own) = authorities.first() {
            look_with = look_with.tls(Tls::new().ca_file(own.path("ca.pem")));
        }
        let redis = if scenario.brokers > 0 { Some(RedisServer::start()?) } else { None };
        let mut brokers = Vec::new();
        for _ in 0..scenario.brokers.max(1) {
            let address = format!("127.0.0.1:{}", free_port()?);
            let options = BrokerOptions::default().at(&address).arg("--config", file.display().to_string());
            let options = match &redis {
                Some(redis) => options.arg("--redis-url", redis.url()),
                None => options.arg("--data-dir", folder.path().join("data").display().to_string()),
            };
            let mut broker = Broker { address, options, process: None, late: None };
            broker.start()?;
            brokers.push(broker);
        }
        Ok(Self { gemini, brokers, look_with, _redis: redis, _authorities: authorities, folder })
    }

    /// Where the files of certificates are, in the folders `own` and `foreign`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The addresses of the brokers.
    pub fn addresses(&self) -> Vec<&str> {
        self.brokers.iter().map(|broker| broker.address.as_str()).collect()
    }

    /// Does what a runner asks for; the answer for it.
    ///
    /// # Errors
    /// If it cannot be done.
    pub async fn take(&mut self, step: StageStep) -> Result<Value, Error> {
        match step {
            StageStep::StopBroker { number } => self.broker(number)?.process = None,
            StageStep::StartBroker { number, after: 0 } => self.broker(number)?.start()?,
            StageStep::StartBroker { number, after } => {
                self.broker(number)?.start_after(Duration::from_millis(after));
            }
            StageStep::DrainBroker { number } => {
                let broker = self.broker(number)?.process.as_mut().ok_or("the broker does not run")?;
                broker.process().signal("TERM")?;
            }
            StageStep::Faults { rules } => {
                let control = self.gemini.control();
                control.clear_faults().await?;
                for rule in &rules {
                    control.add_fault(rule).await?;
                }
            }
            StageStep::See { expect } => return Ok(serde_json::to_value(self.see(&expect).await)?),
        }
        Ok(serde_json::json!({}))
    }

    fn broker(&mut self, number: usize) -> Result<&mut Broker, Error> {
        let count = self.brokers.len();
        let missing =
            || format!("there is no broker {number}: they are numbered from 0, and there are {count}");
        let broker = self.brokers.get_mut(number).ok_or_else(missing)?;
        broker.settle()?;
        Ok(broker)
    }

    /// Looks until all is as expected, or patience ends.
    async fn see(&self, expect: &Expected) -> Seen {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = self.look().await;
            if expect.is(&seen) || Instant::now() > until {
                return seen;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) -> Seen {
        let verdict = self.gemini.verdict();
        let mut seen = Seen {
            calls: verdict.calls,
            refused: verdict.quota_refusals,
            keys_in_url: verdict.keys_in_url,
            ..Seen::default()
        };
        for broker in &self.brokers {
            let Some(pool) = broker.inspect(&self.look_with).await else { continue };
            let counters = pool.counters.unwrap_or_default();
            seen.granted += counters.granted;
            seen.settled += counters.settled;
            seen.waiting += counters.waiting;
            // Brokers share their ledger.
            let is_one = |limit: &&LimitStatus| {
                limit.limit_name == "requests in flight" && limit.subject.starts_with("project ")
            };
            let of_projects = pool.limits.iter().filter(is_one);
            seen.in_flight = of_projects.map(|limit| limit.used).sum();
        }
        seen
    }
}

/// The brokers' authority, and a foreign one that signs the same names; none in plain text.
fn authorities(scenario: &Scenario, folder: &Path) -> Result<Vec<Authority>, Error> {
    let Some(tls) = &scenario.tls else { return Ok(Vec::new()) };
    let mut made = Vec::new();
    for name in ["own", "foreign"] {
        let authority = Authority::within(folder, name)?;
        authority.sign("server", "127.0.0.1", Validity::Valid)?;
        for (file, name) in &tls.certificates {
            authority.sign(file, name, Validity::Valid)?;
        }
        made.push(authority);
    }
    Ok(made)
}
