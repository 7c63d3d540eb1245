//! How long to wait before the next try.

use std::time::Duration;

/// Exponential backoff with full jitter: a fleet that failed together must not return together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The ceiling of the wait before retry number `retry` (0 is the first).
    pub(crate) fn ceiling(&self, retry: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(retry)).min(self.longest)
    }

    /// A random wait below the ceiling.
    pub(crate) fn wait(&self, retry: u32) -> Duration {
        self.ceiling(retry).mul_f64(rand::random::<f64>())
    }
}

/// A wait the broker named, made longer by up to a tenth (at most a second): never shorter, since
/// an earlier try is known to be refused.
pub(crate) fn spread(named: Duration) -> Duration {
    named + (named / 10).min(Duration::from_secs(1)).mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

    #[test]
    fn the_ceiling_doubles_up_to_the_longest() {
        let ceilings: Vec<_> = (0..7).map(|retry| BACKOFF.ceiling(retry).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(BACKOFF.ceiling(u32::MAX), BACKOFF.longest);
    }

    #[test]
    fn the_wait_stays_below_its_ceiling() {
        for retry in 0..200 {
            assert!(BACKOFF.wait(retry % 8) <= BACKOFF.ceiling(retry % 8));
        }
    }

    #[test]
    fn a_named_wait_is_never_shortened() {
        for _ in 0..200 {
            let wait = spread(Duration::from_secs(3));
            assert!(wait >= Duration::from_secs(3) && wait <= Duration::from_millis(3300));
        }
    }
}
