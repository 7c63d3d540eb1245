//! A broker with five keys, a fake Gemini, and the SDK between them.

use std::time::Duration;

use keybroker_client::{Broker, Gemini, GeminiBuilder, GeminiError};
use keybroker_proto::v1::Cooldown;

use crate::{
    fake_gemini::{FakeGemini, FakeGeminiConfig, FaultRule, LogEntry, fingerprint},
    harness::{
        broker::BrokerOptions,
        rig::{Backing, Rig},
    },
};

/// Another model than [`MODEL`](crate::harness::api::MODEL).
pub const OTHER_MODEL: &str = "gemini-other-fake";
/// What the caller asks.
pub const QUESTION: &str = "Why is the sky blue?";
/// The ids of the keys in the order in which they are leased, with project and billing account.
pub const KEYS: [(&str, &str, &str); 5] = [
    ("a1", "alpha", "account-1"),
    ("a2", "alpha", "account-1"),
    ("b1", "beta", "account-1"),
    ("c1", "gamma", "account-2"),
    ("d1", "delta", "account-3"),
];

/// The text of a key, which is plainly fake.
pub fn key_text(id: &str) -> String {
    format!("test-key-of-the-answers-{id}-Xk4q")
}

/// All parts, each of its own.
#[derive(Debug)]
pub struct Stage {
    /// The broker.
    pub rig: Rig,
    /// The fake.
    pub gemini: FakeGemini,
    /// The SDK's connection to the broker.
    pub broker: Broker,
}

impl Stage {
    /// Starts them.
    ///
    /// # Panics
    /// If one of them does not start.
    pub async fn start(backing: Backing) -> Self {
        Self::start_with(backing, BrokerOptions::default()).await
    }

    /// The same with further arguments for the broker.
    ///
    /// # Panics
    /// If a part does not start.
    pub async fn start_with(backing: Backing, options: BrokerOptions) -> Self {
        Self::on(Rig::start_with(backing, &config(), options).await).await
    }

    /// The same with a configuration of the caller's, of the same keys.
    ///
    /// # Panics
    /// If a part does not start.
    pub async fn start_as(backing: Backing, config: &str) -> Self {
        Self::on(Rig::start(backing, config).await).await
    }

    async fn on(rig: Rig) -> Self {
        let gemini = FakeGemini::start(google()).await.expect("the fake starts");
        let broker = Broker::connect(rig.broker.url()).expect("the broker's address is one");
        Self { rig, gemini, broker }
    }

    /// A client with so many attempts.
    pub fn client(&self, attempts: u32) -> GeminiBuilder {
        Gemini::builder(&self.broker)
            .base_url(&self.gemini.base_url)
            .attempts(attempts)
            .deadline(Duration::from_secs(30))
    }

    /// Asks once, with so many attempts.
    ///
    /// # Errors
    /// What the SDK tells the caller.
    pub async fn ask(&self, attempts: u32, model: &str) -> Result<String, GeminiError> {
        self.client(attempts).build().expect("the settings are good").ask(model, QUESTION).await
    }

    /// Asks many times; every one must be served.
    ///
    /// # Panics
    /// If one is not.
    pub async fn served(&self, times: usize, model: &str) {
        for _ in 0..times {
            if let Err(error) = self.ask(3, model).await {
                panic!("{model} is not served by the keys that are left: {error}");
            }
        }
    }

    /// Google goes wrong.
    pub fn go_wrong(&self, rule: FaultRule) {
        self.gemini.add_fault(rule);
    }

    /// The calls that Google saw so far.
    pub fn calls(&self) -> Vec<LogEntry> {
        self.gemini.log(0).entries
    }

    /// Their keys, by id.
    pub fn keys_called(&self) -> Vec<&'static str> {
        self.calls().iter().map(key_of).collect()
    }

    /// What is cooling down, in order.
    pub async fn cooldowns(&self) -> Vec<Cooldown> {
        let mut cooldowns = self.rig.api.inspect().await.cooldowns;
        cooldowns.sort_by(|a, b| a.subject.cmp(&b.subject));
        cooldowns
    }

    /// How many requests are in flight by the ledger.
    pub async fn in_flight(&self) -> i64 {
        let limits = self.rig.api.inspect().await.limits;
        limits.iter().filter(|limit| limit.limit_name == "requests in flight").map(|limit| limit.used).sum()
    }

    /// What is used of a limit in all projects for [`MODEL`](crate::harness::api::MODEL).
    pub async fn used_in_all(&self, limit_name: &str) -> i64 {
        let mut used = 0;
        for project in ["alpha", "beta", "gamma", "delta"] {
            used += self.rig.api.used(project, limit_name).await;
        }
        used
    }
}

/// The id of the key of a call.
///
/// # Panics
/// If it is none of the stage's.
pub fn key_of(entry: &LogEntry) -> &'static str {
    let found = KEYS.iter().find(|(id, ..)| fingerprint(&key_text(id)) == *entry.key);
    found.map(|(id, ..)| *id).expect("only keys of the stage are leased")
}

/// The configuration of the broker, for a second one beside it.
pub fn config() -> String {
    // A busy machine may take its time to send.
    let mut text = "[[pools]]\nname = \"default\"\nsend_within = \"20s\"\n".to_owned();
    for project in ["alpha", "beta", "gamma", "delta"] {
        let of_project = || KEYS.iter().filter(|(_, owner, _)| *owner == project);
        let account = of_project().map(|(_, _, account)| *account).next().unwrap_or_default();
        let key = |id: &str| format!("{{ id = \"{id}\", secret = \"{}\" }}", key_text(id));
        let keys: Vec<String> = of_project().map(|(id, ..)| key(id)).collect();
        text += &format!(
            "[[projects]]\nid = \"{project}\"\nbilling_account = \"{account}\"\nkeys = [{}]\n\
             limits = [{{ model = \"*\", in_flight = 20 }}]\n",
            keys.join(", ")
        );
    }
    text
}

fn google() -> FakeGeminiConfig {
    KEYS.iter()
        .fold(FakeGeminiConfig::default(), |config, (id, project, _)| config.with_key(&key_text(id), project))
}
