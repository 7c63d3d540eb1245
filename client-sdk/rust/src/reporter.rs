//! Delivers reports: in batches, in the background, again while the broker is away.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use keybroker_proto::v1::{LeaseReport, lease_report};
use tokio::{
    select,
    sync::{Notify, mpsc, oneshot},
    time::{sleep, timeout},
};

use crate::{advice::Advice, backoff::Backoff, error::Error, rpc::Rpc, wire};

/// The most reports of one call, by the contract.
const BATCH: usize = 256;
/// A call closes at this many bytes of error bodies, well below the 4 MiB a gRPC server takes.
const BATCH_BYTES: usize = 1024 * 1024;
/// Calls under way at once; a report that finds them all busy joins the next batch.
const CALLS: usize = 8;
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

/// The queue's upper bound is what the channel can count.
pub(crate) const LARGEST_QUEUE: usize = 1 << 24;

/// How reports are queued and for how long they are tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReporterSettings {
    pub(crate) queue: usize,
    pub(crate) patience: Duration,
}

impl Default for ReporterSettings {
    fn default() -> Self {
        Self { queue: 10_000, patience: Duration::from_secs(60) }
    }
}

/// The handle of the reporter task; the task ends when all handles are gone and all is delivered.
pub(crate) struct Reporter {
    sender: mpsc::Sender<Item>,
    tally: Arc<Tally>,
    patience: Duration,
}

/// Receives the answer to one report.
pub(crate) type Answer = oneshot::Receiver<Result<Advice, Error>>;

struct Item {
    report: LeaseReport,
    answer: oneshot::Sender<Result<Advice, Error>>,
    give_up_at: Instant,
    ticket: Ticket,
}

#[derive(Default)]
struct Tally {
    outstanding: AtomicUsize,
    lost: AtomicU64,
    idle: Notify,
}

/// Counts one report as outstanding for as long as it exists, wherever it ends.
struct Ticket {
    tally: Arc<Tally>,
    delivered: bool,
}

impl Ticket {
    fn new(tally: &Arc<Tally>) -> Self {
        tally.outstanding.fetch_add(1, Ordering::AcqRel);
        Self { tally: Arc::clone(tally), delivered: false }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.delivered {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
        }
        if self.tally.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.tally.idle.notify_waiters();
        }
    }
}

impl Reporter {
    /// Starts the task on the current runtime.
    pub(crate) fn spawn(rpc: Arc<Rpc>, settings: ReporterSettings) -> Self {
        let (sender, receiver) = mpsc::channel(settings.queue);
        tokio::spawn(run(receiver, rpc));
        Self { sender, tally: Arc::default(), patience: settings.patience }
    }

    /// Queues a report at once; needs no runtime, never waits and never panics.
    pub(crate) fn submit(&self, report: LeaseReport) -> Answer {
        let (answer, receiver) = oneshot::channel();
        let give_up_at = wire::instant_after(Instant::now(), self.patience);
        let item = Item { report, answer, give_up_at, ticket: Ticket::new(&self.tally) };
        if let Err(error) = self.sender.try_send(item) {
            let why = match error {
                mpsc::error::TrySendError::Full(_) => "the report queue is full",
                mpsc::error::TrySendError::Closed(_) => "the runtime of the client has stopped",
            };
            let item = error.into_inner();
            tracing::warn!(lease_id = %item.report.lease_id, why, "a report was given up");
            item.fail(Error::ReportLost { message: why.to_owned() });
        }
        receiver
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.tally.outstanding.load(Ordering::Acquire)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.tally.lost.load(Ordering::Relaxed)
    }

    /// Waits until nothing is outstanding.
    pub(crate) async fn flush(&self, within: Duration) -> Result<(), Error> {
        let idle = async {
            loop {
                // Enabled before the count is read, or the last delivery could pass unseen between.
                let mut notified = pin!(self.tally.idle.notified());
                notified.as_mut().enable();
                if self.outstanding() == 0 {
                    return;
                }
                notified.await;
            }
        };
        timeout(within, idle).await.map_err(|_| Error::Undelivered { reports: self.outstanding(), within })
    }
}

impl Item {
    fn succeed(mut self, advice: Advice) {
        self.ticket.delivered = true;
        // Nobody listens to the answer of a background report.
        drop(self.answer.send(Ok(advice)));
    }

    fn fail(self, error: Error) {
        drop(self.answer.send(Err(error)));
    }

    fn body_bytes(&self) -> usize {
        match &self.report.outcome {
            Some(lease_report::Outcome::HttpError(error)) => error.body.len(),
            _ => 0,
        }
    }
}

async fn run(mut queue: mpsc::Receiver<Item>, rpc: Arc<Rpc>) {
    let mut calls = FuturesUnordered::new();
    loop {
        select! {
            first = queue.recv(), if calls.len() < CALLS => match first {
                Some(first) => calls.push(deliver(&rpc, gather(first, &mut queue))),
                None => break,
            },
            Some(()) = calls.next(), if !calls.is_empty() => {}
        }
    }
    while calls.next().await.is_some() {}
}

/// Takes what is queued already; it waits for nothing, so an idle client adds no latency.
fn gather(first: Item, queue: &mut mpsc::Receiver<Item>) -> Vec<Item> {
    let mut bytes = first.body_bytes();
    let mut batch = vec![first];
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let Ok(item) = queue.try_recv() else { break };
        bytes += item.body_bytes();
        batch.push(item);
    }
    batch
}

/// Delivers a batch. Report is idempotent, so a lost answer is simply asked for again.
async fn deliver(rpc: &Rpc, mut batch: Vec<Item>) {
    let mut retry = 0;
    while !batch.is_empty() {
        let reports: Vec<_> = batch.iter().map(|item| item.report.clone()).collect();
        let error = match rpc.report(reports).await {
            Ok(response) if response.results.len() == batch.len() => {
                for (item, result) in batch.drain(..).zip(response.results) {
                    item.succeed(Advice::from_proto(result));
                }
                return;
            }
            Ok(_) => Error::Contract { message: "Report answered another number of results".to_owned() },
            Err(error) => error,
        };
        if !error.is_retryable() {
            return give_up_or_split(rpc, batch, error).await;
        }
        let wait = error.retry_after().unwrap_or_else(|| BACKOFF.wait(retry)).min(BACKOFF.longest);
        retry += 1;
        batch = keep_patient(batch, wire::instant_after(Instant::now(), wait), &error);
        if !batch.is_empty() {
            sleep(wait).await;
        }
    }
}

/// One bad report must not take the others of its batch with it: each is sent alone.
async fn give_up_or_split(rpc: &Rpc, mut batch: Vec<Item>, error: Error) {
    if batch.len() > 1 {
        for item in batch {
            Box::pin(deliver(rpc, vec![item])).await;
        }
    } else if let Some(item) = batch.pop() {
        tracing::warn!(lease_id = %item.report.lease_id, %error, "a report was given up");
        item.fail(error);
    }
}

fn keep_patient(batch: Vec<Item>, next_try: Instant, error: &Error) -> Vec<Item> {
    let (keep, expired): (Vec<_>, Vec<_>) = batch.into_iter().partition(|item| item.give_up_at > next_try);
    for item in expired {
        tracing::warn!(lease_id = %item.report.lease_id, %error, "a report was given up");
        item.fail(Error::ReportLost { message: error.to_string() });
    }
    keep
}
