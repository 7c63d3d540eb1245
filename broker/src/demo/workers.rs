//! The workers: they ask Gemini questions with leased keys, through the Rust SDK alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use keybroker_client::{Broker, Error, Gemini, GeminiError};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use super::{DemoArgs, Fault, args::TASKS, stage::Stage};

/// How long an impatient task waits for a lease, and how long a patient one does.
const WAITS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];
/// Who asks, as the usage of consumers shows it.
const CONSUMERS: [&str; 3] = ["chat", "search", "reports"];
const MODEL: &str = "gemini-2.5-flash";
/// How long tasks that wait for an answer may take after the last call.
const FINISH: Duration = Duration::from_millis(1_200);
/// The SDK takes a lease that comes within a second after its caller gave up, and gives it back.
const SETTLING: Duration = Duration::from_millis(1_100);

/// What became of all questions.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) answered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
}

pub(super) struct Workers {
    pub(super) tally: Arc<Tally>,
    brokers: Vec<Broker>,
    tasks: JoinSet<()>,
    last_call: watch::Sender<bool>,
}

impl Workers {
    /// Starts them, in turns on the brokers.
    pub(super) fn start(args: &DemoArgs, stage: &Stage) -> Result<Self, Fault> {
        let (last_call, called) = watch::channel(false);
        let mut workers =
            Self { tally: Arc::default(), brokers: Vec::new(), tasks: JoinSet::new(), last_call };
        let addresses = stage.brokers.iter().cycle().take(usize::try_from(args.workers)?);
        for (address, consumer) in addresses.zip(CONSUMERS.iter().cycle()) {
            let broker = Broker::connect(format!("http://{}", address.grpc))?;
            for task in 0..TASKS {
                let wait = WAITS[usize::from(task % 2 == 1)];
                let gemini = Gemini::builder(&broker)
                    .base_url(&stage.gemini.base_url)
                    .consumer(*consumer)
                    .lease_wait(wait)
                    .max_wait(Duration::ZERO)
                    .build()?;
                let (tally, called, pace) = (workers.tally.clone(), called.clone(), args.pace());
                workers.tasks.spawn(ask(gemini, tally, called, pace));
            }
            workers.brokers.push(broker);
        }
        Ok(workers)
    }

    /// Lets them finish what is under way, and ends what is still waiting.
    pub(super) async fn finish(&mut self, stage: &Stage, ends: Option<Instant>) {
        self.last_call.send_replace(true);
        // A lease that is handed out to somebody who leaves at that moment would stay open.
        stage.drain();
        let at_most = ends.map_or(FINISH, |ends| ends.saturating_duration_since(Instant::now()));
        let _ = timeout(at_most, async { while self.tasks.join_next().await.is_some() {} }).await;
        self.tasks.shutdown().await;
        sleep(SETTLING).await;
        for broker in &self.brokers {
            // What could not be reported shows as a lease that is left open.
            let _ = broker.close().await;
        }
    }
}

/// One task: a question whenever one is due, until the last call.
async fn ask(gemini: Gemini, tally: Arc<Tally>, mut called: watch::Receiver<bool>, pace: Duration) {
    let mut due = Instant::now() + pace.mul_f64(rand::random_range(0.0..1.0));
    loop {
        tokio::select! {
            () = sleep_until(due.into()) => {}
            _ = called.wait_for(|called| *called) => return,
        }
        let question = format!(
            "Answer in one sentence. {}",
            "Rivers run to the sea. ".repeat(rand::random_range(4..40))
        );
        let count = match gemini.ask(MODEL, &question).await {
            Ok(_) => &tally.answered,
            // No key had room, at once or after what was played had struck the first.
            Err(GeminiError::Broker(Error::Refused(_)) | GeminiError::Upstream(_)) => &tally.refused,
            // It waited for a lease when the demo ended.
            Err(_) if *called.borrow() => return,
            Err(_) => &tally.failed,
        };
        count.fetch_add(1, Relaxed);
        // Tasks that began together drift apart. What was due while the task waited is not made up for.
        due = (due + pace.mul_f64(rand::random_range(0.1..1.9))).max(Instant::now());
    }
}
