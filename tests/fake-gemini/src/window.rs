//! The sum over a trailing minute, kept exactly, and the worst such sum ever seen.

use std::collections::VecDeque;
use std::time::Duration;

/// The length of the trailing window. It is open on the left: an arrival exactly this old is outside.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// Arrivals of the last minute with their amounts.
///
/// The sum over a trailing window can only be highest at an instant where something arrives, because
/// between arrivals it only falls. So looking at each arrival is looking at every window, and an arrival
/// may be dropped as soon as it has left the window: it is folded into `worst` already.
#[derive(Debug, Default)]
pub(crate) struct TrailingSum {
    entries: VecDeque<(Duration, u64)>,
    sum: u64,
    worst: u64,
}

impl TrailingSum {
    /// The sum of amounts in `(now - 60 s, now]`. Instants must not go back from one call to the next.
    pub(crate) fn sum(&mut self, now: Duration) -> u64 {
        while let Some(&(at, amount)) = self.entries.front()
            && at + WINDOW <= now
        {
            self.entries.pop_front();
            self.sum -= amount;
        }
        self.sum
    }

    /// Counts an arrival of `amount` at `now`.
    pub(crate) fn add(&mut self, now: Duration, amount: u64) {
        let sum = self.sum(now);
        self.entries.push_back((now, amount));
        self.sum = sum.saturating_add(amount);
        self.worst = self.worst.max(self.sum);
    }

    /// How long after `now` an arrival of `amount` first fits under `limit` if nothing else arrives;
    /// `None` if it never does, being larger than the limit itself.
    pub(crate) fn wait(&mut self, now: Duration, limit: u64, amount: u64) -> Option<Duration> {
        if amount > limit {
            return None;
        }
        let room = limit - amount;
        let mut left = self.sum(now);
        if left <= room {
            return Some(Duration::ZERO);
        }
        for &(at, past) in &self.entries {
            left -= past;
            if left <= room {
                return Some(at + WINDOW - now);
            }
        }
        None
    }

    /// The highest sum any trailing window has held.
    pub(crate) fn worst(&self) -> u64 {
        self.worst
    }
}
