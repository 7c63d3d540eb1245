//! The worker: a process whose tasks ask Gemini questions with leased keys, through the Rust SDK alone.
//!
//! It begins when it reads a line, takes a second line for the last call (nothing new is asked), and ends
//! when its standard input closes. The demo's own end closes it too, however that came, so no worker ever
//! outlives the demo.

use std::{
    error::Error,
    io::{BufRead, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::Parser;
use keybroker_client::{Broker, Gemini, GeminiError};
use rand::RngExt;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::tally::Tally;

/// How long an impatient task waits for a lease.
const IMPATIENT: Duration = Duration::from_secs(3);
/// How long a patient one does: longer than any minute window.
const PATIENT: Duration = Duration::from_secs(120);
/// The SDK takes a lease that comes within a second after its caller gave up, and gives it back.
const SETTLING: Duration = Duration::from_millis(1_100);
/// How often the tally is told.
const TELLING: Duration = Duration::from_millis(250);

/// A worker of the demo: asks Gemini questions with keys leased from a broker, until its input closes
#[derive(Clone, Debug, Parser)]
#[command(name = "worker")]
pub struct Worker {
    /// The broker, such as http://127.0.0.1:50051
    #[arg(long)]
    pub broker: String,
    /// Where the Gemini API is
    #[arg(long)]
    pub gemini: String,
    /// The model to ask
    #[arg(long, default_value = "gemini-2.5-flash")]
    pub model: String,
    /// How many tasks ask at the same time
    #[arg(long, default_value_t = 8)]
    pub tasks: u64,
    /// How often each task has a request to send, in microseconds
    #[arg(long, default_value_t = 1_000_000)]
    pub pace_micros: u64,
}

/// How far the demo has come, as the worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Waiting,
    Asking,
    LastCall,
    Over,
}

type Shared = Arc<Mutex<Tally>>;

impl Worker {
    /// Asks until standard input closes.
    ///
    /// # Errors
    /// If a client cannot be made, or reports could not be delivered.
    pub async fn run(self) -> Result<(), Box<dyn Error>> {
        let mut phase = follow_input();
        reached(&mut phase, Phase::Asking).await;
        let broker = Broker::connect(&self.broker)?;
        let impatient =
            Gemini::builder(&broker).base_url(&self.gemini).lease_wait(IMPATIENT).max_wait(Duration::ZERO);
        let patient = Gemini::builder(&broker).base_url(&self.gemini).lease_wait(PATIENT);
        let clients = [patient.build()?, impatient.build()?];
        let tally = Shared::default();
        let tasks: Vec<_> = (0..self.tasks)
            .map(|number| {
                let gemini = clients[(number % 2) as usize].clone();
                let (tally, phase) = (Arc::clone(&tally), phase.clone());
                tokio::spawn(self.clone().ask(gemini, tally, phase))
            })
            .collect();
        let telling = tokio::spawn(tell_regularly(Arc::clone(&tally)));
        for task in tasks {
            task.await?;
        }
        telling.abort();
        sleep(SETTLING).await;
        let closed = broker.close().await;
        tell(&tally)?;
        Ok(closed?)
    }

    /// One task: a question whenever one is due.
    async fn ask(self, gemini: Gemini, tally: Shared, mut phase: watch::Receiver<Phase>) {
        let pace = Duration::from_micros(self.pace_micros);
        let mut due = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(due) => {}
                () = reached(&mut phase, Phase::LastCall) => return,
            }
            count(&tally, |tally| tally.asked += 1);
            let question = question();
            let answer = tokio::select! {
                answer = gemini.ask(&self.model, &question) => answer,
                () = reached(&mut phase, Phase::Over) => return count(&tally, |tally| tally.cut += 1),
            };
            count(&tally, |tally| match answer {
                Ok(_) => tally.answered += 1,
                Err(GeminiError::Broker(keybroker_client::Error::Refused(_))) => tally.refused += 1,
                Err(error) => {
                    tally.failed += 1;
                    tally.failure = Some(error.to_string());
                }
            });
            // Tasks that began together drift apart. What was due while the task waited is not made up for.
            due = (due + pace.mul_f64(rand::rng().random_range(0.1..1.9))).max(Instant::now());
        }
    }
}

async fn reached(phase: &mut watch::Receiver<Phase>, at_least: Phase) {
    // It fails only if the thread that follows the input is gone, and with it the input.
    let _ = phase.wait_for(|phase| *phase >= at_least).await;
}

/// Questions of different sizes, so that tokens differ too.
fn question() -> String {
    let facts = rand::rng().random_range(4..40);
    format!("Answer in one sentence. {}", "Rivers run to the sea. ".repeat(facts))
}

fn count(tally: &Shared, change: impl FnOnce(&mut Tally)) {
    change(&mut tally.lock().unwrap_or_else(PoisonError::into_inner));
}

async fn tell_regularly(tally: Shared) {
    // Nobody listens any more if it fails; then the input closes as well, and that ends the worker.
    while tell(&tally).is_ok() {
        sleep(TELLING).await;
    }
}

fn tell(tally: &Shared) -> Result<(), Box<dyn Error>> {
    let line = serde_json::to_string(&*tally.lock().unwrap_or_else(PoisonError::into_inner))?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

/// Follows standard input on a thread of its own, which may block for as long as it likes.
fn follow_input() -> watch::Receiver<Phase> {
    let (sender, receiver) = watch::channel(Phase::Waiting);
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lock().lines().map_while(Result::ok);
        for phase in [Phase::Asking, Phase::LastCall] {
            if lines.next().is_none() {
                break;
            }
            sender.send_replace(phase);
        }
        while lines.next().is_some() {}
        sender.send_replace(Phase::Over);
    });
    receiver
}
