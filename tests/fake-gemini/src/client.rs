//! A client of the control endpoint, for tests and demos.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fault::FaultRule;
use super::journal::LogPage;
use super::keyring::KeyChange;
use super::verdict::Verdict;

/// Why the control endpoint could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The fake could not be reached, or answered something unreadable.
    #[error("cannot reach the fake: {0}")]
    Transport(#[from] reqwest::Error),
    /// The fake refused.
    #[error("the fake refused with {status}: {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        reason: String,
    },
}

/// A client of one fake.
#[derive(Clone, Debug)]
pub struct ControlClient {
    control: String,
    http: reqwest::Client,
}

impl ControlClient {
    /// A client of the fake at `base_url`, such as `http://127.0.0.1:4000`.
    pub fn new(base_url: &str) -> Self {
        Self { control: format!("{}/control", base_url.trim_end_matches('/')), http: reqwest::Client::new() }
    }

    /// What the judge has to say so far.
    ///
    /// # Errors
    /// If the fake cannot be reached. So it is for every call here.
    pub async fn verdict(&self) -> Result<Verdict, ControlError> {
        self.fetch("verdict").await
    }

    /// The log entries numbered above `since`.
    ///
    /// # Errors
    /// If the fake cannot be reached.
    pub async fn log(&self, since: u64) -> Result<LogPage, ControlError> {
        self.fetch(&format!("log?since={since}")).await
    }

    /// The fault rules in force, with what is left of their counts.
    ///
    /// # Errors
    /// If the fake cannot be reached.
    pub async fn faults(&self) -> Result<Vec<FaultRule>, ControlError> {
        self.fetch("faults").await
    }

    /// Adds a fault rule after those in force.
    ///
    /// # Errors
    /// If the fake cannot be reached, or finds the rule senseless.
    pub async fn add_fault(&self, rule: &FaultRule) -> Result<(), ControlError> {
        self.post("faults", rule).await
    }

    /// Drops all fault rules.
    ///
    /// # Errors
    /// If the fake cannot be reached.
    pub async fn clear_faults(&self) -> Result<(), ControlError> {
        checked(self.http.delete(self.url("faults")).send().await?).await.map(drop)
    }

    /// Forgets every arrival, log entry and count; keys and fault rules stay.
    ///
    /// # Errors
    /// If the fake cannot be reached.
    pub async fn reset(&self) -> Result<(), ControlError> {
        self.post("reset", &()).await
    }

    /// Adds a key, moves it, or makes it stop or start working.
    ///
    /// # Errors
    /// If the fake cannot be reached, or the key is not known and has no project.
    pub async fn change_key(&self, change: &KeyChange) -> Result<(), ControlError> {
        self.post("keys", change).await
    }

    /// Whether the fake answers.
    pub async fn is_healthy(&self) -> bool {
        let answer = self.http.get(self.url("healthz")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.control)
    }

    async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        Ok(checked(self.http.get(self.url(path)).send().await?).await?.json().await?)
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Result<(), ControlError> {
        checked(self.http.post(self.url(path)).json(body).send().await?).await.map(drop)
    }
}

async fn checked(answer: reqwest::Response) -> Result<reqwest::Response, ControlError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status().as_u16();
    Err(ControlError::Refused { status, reason: answer.text().await.unwrap_or_default() })
}
