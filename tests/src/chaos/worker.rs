//! A worker process: tasks that lease with the SDK, call the fake Gemini, report, and say on standard output
//! what happened, one JSON object a line.

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use keybroker_client::{AcquireOptions, Broker, Error, ExposeSecret, Lease, Outcome, TransportKind, Usage};
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::quota::{POOLS, SEND_WITHIN};

/// What every model of the workers is an alias of.
pub const MODEL: &str = "chaos-flash";
/// The input tokens of every request.
pub const INPUT_TOKENS: i64 = 10;
/// How long a request waits in the broker.
const WAIT: Duration = Duration::from_millis(250);
/// How long a call to a broker may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long after the last order a report is still tried.
const REPORT_PATIENCE: Duration = Duration::from_secs(20);
/// How much of the time for sending must be left. A request may be held up after it was sent, and on a busy
/// machine it is: that is the machine's doing, not the broker's.
const LEAST_LEFT: Duration = SEND_WITHIN.saturating_sub(Duration::from_millis(200));

/// Leases, sends and reports until SIGTERM.
#[derive(Debug, Clone, Parser)]
pub struct Args {
    /// The brokers; tasks take turns
    #[arg(long, required = true)]
    broker: Vec<String>,
    /// The base URL of the fake Gemini
    #[arg(long)]
    gemini: String,
    /// The model to ask for
    #[arg(long)]
    model: String,
    /// How many tasks ask
    #[arg(long, default_value_t = 12)]
    tasks: usize,
}

/// What a worker says of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When, in microseconds since 1970.
    pub at: i64,
    /// The lease; empty if there is none.
    #[serde(default)]
    pub lease: String,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happens to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A lease was granted.
    Granted {
        /// Its key.
        key: String,
        /// The pool that was asked.
        pool: usize,
        /// The broker that was asked.
        broker: usize,
    },
    /// A report was acknowledged.
    Acknowledged {
        /// Whether a request was sent and answered well.
        ok: bool,
        /// What the report did.
        state: i32,
        /// What the broker read in it.
        signal: i32,
    },
    /// A report was not acknowledged; it may have arrived.
    Unanswered {
        /// Why.
        why: String,
    },
    /// A broker did not do what it was asked, for another reason than a limit.
    Failed {
        /// The broker that was asked.
        broker: usize,
        /// Why.
        why: String,
    },
}

struct Worker {
    args: Args,
    brokers: Vec<Broker>,
    http: reqwest::Client,
}

impl Args {
    /// Works until SIGTERM, then reports what is still to be reported.
    ///
    /// # Errors
    /// If an address is none, or the program cannot be signalled.
    pub async fn run(self) -> Result<(), Box<dyn std::error::Error>> {
        let settings = Broker::builder()
            .connect_timeout(Duration::from_secs(1))
            .call_timeout(CALL_TIMEOUT)
            .flush_timeout(REPORT_PATIENCE)
            .report_patience(REPORT_PATIENCE);
        let connect = |address: &String| settings.clone().connect(address);
        let brokers = self.broker.iter().map(connect).collect::<Result<Vec<_>, _>>()?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
        let mut stop = signal(SignalKind::terminate())?;
        let (tasks, worker) = (self.tasks, Arc::new(Worker { args: self, brokers, http }));
        let stopped = CancellationToken::new();
        let mut working = JoinSet::new();
        for task in 0..tasks {
            let (worker, stopped) = (worker.clone(), stopped.clone());
            working.spawn(async move {
                let mut turn = task;
                while !stopped.is_cancelled() {
                    worker.ask(turn).await;
                    turn += 1;
                }
            });
        }
        stop.recv().await;
        stopped.cancel();
        working.join_all().await;
        for broker in &worker.brokers {
            // What cannot be delivered stays unanswered.
            let _ = broker.flush().await;
        }
        Ok(())
    }
}

impl Worker {
    async fn ask(self: &Arc<Self>, turn: usize) {
        let (broker, pool) = (turn % self.brokers.len(), turn / self.brokers.len() % POOLS.len());
        let options =
            AcquireOptions::new(&self.args.model).pool(POOLS[pool]).input_tokens(INPUT_TOKENS).wait(WAIT);
        match self.brokers[broker].acquire(options).await {
            Ok(lease) => {
                let key = lease.key_id().to_owned();
                say(lease.lease_id(), What::Granted { key, pool, broker });
                self.send(lease).await;
            }
            Err(Error::Refused(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => {
                say("", What::Failed { broker, why: error.to_string() });
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn send(self: &Arc<Self>, mut lease: Lease) {
        let id = lease.lease_id().to_owned();
        if lease.send_within() < LEAST_LEFT {
            return self.report(id, lease, Outcome::NotSent);
        }
        let key = match lease.begin_send() {
            Ok(key) => key.expose_secret().to_owned(),
            Err(_) => return self.report(id, lease, Outcome::NotSent),
        };
        let url = format!("{}/v1beta/models/{}:generateContent", self.args.gemini, self.args.model);
        let body = serde_json::json!({"contents": [{"parts": [{"text": "hi"}]}]});
        let outcome = match self.http.post(url).header("x-goog-api-key", key).json(&body).send().await {
            Ok(answer) if answer.status().is_success() => {
                Outcome::Success(Usage { input_tokens: Some(INPUT_TOKENS), ..Usage::default() })
            }
            Ok(answer) => {
                let status = answer.status().as_u16();
                let body = answer.bytes().await.unwrap_or_default();
                Outcome::HttpError { status, body, retry_after: None }
            }
            Err(_) => Outcome::transport(TransportKind::Reset),
        };
        self.report(id, lease, outcome);
    }

    /// Reports beside the next question, so that a broker that is away does not stop the task.
    fn report(&self, id: String, lease: Lease, outcome: Outcome) {
        let ok = matches!(outcome, Outcome::Success(_));
        let answer = lease.report(outcome);
        tokio::spawn(async move {
            say(
                &id,
                match answer.await {
                    Ok(advice) => {
                        What::Acknowledged { ok, state: advice.settled.into(), signal: advice.signal.into() }
                    }
                    Err(error) => What::Unanswered { why: error.to_string() },
                },
            );
        });
    }
}

fn say(lease: &str, what: What) {
    let said = Said { at: now(), lease: lease.to_owned(), what };
    if let Ok(line) = serde_json::to_string(&said) {
        // Nobody listens any more once the harness is gone.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

/// Now, in microseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
