//! Workers that ask again as soon as they were answered.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use keybroker_client::{Broker, Gemini};
use tokio::task::JoinSet;

use super::Error;

/// What became of their calls.
#[derive(Debug, Default)]
pub struct Calls {
    /// Answered by Gemini.
    pub answered: u64,
    /// Any other end, by what was told.
    pub failed: BTreeMap<String, u64>,
    /// How long those that were answered took.
    pub took: Vec<Duration>,
}

impl Calls {
    /// How long the quickest part of the calls took at most.
    pub fn within(&self, part: f64) -> Duration {
        let place = (self.took.len() as f64 * part) as usize;
        self.took.get(place.min(self.took.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Workers at work.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Calls>,
    brokers: Vec<Broker>,
}

impl Load {
    /// Starts so many; each of `addresses` is what one of their clients knows, with commas between brokers.
    pub(super) fn start(
        addresses: &[String],
        gemini: &str,
        model: &str,
        workers: usize,
    ) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let mut brokers = Vec::new();
        for (number, known) in addresses.iter().enumerate() {
            let broker = Broker::connect(known)?;
            let client = Gemini::builder(&broker)
                .base_url(gemini)
                .deadline(Duration::from_secs(60))
                .lease_wait(Duration::from_secs(60))
                .build()?;
            for _ in (number..workers).step_by(addresses.len().max(1)) {
                tasks.spawn(work(client.clone(), model.to_owned(), stop.clone()));
            }
            brokers.push(broker);
        }
        Ok(Self { stop, tasks, brokers })
    }

    /// Lets each worker finish its call.
    pub(super) async fn end(self) -> Result<Calls, Error> {
        self.stop.store(true, SeqCst);
        let mut all = Calls::default();
        for calls in self.tasks.join_all().await {
            all.answered += calls.answered;
            all.took.extend(calls.took);
            for (why, times) in calls.failed {
                *all.failed.entry(why).or_default() += times;
            }
        }
        all.took.sort_unstable();
        for broker in self.brokers {
            broker.close().await?;
        }
        Ok(all)
    }
}

async fn work(gemini: Gemini, model: String, stop: Arc<AtomicBool>) -> Calls {
    let mut calls = Calls::default();
    while !stop.load(SeqCst) {
        let asked = Instant::now();
        match gemini.ask(&model, "Who leases this key?").await {
            Ok(_) => {
                calls.answered += 1;
                calls.took.push(asked.elapsed());
            }
            Err(error) => *calls.failed.entry(error.to_string()).or_default() += 1,
        }
    }
    calls
}
