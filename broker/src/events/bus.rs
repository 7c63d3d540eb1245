//! The way of events within a broker.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::broadcast::{self, error::RecvError};

use super::Event;

/// How many events a slow listener may be behind before it misses the oldest.
const CAPACITY: usize = 1024;
/// How many of the last events are kept for those who come later.
pub const KEPT: usize = 256;

/// A bounded bus. Whoever emits never waits: a listener that is too slow loses the oldest events, which
/// are counted.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    counts: Arc<Counts>,
    last: Arc<Mutex<VecDeque<Arc<Event>>>>,
}

#[derive(Debug, Default)]
struct Counts {
    emitted: AtomicU64,
    missed: AtomicU64,
}

/// One who listens, from the time of subscription on.
#[derive(Debug)]
pub struct Subscriber {
    receiver: broadcast::Receiver<Arc<Event>>,
    counts: Arc<Counts>,
}

impl Events {
    /// A bus on which nobody listens yet.
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> Self {
        Self { sender: broadcast::Sender::new(capacity), counts: Arc::default(), last: Arc::default() }
    }

    /// Tells everybody who listens. It neither waits nor fails.
    pub fn emit(&self, event: Event) {
        let (kind, pool) = (event.kind.as_str(), event.subject.pool.as_str());
        if event.kind.is_trouble() {
            tracing::warn!(kind, pool, id = event.id, "event: {}", event.message());
        } else {
            tracing::info!(kind, pool, id = event.id, "event: {}", event.message());
        }
        self.counts.emitted.fetch_add(1, Relaxed);
        let event = Arc::new(event);
        let mut last = self.last.lock().expect("no holder of this lock panics");
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(event.clone());
        // Nobody may be listening. Sent under the lock, so that nobody who subscribes gets it twice or not at all.
        let _ = self.sender.send(event);
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> Subscriber {
        Subscriber { receiver: self.sender.subscribe(), counts: self.counts.clone() }
    }

    /// The last events, the oldest first.
    pub fn last(&self) -> Vec<Arc<Event>> {
        self.last.lock().expect("no holder of this lock panics").iter().cloned().collect()
    }

    /// The last events, the oldest first, and whoever listens to those that follow them.
    pub fn subscribe_after_last(&self) -> (Vec<Arc<Event>>, Subscriber) {
        let last = self.last.lock().expect("no holder of this lock panics");
        (last.iter().cloned().collect(), self.subscribe())
    }

    /// How many events were emitted.
    pub fn emitted(&self) -> u64 {
        self.counts.emitted.load(Relaxed)
    }

    /// How many events slow listeners missed, each counted for each of them.
    pub fn missed(&self) -> u64 {
        self.counts.missed.load(Relaxed)
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Subscriber {
    /// The next event; none once the bus is gone.
    ///
    /// Nothing is lost if the future is dropped before it is done.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => {
                    self.counts.missed.fetch_add(missed, Relaxed);
                    tracing::warn!(missed, "events came faster than they were taken; the oldest are lost");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventKind, Subject};

    fn event(at: i64) -> Event {
        Event::new(EventKind::KeyDisabled, at, Subject::default())
    }

    #[tokio::test]
    async fn every_listener_gets_every_event_in_order() {
        let events = Events::new();
        let mut listeners = [events.subscribe(), events.subscribe()];
        events.emit(event(1));
        events.emit(event(2));
        for listener in &mut listeners {
            assert_eq!(listener.next().await.unwrap().at, 1);
            assert_eq!(listener.next().await.unwrap().at, 2);
        }
    }

    #[tokio::test]
    async fn a_slow_listener_misses_the_oldest_and_they_are_counted() {
        let events = Events::with_capacity(4);
        let mut listener = events.subscribe();
        (1..=10).for_each(|at| events.emit(event(at)));
        assert_eq!(listener.next().await.unwrap().at, 7);
        assert_eq!((events.emitted(), events.missed()), (10, 6));
    }

    #[tokio::test]
    async fn who_comes_later_gets_the_last_events_and_then_the_next() {
        let events = Events::new();
        (1..=KEPT as i64 + 2).for_each(|at| events.emit(event(at)));
        let (last, mut listener) = events.subscribe_after_last();
        events.emit(event(1000));
        let at: Vec<i64> = last.iter().map(|event| event.at).collect();
        assert_eq!(at, (3..=KEPT as i64 + 2).collect::<Vec<_>>());
        assert_eq!(listener.next().await.unwrap().at, 1000);
    }

    #[tokio::test]
    async fn emitting_to_nobody_is_no_fault_and_the_end_of_the_bus_is_seen() {
        let events = Events::new();
        events.emit(event(1));
        let mut listener = events.subscribe();
        drop(events);
        assert!(listener.next().await.is_none());
    }
}
