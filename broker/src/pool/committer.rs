//! Group commit: while one call to the ledger is under way, what comes in queues; when it returns,
//! all of it goes in the next call. No timer, no delay when idle.
//!
//! What queues is bounded by number and by age. Acquires are turned away first: on arrival when they
//! would wait for too long, and when their turn comes if they did. Reports are turned away only when there
//! is no room at all, since one that is lost costs capacity until its lease expires.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use opentelemetry::{KeyValue, Value};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::backlog::{Backlog, LARGEST_BATCH};
use crate::ledger::{
    Acquire, AcquireState, Acquired, Batch, CommonSpec, Edit, Ledger, LedgerError, Millis, Renew, Renewed,
    Reply, Settle, Settled,
    batch::place_of,
    calendar::{Calendar, wall_clock},
};
use crate::{
    calls::{self, Operation, Recorded},
    metrics::Metrics,
};

/// The most operations that may queue.
const LONGEST_QUEUE: usize = 20_000;
/// The most operations among which an acquire may still queue; the rest of the room is for reports.
const LONGEST_FOR_ACQUIRES: usize = LONGEST_QUEUE / 2;
/// How long a calendar is used before it is made anew.
const CALENDAR_LIFE: Duration = Duration::from_secs(60);

/// Why an operation got no answer.
#[derive(Debug, Clone)]
pub(super) enum CommitError {
    /// The ledger failed.
    Ledger(LedgerError),
    /// Too many operations queue already; this one was not tried.
    Overloaded,
    /// The caller's deadline passed before its turn came; it was not tried.
    DeadlinePassed,
    /// The broker is ending.
    Ended,
}

/// Where an operation's answer goes.
struct Answer<T> {
    to: oneshot::Sender<Result<(T, Millis), CommitError>>,
    // If the call that waits for it is recorded.
    operation: Option<Arc<Operation>>,
}

impl<T> Answer<T> {
    /// Nobody waits for it.
    fn to_nobody() -> Self {
        Self { to: oneshot::channel().0, operation: None }
    }

    fn is_closed(&self) -> bool {
        self.to.is_closed()
    }

    /// Answers; whether anybody still waited.
    fn send(self, answer: Result<(T, Millis), CommitError>) -> bool {
        self.to.send(answer).is_ok()
    }
}

enum Job {
    Settle(Arc<str>, Settle, Answer<Settled>),
    Renew(Arc<str>, Renew, Answer<Renewed>),
    Acquire(Box<Ask>),
    Edit(Edit, Answer<bool>),
}

struct Ask {
    shard: Arc<str>,
    op: Acquire,
    commons: Vec<Arc<CommonSpec>>,
    since: Instant,
    deadline: Option<Instant>,
    answer: Answer<Acquired>,
}

/// The queue in front of a pool's ledger. Operations name their shard; the index in them is set here.
#[derive(Clone)]
pub(super) struct Committer {
    queue: mpsc::Sender<Job>,
    backlog: Arc<Backlog>,
    sheds: bool,
}

impl Committer {
    /// Starts the task that makes the calls.
    pub(super) fn start(
        ledger: Arc<dyn Ledger>,
        pool: String,
        ledger_id: String,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self::start_with(ledger, pool, ledger_id, metrics, true)
    }

    fn start_with(
        ledger: Arc<dyn Ledger>,
        pool: String,
        ledger_id: String,
        metrics: Arc<Metrics>,
        sheds: bool,
    ) -> Self {
        let (queue, jobs) = mpsc::channel(LONGEST_QUEUE);
        let backlog = Arc::new(Backlog::new(Instant::now()));
        let inbox = Inbox { jobs, backlog: backlog.clone(), sheds };
        tokio::spawn(run(ledger, pool, ledger_id, metrics, inbox));
        Self { queue, backlog, sheds }
    }

    /// Asks for a lease, which is charged to these accounts as well; with the answer comes the ledger's clock.
    /// After the deadline nothing is granted.
    ///
    /// # Errors
    /// If the ledger gave no answer; the lease may then have been granted.
    pub(super) async fn acquire(
        &self,
        shard: Arc<str>,
        op: Acquire,
        commons: Vec<Arc<CommonSpec>>,
        deadline: Option<Instant>,
    ) -> Result<(Acquired, Millis), CommitError> {
        let since = Instant::now();
        let queued = self.queue.max_capacity() - self.queue.capacity();
        if self.sheds && (queued >= LONGEST_FOR_ACQUIRES || self.backlog.is_too_long(queued, since)) {
            return Err(CommitError::Overloaded);
        }
        let operation = Operation::begin("acquire", &op.lease);
        let ask = |answer| Job::Acquire(Box::new(Ask { shard, op, commons, since, deadline, answer }));
        self.ask(operation, ask).await
    }

    /// Settles a lease.
    ///
    /// # Errors
    /// If the ledger gave no answer; settling again is safe.
    pub(super) async fn settle(&self, shard: Arc<str>, op: Settle) -> Result<(Settled, Millis), CommitError> {
        let operation = Operation::begin("settle", &op.lease);
        self.ask(operation, |answer| Job::Settle(shard, op, answer)).await
    }

    /// Extends a lease.
    ///
    /// # Errors
    /// If the ledger gave no answer; renewing again is safe.
    pub(super) async fn renew(&self, shard: Arc<str>, op: Renew) -> Result<(Renewed, Millis), CommitError> {
        let operation = Operation::begin("renew", &op.lease);
        self.ask(operation, |answer| Job::Renew(shard, op, answer)).await
    }

    /// Changes the standing of an account; whether it did.
    ///
    /// # Errors
    /// If the ledger gave no answer; doing it again is safe.
    pub(super) async fn edit(&self, edit: Edit) -> Result<(bool, Millis), CommitError> {
        self.ask(Operation::begin("edit", ""), |answer| Job::Edit(edit, answer)).await
    }

    /// Gives all of a lease back, without waiting for the ledger.
    pub(super) fn give_back(&self, shard: Arc<str>, lease: &str) {
        if self.queue.try_send(not_sent(shard, lease)).is_err() {
            tracing::warn!("a lease whose caller is gone stays charged until it expires");
        }
    }

    async fn ask<T>(
        &self,
        operation: Option<(Recorded, Arc<Operation>)>,
        job: impl FnOnce(Answer<T>) -> Job,
    ) -> Result<(T, Millis), CommitError> {
        let (to, answered) = oneshot::channel();
        let (span, operation) = operation.unzip();
        self.queue.try_send(job(Answer { to, operation: operation.clone() })).map_err(
            |error| match error {
                mpsc::error::TrySendError::Full(_) => CommitError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => CommitError::Ended,
            },
        )?;
        let answer = answered.await;
        if let Some((span, operation)) = span.zip(operation) {
            operation.end(span);
        }
        answer.map_err(|_| CommitError::Ended)?
    }
}

#[derive(Default)]
struct Answers {
    settles: Vec<Answer<Settled>>,
    renews: Vec<Answer<Renewed>>,
    acquires: Vec<(Answer<Acquired>, Option<Instant>)>,
    edits: Vec<Answer<bool>>,
}

impl Answers {
    fn len(&self) -> usize {
        self.settles.len() + self.renews.len() + self.acquires.len() + self.edits.len()
    }

    /// Those of the operations that are recorded.
    fn operations(&self) -> Vec<&Arc<Operation>> {
        let settles = self.settles.iter().map(|answer| &answer.operation);
        let renews = self.renews.iter().map(|answer| &answer.operation);
        let acquires = self.acquires.iter().map(|(answer, _)| &answer.operation);
        let edits = self.edits.iter().map(|answer| &answer.operation);
        settles.chain(renews).chain(acquires).chain(edits).flatten().collect()
    }
}

async fn run(
    ledger: Arc<dyn Ledger>,
    pool: String,
    ledger_id: String,
    metrics: Arc<Metrics>,
    mut inbox: Inbox,
) {
    let name: Arc<str> = pool.as_str().into();
    let mut calendar = CachedCalendar::new();
    let mut waiting = Vec::with_capacity(LARGEST_BATCH);
    // Leases of calls without an answer: they may be charged, and never left the broker.
    let mut unclear = Vec::new();
    // What those are told who waited too long: if the ledger failed meanwhile, that is why.
    let mut late = CommitError::Overloaded;
    while inbox.fill(&mut waiting, &late).await {
        let (mut batch, mut answers) = gather(&ledger_id, calendar.current(), waiting.drain(..));
        let (since, operations) = (Instant::now(), answers.len());
        inbox.backlog.called(since);
        let span = calls::Batch::begin(&answers.operations(), || {
            let number = |name, count: usize| KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX));
            vec![
                KeyValue::new("keybroker.pool", Value::from(name.clone())),
                number("keybroker.ledger.batch.size", operations),
                number("keybroker.ledger.batch.acquires", batch.acquires.len()),
            ]
        });
        let of_span = || span.as_ref().map(calls::Batch::call);
        let mut outcome = calls::within(of_span(), ledger.execute(&pool, &batch)).await;
        if let Err(error @ LedgerError::Holding { .. }) = &outcome
            && (1..operations).contains(&batch.acquires.len())
        {
            // What holds leases back need not hold reports back; to report again is safe.
            fail_acquires(&CommitError::Ledger(error.clone()), answers.acquires.drain(..));
            batch.acquires.clear();
            outcome = calls::within(of_span(), ledger.execute(&pool, &batch)).await;
        }
        if let Some(span) = span {
            span.end(outcome_name(&outcome));
        }
        metrics.ledger_called(&name, operations, since.elapsed(), outcome_name(&outcome));
        match outcome {
            Ok(reply) => {
                inbox.backlog.answered(operations, since, Instant::now());
                late = CommitError::Overloaded;
                waiting.extend(deliver(reply, answers, &batch));
                waiting.append(&mut unclear);
            }
            Err(error) => {
                inbox.backlog.failed(operations, since, Instant::now());
                // That it holds back is told once, by what watches over it.
                if !matches!(error, LedgerError::Holding { .. }) {
                    tracing::warn!(pool, %error, "the ledger gave no answer");
                }
                if matches!(error, LedgerError::Unavailable(_)) {
                    unclear.extend(batch.acquires.iter().map(|op| not_sent(shard_of(&batch, op), &op.lease)));
                    unclear.truncate(LARGEST_BATCH);
                }
                late = CommitError::Ledger(error);
                fail(&late, answers);
            }
        }
    }
}

/// What came of a call, as metrics have it.
fn outcome_name(outcome: &Result<Reply, LedgerError>) -> &'static str {
    outcome.as_ref().map_or_else(LedgerError::name, |_| "ok")
}

/// The end of the queue from which calls to the ledger are filled.
struct Inbox {
    jobs: mpsc::Receiver<Job>,
    backlog: Arc<Backlog>,
    sheds: bool,
}

impl Inbox {
    /// Fills the next call; whether there is one to make. Acquires whose time is over make room for others.
    async fn fill(&mut self, waiting: &mut Vec<Job>, late: &CommitError) -> bool {
        loop {
            let most = self.backlog.largest_batch();
            if waiting.is_empty() && self.jobs.recv_many(waiting, most).await == 0 {
                return false;
            }
            self.top_up(waiting, late);
            if !waiting.is_empty() {
                return true;
            }
        }
    }

    fn top_up(&mut self, waiting: &mut Vec<Job>, late: &CommitError) {
        let now = Instant::now();
        loop {
            self.drop_ended(waiting, late, now);
            let room = self.backlog.largest_batch().saturating_sub(waiting.len());
            if room == 0 || self.jobs.is_empty() {
                break;
            }
            for _ in 0..room {
                let Ok(job) = self.jobs.try_recv() else { break };
                waiting.push(job);
            }
        }
        if self.jobs.is_empty() {
            self.backlog.caught_up(now);
        }
    }

    fn drop_ended(&self, waiting: &mut Vec<Job>, late: &CommitError, now: Instant) {
        // As long as all of them fit into the call, nobody has to make room.
        let crowded = self.sheds && !self.jobs.is_empty() && self.backlog.stands(now);
        let longest = self.backlog.longest_wait(now);
        let ended = |job: &mut Job| {
            let Job::Acquire(ask) = job else { return None };
            if ask.answer.is_closed() {
                // Whoever gave up meanwhile is not granted anything.
                Some(CommitError::Ended)
            } else if ask.deadline.is_some_and(|deadline| deadline <= now) {
                Some(CommitError::DeadlinePassed)
            } else {
                (crowded && now - ask.since > longest).then(|| late.clone())
            }
        };
        waiting.retain_mut(|job| {
            let Some(why) = ended(job) else { return true };
            if let Job::Acquire(ask) = job {
                let answer = std::mem::replace(&mut ask.answer, Answer::to_nobody());
                answer.send(Err(why));
            }
            false
        });
    }
}

fn gather(ledger_id: &str, calendar: &Calendar, jobs: impl Iterator<Item = Job>) -> (Batch, Answers) {
    let mut batch = Batch::empty(ledger_id, 0, calendar);
    let mut answers = Answers::default();
    let mut commons = Vec::new();
    for job in jobs {
        match job {
            Job::Settle(shard, op, answer) => {
                let shard = shard_index(&mut batch, &shard);
                batch.settles.push(Settle { shard, ..op });
                answers.settles.push(answer);
            }
            Job::Renew(shard, op, answer) => {
                let shard = shard_index(&mut batch, &shard);
                batch.renews.push(Renew { shard, ..op });
                answers.renews.push(answer);
            }
            Job::Edit(edit, answer) => {
                batch.edits.push(edit);
                answers.edits.push(answer);
            }
            Job::Acquire(ask) => {
                let Ask { shard, op, commons: brought, deadline, answer, .. } = *ask;
                let shard = shard_index(&mut batch, &shard);
                let same = |known: &Arc<CommonSpec>, common: &Arc<CommonSpec>| {
                    Arc::ptr_eq(known, common) || known == common
                };
                let common = brought.iter().map(|common| place_of(&mut commons, common, same)).collect();
                batch.acquires.push(Acquire { shard, common, ..op });
                answers.acquires.push((answer, deadline));
            }
        }
    }
    batch.commons = commons.into_iter().map(Arc::unwrap_or_clone).collect();
    (batch, answers)
}

fn shard_index(batch: &mut Batch, shard: &str) -> usize {
    place_of(&mut batch.shards, shard, |known, shard| known == shard)
}

/// Hands the answers out. A lease whose caller is gone by now, or listens no longer, never left the broker:
/// it is given back.
fn deliver(reply: Reply, answers: Answers, batch: &Batch) -> Vec<Job> {
    let now = reply.now;
    for (result, answer) in reply.settles.into_iter().zip(answers.settles) {
        answer.send(Ok((result, now)));
    }
    for (result, answer) in reply.renews.into_iter().zip(answers.renews) {
        answer.send(Ok((result, now)));
    }
    for (result, answer) in reply.edits.into_iter().zip(answers.edits) {
        answer.send(Ok((result, now)));
    }
    let mut given_back = Vec::new();
    let arrived = Instant::now();
    let acquires = reply.acquires.into_iter().zip(answers.acquires).zip(&batch.acquires);
    for ((result, (answer, deadline)), op) in acquires {
        let granted = result.0 == AcquireState::Granted;
        let late = deadline.is_some_and(|deadline| deadline <= arrived);
        let answered = answer.send(if late { Err(CommitError::DeadlinePassed) } else { Ok((result, now)) });
        if granted && (late || !answered) {
            given_back.push(not_sent(shard_of(batch, op), &op.lease));
        }
    }
    given_back
}

/// Gives all of a lease back that never left the broker.
fn not_sent(shard: Arc<str>, lease: &str) -> Job {
    Job::Settle(shard, Settle::not_sent(lease), Answer::to_nobody())
}

fn shard_of(batch: &Batch, op: &Acquire) -> Arc<str> {
    batch.shards[op.shard].as_str().into()
}

fn fail(error: &CommitError, answers: Answers) {
    answers.settles.into_iter().for_each(|answer| _ = answer.send(Err(error.clone())));
    answers.renews.into_iter().for_each(|answer| _ = answer.send(Err(error.clone())));
    fail_acquires(error, answers.acquires.into_iter());
    answers.edits.into_iter().for_each(|answer| _ = answer.send(Err(error.clone())));
}

fn fail_acquires(error: &CommitError, acquires: impl Iterator<Item = (Answer<Acquired>, Option<Instant>)>) {
    acquires.for_each(|(answer, _)| _ = answer.send(Err(error.clone())));
}

struct CachedCalendar {
    calendar: Calendar,
    made: tokio::time::Instant,
}

impl CachedCalendar {
    fn new() -> Self {
        Self { calendar: Calendar::around(wall_clock()), made: tokio::time::Instant::now() }
    }

    fn current(&mut self) -> &Calendar {
        if self.made.elapsed() > CALENDAR_LIFE {
            *self = Self::new();
        }
        &self.calendar
    }
}
