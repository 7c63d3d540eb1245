//! Whether a ledger's clock goes as it should: no window is safe under one that jumps ahead.

use std::time::{Duration, Instant};

use super::{Batch, LedgerError, Millis, calendar::Calendar, windows::Windows};

/// By how much the clock of a ledger may go back and be waited for, in milliseconds; a clock that is set back by more
/// is followed: what was counted then lasts longer.
pub const CLOCK_STANDS: i64 = 10_000;

/// How far a clock may be found ahead of where it ought to be, in milliseconds.
pub const TOLERANCE: i64 = 20;
/// By which part of the time gone by a clock may run fast: a thousandth.
const DRIFT: i64 = 1_000;
/// What is added to the time within which a request is sent, in milliseconds, so that a clock that is off by
/// [`TOLERANCE`] and the drift of a minute still exceeds no minute.
pub const CLOCK_MARGIN: i64 = 100;

/// Watches the clock of a pool's ledger. When it jumps ahead, leases are held back until all that was counted has
/// truly ended.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    /// How long that takes.
    pub(super) windows: Windows,
    steadiness: Steadiness,
    jumped: Option<Jump>,
}

/// A jump ahead, or several while leases were held back.
#[derive(Debug, Clone, Copy)]
struct Jump {
    // By how many milliseconds, and what the clock showed then.
    by: i64,
    now: Millis,
    at: Instant,
}

impl ClockWatch {
    /// Takes in that the clock showed `now` at some time between `asked` and `answered`.
    pub(super) fn observe(&mut self, pool: &str, now: Millis, asked: Instant, answered: Instant) {
        let Some(by) = self.steadiness.observe(now, asked, answered) else { return };
        let before = self.jumped.filter(|jump| self.until(jump) > answered).map_or(0, |jump| jump.by);
        self.jumped = Some(Jump { by: by + before, now, at: answered });
        tracing::error!(
            pool,
            milliseconds = by,
            "the ledger's clock jumped ahead: nothing is leased until all that was counted has truly ended"
        );
    }

    /// An error if a batch asks for leases while they are held back. Reports are taken all the time.
    pub(super) fn admit(&self, batch: &Batch) -> Result<(), LedgerError> {
        let Some((by, left)) = self.held_back().filter(|_| !batch.acquires.is_empty()) else { return Ok(()) };
        let why = format!("the ledger's clock jumped ahead by {by} ms; leases go on in {}", told(left));
        Err(LedgerError::Holding { why, retry_after: left })
    }

    /// By how many milliseconds the clock jumped, and for how long leases are held back for it, if they are.
    pub(super) fn held_back(&self) -> Option<(i64, Duration)> {
        let jump = self.jumped?;
        let left = self.until(&jump).saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some((jump.by, left))
    }

    /// When all that was counted before a jump has truly ended, in windows that may have become known since.
    fn until(&self, jump: &Jump) -> Instant {
        let before = jump.now - jump.by;
        let ends = self.windows.calendar_ends(before, &Calendar::around(before));
        // A day or a month that only the jump ended goes on.
        let calendar = ends.into_iter().filter(|end| *end <= jump.now).map(|end| end - before).max();
        let longest = self.windows.trailing().max(calendar.unwrap_or(0)) + CLOCK_MARGIN;
        jump.at + Duration::from_millis(longest.max(0).unsigned_abs())
    }
}

/// A time for people, in whole seconds.
pub(super) fn told(duration: Duration) -> String {
    let seconds = i64::try_from(duration.as_secs_f64().ceil() as u64).unwrap_or(i64::MAX);
    format!("{:#}", jiff::SignedDuration::from_secs(seconds))
}

/// Watches a clock by this process's own, which is never set.
#[derive(Debug)]
struct Steadiness {
    base: Instant,
    // The least by which the clock was ahead of this process's own, in microseconds, and when that was found.
    ahead: Option<(i64, Instant)>,
}

impl Default for Steadiness {
    fn default() -> Self {
        Self { base: Instant::now(), ahead: None }
    }
}

impl Steadiness {
    /// Takes in that the clock showed `now` at some time between `asked` and `answered`. Returns by how many
    /// milliseconds it jumped ahead, if it did; from then on it is watched by what it shows now.
    fn observe(&mut self, now: Millis, asked: Instant, answered: Instant) -> Option<i64> {
        let now = now * 1_000;
        let at_most = now - self.since_base(asked);
        let at_least = now - self.since_base(answered);
        let known = self.ahead.map(|(ahead, found)| {
            let gone = micros(answered.saturating_duration_since(found));
            ahead + gone / DRIFT
        });
        match known {
            Some(known) if at_least > known + TOLERANCE * 1_000 => {
                self.ahead = Some((at_most, answered));
                Some((at_least - known) / 1_000)
            }
            Some(known) if known <= at_most => {
                self.ahead = Some((known, answered));
                None
            }
            _ => {
                self.ahead = Some((at_most, answered));
                None
            }
        }
    }

    fn since_base(&self, at: Instant) -> i64 {
        micros(at.saturating_duration_since(self.base))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Dimension, Horizon, LimitSpec, Span, tests::world::World};

    const START: Millis = 1_700_000_000_000;

    struct Scene {
        steadiness: Steadiness,
        elapsed: Duration,
        now: Millis,
    }

    impl Scene {
        fn new() -> Self {
            Self { steadiness: Steadiness::default(), elapsed: Duration::ZERO, now: START }
        }

        /// Lets time go by here and there, and looks at the clock over a line that takes `trip` each way.
        fn look(&mut self, here: u64, there: i64, trip: u64) -> Option<i64> {
            self.elapsed += Duration::from_millis(here);
            self.now += there;
            let at = self.steadiness.base + self.elapsed;
            let trip = Duration::from_millis(trip);
            self.steadiness.observe(self.now, at.checked_sub(trip).unwrap_or(at), at + trip)
        }
    }

    #[test]
    fn a_clock_that_goes_as_it_should_is_steady_over_a_slow_line_too() {
        let mut scene = Scene::new();
        for step in 0..10_000 {
            assert_eq!(scene.look(10, 10, step % 7), None);
        }
    }

    #[test]
    fn a_jump_ahead_is_found_once_and_then_lived_with() {
        let mut scene = Scene::new();
        scene.look(1_000, 1_000, 1);
        assert!(scene.look(1_000, 4_600_000, 1).is_some_and(|by| (4_598_900..4_599_100).contains(&by)));
        assert_eq!(scene.look(1_000, 1_000, 1), None);
    }

    #[test]
    fn a_jump_back_is_none_of_its_business_but_the_way_forth_again_is() {
        let mut scene = Scene::new();
        scene.look(1_000, 1_000, 1);
        assert_eq!(scene.look(1_000, -3_600_000, 1), None);
        assert_eq!(scene.look(1_000, 1_000, 1), None);
        assert!(scene.look(1_000, 3_601_000, 1).is_some_and(|jump| jump > 3_599_000));
    }

    #[test]
    fn a_clock_that_runs_fast_is_found_within_a_second_and_one_that_is_nudged_is_not() {
        let mut fast = Scene::new();
        let found = (1..100).find(|_| fast.look(10, 11, 0).is_some());
        assert!(found.is_some_and(|looks| looks < 50), "{found:?}");
        let mut nudged = Scene::new();
        // 0.05 % is what time servers correct a clock by.
        assert!((0..1_000).all(|_| nudged.look(2_000, 2_001, 0).is_none()));
    }

    fn jumped(by: i64, limits: &[Span], known_later: bool) -> Result<(), LedgerError> {
        let mut watch = ClockWatch::default();
        let limits = limits.iter().map(|span| LimitSpec(Dimension::Requests, *span, 10)).collect();
        let horizon = Horizon { limits, ..Horizon::default() };
        if !known_later {
            watch.windows.foresee(&horizon);
        }
        // An hour before midnight in Los Angeles, in the middle of a month.
        let now = 1_700_000_000_000 + 8 * 3_600_000 + 2_800_000;
        let start = Instant::now();
        watch.observe("pool", now, start, start);
        watch.observe("pool", now + by, start, start);
        watch.windows.foresee(&horizon);
        let mut batch = Batch::empty("", 0, &Calendar::around(now));
        assert!(watch.admit(&batch).is_ok(), "reports are taken");
        batch.acquires.push(World::new(&[], &[]).request());
        watch.admit(&batch)
    }

    fn waits(answer: &Result<(), LedgerError>) -> u64 {
        match answer {
            Err(LedgerError::Holding { retry_after, .. }) => retry_after.as_secs(),
            _ => 0,
        }
    }

    #[test]
    fn a_jump_is_waited_out_in_windows_that_become_known_after_it() {
        let minute = [Span::Trailing(60_000)];
        assert_eq!(waits(&jumped(120_000, &minute, false)), 61);
        assert_eq!(waits(&jumped(120_000, &minute, true)), 61);
        assert_eq!(waits(&jumped(15, &minute, false)), 0, "within the tolerance");
    }

    #[test]
    fn a_day_that_a_jump_ended_is_waited_for_whatever_else_is_limited() {
        let hours = 3 * 3_600_000;
        let day = waits(&jumped(hours, &[Span::Day], false));
        assert!(day > 120, "{day}");
        assert_eq!(waits(&jumped(hours, &[Span::Day, Span::Month], false)), day);
        assert_eq!(waits(&jumped(hours, &[Span::Month], false)), 0, "the month goes on");
    }
}
