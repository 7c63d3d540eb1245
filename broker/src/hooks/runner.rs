//! All hooks of a broker.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    HookCounts,
    counts::Counts,
    post,
    worker::{Tools, Worker},
};
use crate::{
    catalogue::Hook,
    claims::FleetTurns,
    events::{Event, Events, Redactor, Subscriber},
};

/// Why hooks cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("hooks cannot be run: {0}")]
pub struct CannotStart(#[from] reqwest::Error);

/// The hooks at work. Dropping it stops them at once; [`Hooks::close`] lets them finish.
pub struct Hooks {
    shared: Arc<Shared>,
    closing: watch::Sender<bool>,
}

struct Shared {
    tools: Tools,
    workers: RwLock<Vec<Worker>>,
    redactor: Mutex<Redactor>,
    counts: Mutex<BTreeMap<String, Arc<Counts>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Hooks {
    /// Listens to the events, with no hook yet.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn start(events: &Events, turns: FleetTurns) -> Result<Self, CannotStart> {
        let shared = Arc::new(Shared {
            tools: Tools { client: post::client()?, turns },
            workers: RwLock::default(),
            redactor: Mutex::default(),
            counts: Mutex::default(),
            tasks: Mutex::default(),
        });
        let closing = watch::Sender::new(false);
        let dispatch = dispatch(Arc::downgrade(&shared), events.subscribe(), closing.subscribe());
        shared.spawn(dispatch);
        Ok(Self { shared, closing })
    }

    /// Puts these hooks in place of the old ones. A hook that did not change goes on as it is; one that
    /// did, or is gone, still tells what it had queued, in its old form. The redactor should know every key
    /// of the broker: it is for what programs write.
    pub fn replace(&self, hooks: &[Hook], redactor: Redactor) {
        let shared = &self.shared;
        let same_keys = {
            let mut known = shared.redactor.lock().expect("no holder of this lock panics");
            let same = known.knows_what(&redactor);
            *known = redactor.clone();
            same
        };
        let mut workers = shared.workers.write().expect("no holder of this lock panics");
        let mut old = std::mem::take(&mut *workers);
        for hook in hooks {
            let kept = old.iter().position(|worker| same_keys && *worker.hook == *hook);
            workers.push(match kept {
                Some(at) => old.swap_remove(at),
                None => shared.employ(hook.clone(), redactor.clone()),
            });
        }
    }

    /// What became of each hook's events, by its name, also of hooks that are gone.
    pub fn counts(&self) -> BTreeMap<String, HookCounts> {
        let counts = self.shared.counts.lock().expect("no holder of this lock panics");
        counts.iter().map(|(name, counts)| (name.clone(), counts.view())).collect()
    }

    /// Takes no new events and finishes what is queued, for at most `grace`.
    pub async fn close(&self, grace: Duration) {
        self.closing.send_replace(true);
        let mut tasks =
            std::mem::take(&mut *self.shared.tasks.lock().expect("no holder of this lock panics"));
        let finished = timeout(grace, async { while tasks.join_next().await.is_some() {} }).await;
        if finished.is_err() {
            tracing::warn!("the grace ended before all hooks were told");
        }
    }
}

impl Shared {
    fn employ(&self, hook: Hook, redactor: Redactor) -> Worker {
        let counts = {
            let mut counts = self.counts.lock().expect("no holder of this lock panics");
            counts.entry(hook.name.clone()).or_default().clone()
        };
        let (worker, work) = Worker::new(hook, self.tools.clone(), redactor, counts);
        self.spawn(work);
        worker
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().expect("no holder of this lock panics");
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn tell(&self, event: &Arc<Event>) {
        let text = |text: &crate::events::Redacted| text.as_str().to_owned();
        let labels = event.subject.labels.iter().map(|(name, value)| (text(name), text(value))).collect();
        let workers = self.workers.read().expect("no holder of this lock panics");
        let concerned = workers
            .iter()
            .filter(|worker| worker.hook.is_for(event.kind, event.subject.pool.as_str(), &labels));
        concerned.for_each(|worker| worker.tell(event));
    }
}

/// Hands events to the hooks they are for, until it is told to close; what was emitted before that is
/// still handed on, and then the workers are let go.
async fn dispatch(
    shared: std::sync::Weak<Shared>,
    mut events: Subscriber,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            // The sender is dropped together with the hooks.
            _ = closing.wait_for(|closing| *closing) => None,
        };
        let Some(shared) = shared.upgrade() else { return };
        match event {
            Some(event) => shared.tell(&event),
            None => return shared.workers.write().expect("no holder of this lock panics").clear(),
        }
    }
}
