//! Calls that go on telling: how a pool stands, and what happens.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_stream::try_stream;
use keybroker_proto::v1::{self, InspectPoolResponse, WatchEventsRequest};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until},
};
use tonic::Status;

use super::{
    super::{check::Faults, convert::timestamp, pool_of, status},
    inspect,
};
use crate::{
    access::Caller,
    broker::Broker,
    events::{Event, EventKind, KEPT},
    ledger::FOREVER,
};

/// How many such calls there may be at a time.
const MOST: usize = 256;
/// How long one goes on: then its caller is authenticated anew.
const LASTS: Duration = Duration::from_secs(240);
/// How often it is looked how a pool stands, for all who watch it together.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is told at least, so that readers know the ledger's clock.
const TELL_EVERY: Duration = Duration::from_secs(15);

pub(super) type Stream<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>;

/// Those who watch.
pub(super) struct Watchers {
    places: Arc<Semaphore>,
    seen: Mutex<HashMap<String, Arc<Seen>>>,
}

/// How a pool stood when it was last looked at.
type Seen = tokio::sync::Mutex<Option<Look>>;

/// A look at a pool.
#[derive(Clone)]
struct Look {
    at: Instant,
    view: Arc<InspectPoolResponse>,
    /// Another one than before, if something changed.
    revision: u64,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST)), seen: Mutex::default() }
    }
}

impl Watchers {
    fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.places.clone().try_acquire_owned().map_err(|_| status::too_many_watchers())
    }

    fn seen(&self, pool: &str) -> Arc<Seen> {
        let mut seen = self.seen.lock().expect("no holder of this lock panics");
        // Pools come and go; what nobody looks at is forgotten.
        seen.retain(|name, seen| name == pool || Arc::strong_count(seen) > 1);
        seen.entry(pool.to_owned()).or_default().clone()
    }

    /// How a pool stands, again and again.
    pub(super) async fn pool(
        &self,
        broker: &Arc<Broker>,
        caller: Caller,
        pool: &str,
    ) -> Result<Stream<InspectPoolResponse>, Status> {
        let (place, broker, seen, pool) = (self.place()?, broker.clone(), self.seen(pool), pool.to_owned());
        let mut last = look(&broker, &caller, &pool, &seen).await?;
        Ok(Box::pin(try_stream! {
            let _place = place;
            let ends = Instant::now() + LASTS;
            let drained = broker.drained();
            tokio::pin!(drained);
            let mut told = Instant::now();
            yield (*last.view).clone();
            loop {
                let waited = tokio::select! {
                    () = &mut drained => Err(status::shutting_down()),
                    () = sleep(LOOK_EVERY) => Ok(()),
                };
                waited?;
                if Instant::now() >= ends {
                    return;
                }
                let now = look(&broker, &caller, &pool, &seen).await?;
                if told.elapsed() >= TELL_EVERY || now.revision != last.revision {
                    told = Instant::now();
                    yield (*now.view).clone();
                    last = now;
                }
            }
        }))
    }

    /// What happens.
    pub(super) fn events(
        &self,
        broker: &Arc<Broker>,
        caller: Caller,
        request: &WatchEventsRequest,
    ) -> Result<Stream<v1::Event>, Status> {
        let pools = caller.own_pools(broker.pool_names());
        let wanted = Wanted::read(request, caller)?;
        if !request.pool.is_empty() && !pools.contains(&request.pool) {
            return Err(status::unknown_pool(&request.pool, &pools));
        }
        let place = self.place()?;
        let (mut last, mut listener) = broker.events().subscribe_after_last();
        if request.after.is_empty() {
            last.retain(|event| wanted.has(event));
            last.drain(..last.len().saturating_sub(wanted.recent));
        } else {
            let known = last.iter().position(|event| event.id == request.after);
            last.drain(..known.map_or(0, |known| known + 1));
            last.retain(|event| wanted.has(event));
        }
        let drained = broker.drained();
        Ok(Box::pin(try_stream! {
            let _place = place;
            let ends = Instant::now() + LASTS;
            tokio::pin!(drained);
            for event in last {
                yield event_of(&event);
            }
            loop {
                let next = tokio::select! {
                    () = &mut drained => Err(status::shutting_down()),
                    () = sleep_until(ends) => Ok(None),
                    event = listener.next() => Ok(event),
                };
                let Some(event) = next? else { return };
                if wanted.has(&event) {
                    yield event_of(&event);
                }
            }
        }))
    }
}

/// How a pool stands: as it was seen a moment ago, or as it is found now.
async fn look(broker: &Broker, caller: &Caller, pool: &str, seen: &Seen) -> Result<Look, Status> {
    let mut seen = seen.lock().await;
    if let Some(last) = seen.as_ref().filter(|last| last.at.elapsed() < LOOK_EVERY / 2) {
        return Ok(last.clone());
    }
    let view = pool_of(broker, pool, caller)?.inspect().await.map_err(|error| status::of_ledger(&error))?;
    let view = Arc::new(inspect::pool(pool, view, broker.events()));
    // Compared here, once for all who watch.
    let revision =
        seen.as_ref().map_or(0, |last| last.revision + u64::from(!stands_alike(&last.view, &view)));
    let look = Look { at: Instant::now(), view, revision };
    *seen = Some(look.clone());
    Ok(look)
}

/// Whether nothing but the time is another.
fn stands_alike(one: &InspectPoolResponse, other: &InspectPoolResponse) -> bool {
    let without_time = |view: &InspectPoolResponse| {
        let mut view = view.clone();
        view.now = None;
        // What fits now is free now.
        view.limits.iter_mut().for_each(|limit| limit.next_free = None);
        view
    };
    without_time(one) == without_time(other)
}

/// Which events are asked for.
struct Wanted {
    pool: String,
    kinds: Vec<EventKind>,
    recent: usize,
    caller: Caller,
}

impl Wanted {
    fn read(request: &WatchEventsRequest, caller: Caller) -> Result<Self, Status> {
        let mut faults = Faults::default();
        let mut kinds = Vec::new();
        for (number, name) in request.kinds.iter().enumerate() {
            match EventKind::parse(name) {
                Some(kind) => kinds.push(kind),
                None => {
                    let known = EventKind::ALL.map(EventKind::as_str).join(", ");
                    faults.add(
                        format!("kinds[{number}]"),
                        format!("is no kind of event; write one of {known}"),
                    );
                }
            }
        }
        let recent = usize::try_from(request.recent).ok().filter(|recent| *recent <= KEPT);
        faults.check(recent.is_some(), "recent", format!("is out of range; write 0 to {KEPT}"));
        faults.into_result()?;
        Ok(Self { pool: request.pool.clone(), kinds, recent: recent.unwrap_or_default(), caller })
    }

    fn has(&self, event: &Event) -> bool {
        let pool = event.subject.pool.as_str();
        (self.pool.is_empty() || self.pool == pool)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && self.caller.may_use_pool(pool).is_ok()
    }
}

fn event_of(event: &Event) -> v1::Event {
    let subject = &event.subject;
    let numbers = &event.numbers;
    v1::Event {
        id: event.id.clone(),
        kind: event.kind.as_str().to_owned(),
        time: Some(timestamp(event.at)),
        pool: subject.pool.to_string(),
        message: event.message(),
        subject: subject.name.to_string(),
        reason: event.reason.to_string(),
        until: event.until.filter(|until| *until < FOREVER).map(timestamp),
        forever: event.until.is_some_and(|until| until >= FOREVER),
        key_id: subject.key_id.to_string(),
        project: subject.project.to_string(),
        billing_account: subject.billing_account.to_string(),
        quota_model: subject.quota_model.to_string(),
        consumer: subject.consumer.to_string(),
        labels: subject.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        limit_name: numbers.limit_name.clone(),
        limit: numbers.limit,
        used: numbers.used,
        keys_able: numbers.keys_able,
        keys: numbers.keys,
    }
}
