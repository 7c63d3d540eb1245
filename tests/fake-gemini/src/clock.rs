//! The two clocks the judge needs, read together at the edge and passed in as one value.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// One instant, on the monotonic clock (for trailing windows) and on the wall (for days).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time since the server started.
    pub since_start: Duration,
    /// The same instant as the world names it.
    pub wall: Timestamp,
}

impl Moment {
    /// The moment `since_start` after a server that started at `origin`.
    pub fn after(origin: Timestamp, since_start: Duration) -> Self {
        let wall = origin.checked_add(since_start).unwrap_or(Timestamp::MAX);
        Self { since_start, wall }
    }
}

/// The clock of a running server.
///
/// Wall time is the wall time of the start plus monotonic time, so a clock that is set back while the
/// server runs cannot make a day last longer.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    origin: Timestamp,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: Instant::now(), origin: Timestamp::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment::after(self.origin, self.start.elapsed())
    }
}
