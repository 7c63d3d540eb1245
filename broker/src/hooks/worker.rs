//! A hook at work: its queue, and the task that takes events from it.

use std::{sync::Arc, time::Duration};

use reqwest::Client;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

use super::{
    counts::{Counts, count},
    delivery::deliver,
    turn::claim_name,
};
use crate::{
    catalogue::Hook,
    claims::FleetTurns,
    events::{Event, Redactor},
};

/// How many events may wait for a hook.
pub(super) const LONGEST_QUEUE: usize = 256;
/// An event that waited for longer than this is no news any more.
const STALE: Duration = Duration::from_secs(300);

/// What all workers share.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) client: Client,
    pub(super) turns: FleetTurns,
}

/// A hook with its queue. When it is dropped, what is queued is still told.
pub(super) struct Worker {
    pub(super) hook: Arc<Hook>,
    queue: mpsc::Sender<Queued>,
    counts: Arc<Counts>,
}

struct Queued {
    event: Arc<Event>,
    since: Instant,
}

impl Worker {
    /// A worker, and the future that does its work until it is dropped and its queue is empty.
    pub(super) fn new(
        hook: Hook,
        tools: Tools,
        redactor: Redactor,
        counts: Arc<Counts>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let hook = Arc::new(hook);
        let (queue, queued) = mpsc::channel(LONGEST_QUEUE);
        let work = work(hook.clone(), queued, tools, redactor, counts.clone());
        (Self { hook, queue, counts }, work)
    }

    /// Queues an event. It neither waits nor fails: what finds the queue full is dropped and counted.
    pub(super) fn tell(&self, event: &Arc<Event>) {
        let queued = Queued { event: event.clone(), since: Instant::now() };
        if let Err(TrySendError::Full(queued)) = self.queue.try_send(queued) {
            count(&self.counts.dropped);
            tracing::warn!(hook = self.hook.name, event = queued.event.id, "the queue of a hook is full");
        }
    }
}

async fn work(
    hook: Arc<Hook>,
    mut queue: mpsc::Receiver<Queued>,
    tools: Tools,
    redactor: Redactor,
    counts: Arc<Counts>,
) {
    let name = hook.name.as_str();
    while let Some(Queued { event, since }) = queue.recv().await {
        if since.elapsed() > STALE {
            count(&counts.dropped);
            tracing::warn!(hook = name, event = event.id, "an event waited too long for a hook");
        } else if !tools.turns.take(&claim_name(&hook, &event), hook.cooldown).await {
            count(&counts.held_back);
        } else if let Err(why) = deliver(&tools.client, &hook, &event, &redactor).await {
            // The cooldown stays: an attempt without an answer may have done its work, and a receiver
            // that is down would be called by the whole fleet at every event.
            count(&counts.failed);
            tracing::warn!(hook = name, event = event.id, why, "a hook was not told");
        } else {
            count(&counts.delivered);
            tracing::info!(hook = name, event = event.id, kind = %event.kind, "a hook was told");
        }
    }
}
