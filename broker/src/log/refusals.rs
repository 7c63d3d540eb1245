//! Refusals in the log: they come by the thousand when a quota is spent, and the hundredth says no more than the first.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How many of a pool are logged a second for each reason.
static MOST: AtomicU32 = AtomicU32::new(super::DEFAULT_REFUSALS);

const SECOND: Duration = Duration::from_secs(1);

/// From now on so many are logged a second.
pub(super) fn set(most: u32) {
    MOST.store(most, Relaxed);
}

/// Chooses which refusals of a pool are logged.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Vec<(&'static str, OfReason)>>);

#[derive(Debug)]
struct OfReason {
    second: Instant,
    logged: u32,
    left_out: u64,
}

impl Refusals {
    /// Whether a refusal for this reason is logged, and then how many were not since the last one that was.
    pub(crate) fn choose(&self, reason: &'static str) -> Option<u64> {
        self.choose_of(reason, MOST.load(Relaxed), Instant::now())
    }

    fn choose_of(&self, reason: &'static str, most: u32, now: Instant) -> Option<u64> {
        if most == 0 {
            return None;
        }
        // There are about a dozen reasons.
        let mut reasons = self.0.lock().expect("no holder of this lock panics");
        let place = reasons.iter().position(|(known, _)| *known == reason).unwrap_or_else(|| {
            reasons.push((reason, OfReason { second: now, logged: 0, left_out: 0 }));
            reasons.len() - 1
        });
        let of_reason = &mut reasons[place].1;
        if now - of_reason.second >= SECOND {
            (of_reason.second, of_reason.logged) = (now, 0);
        }
        if of_reason.logged >= most {
            of_reason.left_out += 1;
            return None;
        }
        of_reason.logged += 1;
        Some(std::mem::take(&mut of_reason.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_logged_so_often_a_second_and_what_was_left_out_is_counted() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(refusals.choose_of("quota_exhausted", 2, at(0)), Some(0));
        assert_eq!(refusals.choose_of("quota_exhausted", 2, at(1)), Some(0));
        for millis in 2..900 {
            assert_eq!(refusals.choose_of("quota_exhausted", 2, at(millis)), None);
        }
        assert_eq!(refusals.choose_of("cooling_down", 2, at(900)), Some(0), "another reason");
        assert_eq!(refusals.choose_of("quota_exhausted", 2, at(1000)), Some(898));
        assert_eq!(refusals.choose_of("quota_exhausted", 2, at(1001)), Some(0));
        assert_eq!(refusals.choose_of("quota_exhausted", 0, at(9000)), None, "none are wanted");
    }
}
