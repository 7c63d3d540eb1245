//! How fast a queue's leases were granted lately.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

/// For how long a grant counts: the window in which most quotas refill.
const LATELY: u64 = 60;

/// Grants of the last minute, by the second.
#[derive(Debug)]
pub(super) struct Rate {
    origin: Instant,
    seconds: VecDeque<(u64, u64)>,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { origin: now, seconds: VecDeque::new() }
    }

    /// Counts a grant.
    pub(super) fn add(&mut self, now: Instant) {
        let second = self.forget(now);
        match self.seconds.back_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => self.seconds.push_back((second, 1)),
        }
    }

    /// How long so many grants take at the rate of late; none if there were none of late.
    pub(super) fn time_for(&mut self, grants: usize, now: Instant) -> Option<Duration> {
        let second = self.forget(now);
        let (first, _) = self.seconds.front()?;
        let count: u64 = self.seconds.iter().map(|(_, count)| count).sum();
        let per_grant = Duration::from_secs(second - first + 1).as_secs_f64() / count as f64;
        Duration::try_from_secs_f64(per_grant * grants as f64).ok()
    }

    fn forget(&mut self, now: Instant) -> u64 {
        let second = now.saturating_duration_since(self.origin).as_secs();
        while self.seconds.front().is_some_and(|(first, _)| first + LATELY <= second) {
            self.seconds.pop_front();
        }
        second
    }
}
