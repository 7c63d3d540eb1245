//! Waiting for a lease: one fair queue for each quota model and tier of a pool.
//!
//! A request asks the ledger by itself as long as nobody waits. Once somebody does, whoever comes next
//! joins the queue, and one task asks the ledger for those whose turn it is; see [`scheduler`] for whose
//! turn that is. So what waiting costs the ledger depends on what is granted and freed, and not on how
//! many wait. A request that may not wait joins as well, and is refused when its turn does not come at
//! once: it never takes what somebody waits for.

mod dispatch;
mod handed;
mod hold;
mod known;
mod lane;
mod need;
mod rate;
mod scheduler;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, RwLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use keybroker_proto::v1::Tier;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{AcquireError, Grant, Pool, Wish};
use crate::calls::{self, Call};
use handed::Handed;
pub(super) use hold::Obstacle;
pub(super) use known::Known;
pub(super) use need::Need;
use rate::Rate;
use scheduler::{Ended, Scheduler, Waiter};

/// The most that may wait in a pool.
pub const MOST_WAITERS: usize = 20_000;
/// How many of those that may wait ask the ledger by themselves at a time, while nobody waits.
pub(super) const MOST_DIRECT: usize = 64;
/// The shortest time after which a call that found the queue full is told to come again.
const SOONEST_RETRY: Duration = Duration::from_millis(100);

/// Numbers requests by their arrival.
type Ticket = u64;

/// The queues of a pool. They outlive its catalogue: who waits goes on waiting under the next one.
#[derive(Default)]
pub struct Queues {
    shared: Arc<Shared>,
    queues: RwLock<HashMap<String, [Arc<Queue>; 3]>>,
}

#[derive(Default)]
struct Shared {
    pool: RwLock<Weak<Pool>>,
    tickets: AtomicU64,
    waiters: AtomicUsize,
    // How often capacity came back early.
    freed: AtomicU64,
}

/// The waiters for one quota model and tier.
pub(super) struct Queue {
    shared: Arc<Shared>,
    line: Mutex<Line>,
    wake: Notify,
    // How many wait here, and how many of those that may wait ask by themselves.
    length: AtomicUsize,
    direct: AtomicUsize,
}

struct Line {
    scheduler: Scheduler<Seat>,
    rate: Rate,
    runs: bool,
}

/// A waiter's side of the queue.
struct Seat {
    wish: Arc<Wish>,
    arrived: Instant,
    // What it waits for is a part of it.
    call: Option<Arc<Call>>,
    gone: CancellationToken,
    answer: oneshot::Sender<Result<Handed, AcquireError>>,
}

/// A request that has arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    ticket: Ticket,
    at: Instant,
    freed: u64,
}

/// What a request was told when it asked by itself.
pub(super) struct Told<'a> {
    pub(super) known: Known,
    pub(super) obstacle: Obstacle,
    /// Nobody who arrived later is asked for until it has joined.
    pub(super) direct: Direct<'a>,
}

impl Arrival {
    /// When it arrived.
    pub(super) fn at(self) -> Instant {
        self.at
    }
}

impl Queues {
    /// The queue of a quota model and tier.
    pub(super) fn of(&self, quota_model: &str, tier: Tier) -> Arc<Queue> {
        let known = self.queues.read().expect("no holder of this lock panics");
        if let Some(queues) = known.get(quota_model) {
            return queues[tier as usize].clone();
        }
        drop(known);
        let mut queues = self.queues.write().expect("no holder of this lock panics");
        let new = || [(); 3].map(|()| Arc::new(Queue::new(self.shared.clone())));
        queues.entry(quota_model.to_owned()).or_insert_with(new)[tier as usize].clone()
    }

    /// From now on this pool asks the ledger for those who wait.
    pub(super) fn serve_by(&self, pool: &Arc<Pool>) {
        *self.shared.pool.write().expect("no holder of this lock panics") = Arc::downgrade(pool);
        let mut queues = self.queues.write().expect("no holder of this lock panics");
        queues.retain(|_, queues| queues.iter().any(|queue| queue.length.load(SeqCst) > 0));
        drop(queues);
        self.freed();
    }

    /// Something may have come back early: whoever is next is asked for at once.
    pub(super) fn freed(&self) {
        self.shared.freed.fetch_add(1, SeqCst);
        for queue in self.queues.read().expect("no holder of this lock panics").values().flatten() {
            queue.freed();
        }
    }

    /// The pool is no longer configured: nobody waits for it.
    pub fn close(&self) {
        *self.shared.pool.write().expect("no holder of this lock panics") = Weak::new();
        for queue in self.queues.read().expect("no holder of this lock panics").values().flatten() {
            queue.end_all(&AcquireError::PoolGone);
        }
    }
}

impl Queue {
    fn new(shared: Arc<Shared>) -> Self {
        let line = Line { scheduler: Scheduler::default(), rate: Rate::new(Instant::now()), runs: false };
        Self {
            shared,
            line: Mutex::new(line),
            wake: Notify::new(),
            length: AtomicUsize::new(0),
            direct: AtomicUsize::new(0),
        }
    }

    /// A request arrives.
    pub(super) fn arrive(&self) -> Arrival {
        Arrival {
            ticket: self.shared.tickets.fetch_add(1, SeqCst),
            at: Instant::now(),
            freed: self.shared.freed.load(SeqCst),
        }
    }

    /// Leave to ask the ledger by itself, which is given as long as nobody waits.
    pub(super) fn ask_directly(&self, may_wait: bool) -> Option<Direct<'_>> {
        if self.length.load(SeqCst) > 0 {
            return None;
        }
        let direct = Direct { queue: self, counted: may_wait, answered: false };
        let others = if may_wait { self.direct.fetch_add(1, SeqCst) } else { 0 };
        (others < MOST_DIRECT).then_some(direct)
    }

    /// Waits for a lease, for at most as long as the wish says.
    pub(super) async fn wait(
        self: &Arc<Self>,
        arrival: Arrival,
        wish: &Wish,
        need: Need,
        told: Option<Told<'_>>,
    ) -> Result<Grant, AcquireError> {
        let (answer, answered) = oneshot::channel();
        // Dropped with the call: then the ledger is not asked for it, or the lease is given back.
        let place = self.join(arrival, wish, need, told, answer)?;
        let waiting = calls::child("keybroker.wait", || []);
        let answer = answered.await;
        drop((place, waiting));
        answer.unwrap_or(Err(AcquireError::ShuttingDown)).map(Handed::take)
    }

    fn join(
        self: &Arc<Self>,
        arrival: Arrival,
        wish: &Wish,
        need: Need,
        told: Option<Told<'_>>,
        answer: oneshot::Sender<Result<Handed, AcquireError>>,
    ) -> Result<Joined, AcquireError> {
        let now = Instant::now();
        let deadline = arrival.at + wish.wait;
        let mut line = self.line();
        if let Some(known) = line.scheduler.refusal_of(&need, now)
            && (wish.wait.is_zero() || known.is_beyond(deadline))
        {
            let known = known.clone();
            return Err(line.told(known, &wish.consumer, now));
        }
        if self.shared.waiters.fetch_add(1, SeqCst) >= MOST_WAITERS {
            self.shared.waiters.fetch_sub(1, SeqCst);
            return Err(line.full(&wish.consumer, now));
        }
        let gone = CancellationToken::new();
        let ticket = arrival.ticket;
        let (told, direct) = told.map(|told| ((told.known, told.obstacle), told.direct)).unzip();
        line.scheduler.join(Waiter {
            ticket,
            consumer: wish.consumer.as_str().into(),
            need: Arc::new(need),
            deadline,
            told,
            load: Seat {
                wish: Arc::new(wish.clone()),
                arrived: arrival.at,
                call: calls::current(),
                gone: gone.clone(),
                answer,
            },
        });
        self.length.fetch_add(1, SeqCst);
        // What came back since it asked, and before it was seen to wait, is news to the queue.
        if self.shared.freed.load(SeqCst) != arrival.freed {
            line.scheduler.freed();
        }
        if !std::mem::replace(&mut line.runs, true) {
            tokio::spawn(dispatch::dispatch(self.clone()));
        }
        drop((line, direct));
        self.wake.notify_one();
        Ok(Joined { queue: self.clone(), ticket, _gone: gone.drop_guard() })
    }

    /// A refusal with what this queue adds to it.
    pub(super) fn refusal(&self, known: Known, consumer: &str) -> AcquireError {
        self.line().told(known, consumer, Instant::now())
    }

    /// Counts a grant, from which waits are estimated.
    pub(super) fn count_grant(&self, now: Instant) {
        self.line().rate.add(now);
    }

    fn freed(&self) {
        if self.length.load(SeqCst) > 0 {
            self.line().scheduler.freed();
            self.wake.notify_one();
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().expect("no holder of this lock panics")
    }

    fn ledger_side(&self) -> Option<Arc<Pool>> {
        self.shared.pool.read().expect("no holder of this lock panics").upgrade()
    }

    /// So many wait no longer.
    fn left(&self, count: usize) {
        self.length.fetch_sub(count, SeqCst);
        self.shared.waiters.fetch_sub(count, SeqCst);
    }

    fn leave(&self, ticket: Ticket) {
        let seat = self.line().scheduler.leave(ticket);
        if seat.is_some() {
            self.left(1);
            // It may have stood in somebody's way.
            self.wake.notify_one();
        }
    }

    fn refuse(&self, line: &mut Line, ended: Vec<Ended<Seat>>, now: Instant) {
        self.left(ended.len());
        for Ended { load: seat, known, ahead } in ended {
            let length = line.scheduler.len();
            let wait = line.rate.time_for(ahead, now);
            let error = match known {
                Some(known) => estimated(known.into_error(now), wait, length),
                None => AcquireError::Overloaded {
                    retry_after: wait.unwrap_or_default().max(SOONEST_RETRY),
                    queue_length: length,
                },
            };
            drop(seat.answer.send(Err(error)));
        }
    }

    fn end_all(&self, error: &AcquireError) {
        let seats = self.line().scheduler.clear();
        self.left(seats.len());
        for seat in seats {
            drop(seat.answer.send(Err(error.clone())));
        }
        self.wake.notify_one();
    }
}

impl Line {
    /// What a newcomer is told.
    fn told(&mut self, known: Known, consumer: &str, now: Instant) -> AcquireError {
        let wait = self.wait_of_newcomer(consumer, now);
        estimated(known.into_error(now), wait, self.scheduler.len())
    }

    fn full(&mut self, consumer: &str, now: Instant) -> AcquireError {
        let instant = self.scheduler.last_known().map(|known| known.at.saturating_duration_since(now));
        let wait = self.wait_of_newcomer(consumer, now).max(instant).unwrap_or_default();
        AcquireError::Overloaded { retry_after: wait.max(SOONEST_RETRY), queue_length: self.scheduler.len() }
    }

    fn wait_of_newcomer(&mut self, consumer: &str, now: Instant) -> Option<Duration> {
        self.rate.time_for(self.scheduler.ahead_of_newcomer(consumer), now)
    }
}

/// Adds the estimate: never less than the ledger's instant.
fn estimated(error: AcquireError, wait: Option<Duration>, length: usize) -> AcquireError {
    let AcquireError::Refused(mut refusal) = error else { return error };
    refusal.estimated_wait = refusal.retry_after.max(wait.unwrap_or_default());
    refusal.queue_length = length;
    AcquireError::Refused(refusal)
}

/// Leave to ask the ledger by itself.
pub(super) struct Direct<'a> {
    queue: &'a Queue,
    counted: bool,
    answered: bool,
}

impl Direct<'_> {
    /// The ledger has answered.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Direct<'_> {
    fn drop(&mut self) {
        if self.counted && self.queue.direct.fetch_sub(1, SeqCst) == 1 {
            self.queue.wake.notify_one();
        }
        // The caller is gone: what it was granted is given back, to whoever waits by now.
        if !self.answered {
            self.queue.freed();
        }
    }
}

/// A place in the queue, left when this is dropped.
struct Joined {
    queue: Arc<Queue>,
    ticket: Ticket,
    _gone: DropGuard,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.queue.leave(self.ticket);
    }
}
