//! The one line that must not be missed: a pool is almost exhausted for a model.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    events::instant,
    ledger::{FOREVER, Millis},
};

/// Who was well for so long is short anew.
const QUIET: Duration = Duration::from_secs(60);
/// A fleet shares out by such slots of the ledger's clock who tells, in milliseconds. Whoever watches a shortage
/// claims the next one too, which ends before a new shortage can begin.
pub(super) const SLOT_MILLIS: Millis = 30_000;
/// For how long a slot is claimed: until it is over, whenever it was claimed.
pub(super) const CLAIM: Duration = Duration::from_secs(60);

/// What the keys of a model are able to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shortage {
    /// How many can serve now, up to two.
    pub(super) able: usize,
    /// Of how many.
    pub(super) keys: usize,
    /// When the next one can.
    pub(super) earliest: Millis,
    /// The ledger's clock.
    pub(super) at: Millis,
}

impl Shortage {
    /// Whether it is one: none is left, or of several one.
    pub(super) fn is_one(self) -> bool {
        self.able == 0 || (self.able == 1 && self.keys > 1)
    }

    /// Says so.
    pub(super) fn tell(self, pool: &str, model: &str) {
        let Self { able, keys, earliest, .. } = self;
        let earliest = match earliest {
            FOREVER.. => "when somebody acts".to_owned(),
            earliest => instant(earliest),
        };
        tracing::error!(
            critical = true,
            pool,
            model,
            keys_able = able,
            keys,
            earliest_recovery = earliest,
            "almost exhausted: {able} of {keys} keys of pool {pool} can serve {model} now; the next one can: {earliest}"
        );
    }
}

/// Whether a model is short of keys, so that it is told once.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    on: bool,
    told_here: bool,
    // Since when it is well again.
    well: Option<Instant>,
}

/// What an observation changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A shortage begins.
    Begins,
    /// It goes on.
    Lasts,
    /// It is over.
    Ended {
        /// Whether this broker told of it.
        told_here: bool,
    },
    /// Nothing of the kind.
    Nothing,
}

impl Alarm {
    /// Takes in whether keys are short now.
    pub(super) fn observe(&mut self, short: bool, now: Instant) -> Step {
        match (self.on, short) {
            (false, false) => Step::Nothing,
            (false, true) => {
                *self = Self { on: true, ..Self::default() };
                Step::Begins
            }
            (true, true) => {
                self.well = None;
                Step::Lasts
            }
            // A pool whose minutes are spent swings every minute, and that is one shortage.
            (true, false) if now - *self.well.get_or_insert(now) < QUIET => Step::Nothing,
            (true, false) => Step::Ended { told_here: std::mem::take(self).told_here },
        }
    }

    /// Whether this broker told of it.
    pub(super) fn told(&mut self, here: bool) {
        self.told_here = here;
    }

    /// Whether a shortage lasts, or was over a moment ago.
    pub(super) fn is_on(&self) -> bool {
        self.on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_one_until_it_was_over_for_a_minute() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(alarm.observe(false, at(0)), Step::Nothing);
        assert_eq!(alarm.observe(true, at(1)), Step::Begins);
        alarm.told(true);
        for swing in 0..10 {
            assert_eq!(alarm.observe(true, at(10 + swing * 60)), Step::Lasts);
            assert_eq!(alarm.observe(false, at(20 + swing * 60)), Step::Nothing);
            assert_eq!(alarm.observe(false, at(69 + swing * 60)), Step::Nothing);
        }
        assert_eq!(alarm.observe(false, at(620)), Step::Ended { told_here: true });
        assert!(!alarm.is_on());
        assert_eq!(alarm.observe(true, at(630)), Step::Begins);
    }

    #[test]
    fn the_last_of_several_keys_is_a_shortage_and_the_only_one_is_none() {
        let of = |able, keys| Shortage { able, keys, earliest: 0, at: 0 }.is_one();
        assert_eq!([of(2, 5), of(1, 5), of(0, 5), of(1, 1), of(0, 1)], [false, true, true, false, true]);
    }
}
