//! How long a newcomer would wait in front of the ledger, and whether that is too long.
//!
//! A burst is taken in: it is served within a tenth of a second. A queue that stands, because more comes in
//! than the ledger can answer, is kept short, so that those who are let in are answered about as quickly as
//! without it, and the rest learn at once that they should come again.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// How many operations go in one call, as far as its length allows.
pub(super) const LARGEST_BATCH: usize = 256;
/// How many operations go in one call however long they take; calls of so few tell what a call takes by itself.
const SMALLEST_BATCH: usize = 8;
/// How long the operations of a call may take, beside what a call takes by itself: others wait for its end.
const CALL_LENGTH: Duration = Duration::from_millis(25);
/// What an operation is held to take until it is known, in nanoseconds: the first calls are not the largest.
const EACH_AT_FIRST: u64 = 800_000;
/// How long one may wait for the ledger in a burst.
const BURST_WAIT: Duration = Duration::from_millis(100);
/// The same once the queue stands, where calls to the ledger are quick.
const STANDING_WAIT: Duration = Duration::from_millis(5);
/// The same in calls to the ledger, where these are slow.
const STANDING_CALLS: u32 = 2;
/// A queue stands when so long ago was the last time that a call took all there was.
const STANDS_AFTER: Duration = Duration::from_millis(100);

/// What is known of the queue in front of a pool's ledger. Times are microseconds since `began`.
#[derive(Debug)]
pub(super) struct Backlog {
    began: Instant,
    // How long calls take, a call by itself, and an operation in a call; as moving averages, the last in
    // nanoseconds.
    usual: AtomicU64,
    alone: AtomicU64,
    each: AtomicU64,
    caught_up: AtomicU64,
    called: AtomicU64,
}

impl Backlog {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            usual: AtomicU64::new(0),
            alone: AtomicU64::new(0),
            each: AtomicU64::new(EACH_AT_FIRST),
            caught_up: AtomicU64::new(0),
            called: AtomicU64::new(0),
        }
    }

    /// Whether one who comes now, behind so many others, would wait for too long.
    pub(super) fn is_too_long(&self, queued: usize, now: Instant) -> bool {
        let batch = self.largest_batch();
        if queued < batch {
            // The next call takes it along.
            return false;
        }
        let usual = Duration::from_micros(self.usual.load(Relaxed));
        let elapsed = Duration::from_micros(self.micros(now).saturating_sub(self.called.load(Relaxed)));
        let calls = u32::try_from(queued / batch).unwrap_or(u32::MAX);
        usual.saturating_sub(elapsed) + usual.saturating_mul(calls) > self.longest_wait(now)
    }

    /// How many operations go in one call at most.
    pub(super) fn largest_batch(&self) -> usize {
        let length = u64::try_from(CALL_LENGTH.as_nanos()).unwrap_or(u64::MAX);
        let fit = length / self.each.load(Relaxed).max(1);
        usize::try_from(fit).unwrap_or(LARGEST_BATCH).clamp(SMALLEST_BATCH, LARGEST_BATCH)
    }

    /// How long one may wait now.
    pub(super) fn longest_wait(&self, now: Instant) -> Duration {
        let usual = Duration::from_micros(self.usual.load(Relaxed));
        let shortest = if self.stands(now) { STANDING_WAIT } else { BURST_WAIT };
        shortest.max(usual * STANDING_CALLS)
    }

    /// Whether more comes in than is answered, and not for a moment only.
    pub(super) fn stands(&self, now: Instant) -> bool {
        self.micros(now).saturating_sub(self.caught_up.load(Relaxed)) > micros(STANDS_AFTER)
    }

    /// All that queued goes in one call.
    pub(super) fn caught_up(&self, now: Instant) {
        self.caught_up.store(self.micros(now), Relaxed);
    }

    /// A call begins.
    pub(super) fn called(&self, now: Instant) {
        self.called.store(self.micros(now), Relaxed);
    }

    /// A call of so many operations that began then has ended.
    pub(super) fn answered(&self, operations: usize, since: Instant, now: Instant) {
        let took = micros(now - since);
        average(&self.usual, took);
        if operations <= SMALLEST_BATCH {
            // The first one counts in full: until then all of a call's time seems to be its operations'.
            let known = self.alone.load(Relaxed) > 0;
            if known { average(&self.alone, took) } else { self.alone.store(took, Relaxed) }
        }
        let beside = took.saturating_sub(self.alone.load(Relaxed)).saturating_mul(1000);
        average(&self.each, beside / u64::try_from(operations.max(1)).unwrap_or(u64::MAX));
    }

    /// A call of so many operations that began then gave no answer: perhaps they were too many.
    pub(super) fn failed(&self, operations: usize, since: Instant, now: Instant) {
        if operations > SMALLEST_BATCH {
            let took = micros(now - since).saturating_mul(1000);
            average(&self.each, took / u64::try_from(operations).unwrap_or(u64::MAX));
        }
    }

    fn micros(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.began))
    }
}

/// Only the committer writes.
fn average(of: &AtomicU64, newest: u64) {
    let before = of.load(Relaxed);
    of.store(before - before / 8 + newest / 8, Relaxed);
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
