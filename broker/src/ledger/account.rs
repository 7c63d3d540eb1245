//! An account: windows, and a block with its probe.

use serde::{Deserialize, Serialize};

use super::{
    types::{Amounts, Block, Dimension, FOREVER, LimitSpec, Millis, Mode, Span, UNLIMITED},
    window::{RAMP, Window},
};

/// The smallest request there is: whoever cannot serve it is parked.
pub const SMALLEST: Amounts = Amounts { permits: 1, input: 1, total: 1, spend: 1 };
/// The best health there is.
pub const FULL_HEALTH: i64 = 100;

/// Counts and standing of one key, project, quota model of a project, or the like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The generation that last set the limits.
    pub generation: i64,
    /// Nothing is granted until then.
    pub blocked_until: Millis,
    /// Why, in a word.
    pub reason: String,
    /// Whether the block ends with a lease that goes out alone.
    pub probing: bool,
    /// Until when that lease is out; 0 if none is.
    pub probe_until: Millis,
    /// That lease; empty if none is.
    pub probe_lease: String,
    /// Blocks in a row without a success between them.
    pub streak: i64,
    /// The limits.
    pub windows: Vec<Window>,
    /// What the limits do.
    pub mode: Mode,
    /// By how much its health lies below [`FULL_HEALTH`].
    pub damage: i64,
    /// When its ramp began; 0 if there was none.
    pub ramp_from: Millis,
    /// Whether it is forgotten once all that it counts has ended.
    pub passing: bool,
    /// Of a passing account: when that is.
    pub idle_from: Millis,
}

/// When the ramps began that hold a candidate back; 0 if there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ramps {
    /// Of its own accounts: they decide for how long it is parked.
    pub own: Millis,
    /// The same and those of the accounts that the request names, such as its model's.
    pub all: Millis,
}

/// When an account can serve, and what is in the way until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// For the request at hand.
    pub at: Millis,
    /// For the smallest request.
    pub smallest_at: Millis,
    /// What is in the way of the request longest.
    pub cause: Cause,
}

/// What is in the way of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nothing is.
    Nothing,
    /// A block.
    Block,
    /// A lease that goes out alone after a block.
    Probe,
    /// A limit, for now.
    Spent(Dimension, Span),
    /// A limit, for good: the request is larger.
    Exceeds(Dimension, Span),
}

impl Account {
    /// Sets the limits of a newer or the same generation; what was counted under a (dimension,
    /// span) stays, and so does what was learned.
    pub fn set_limits(&mut self, generation: i64, limits: &[LimitSpec], mode: Mode, epoch: i64) {
        if generation < self.generation {
            return;
        }
        self.generation = generation;
        self.mode = mode;
        let mut old = std::mem::take(&mut self.windows);
        for &LimitSpec(dimension, span, limit) in limits {
            let known = old.iter().position(|window| (window.dimension, window.span) == (dimension, span));
            let mut window =
                known.map_or_else(|| Window::new(dimension, span, limit, epoch), |at| old.remove(at));
            window.configured = limit;
            window.settle_limit(mode);
            self.windows.push(window);
        }
        for mut window in old.into_iter().filter(|window| window.learned > 0) {
            window.configured = UNLIMITED;
            window.settle_limit(mode);
            self.windows.push(window);
        }
    }

    /// Takes in a limit that Google named; whether it was news.
    pub fn learn(&mut self, &LimitSpec(dimension, span, limit): &LimitSpec, epoch: i64) -> bool {
        let known =
            self.windows.iter().position(|window| (window.dimension, window.span) == (dimension, span));
        let at = known.unwrap_or_else(|| {
            self.windows.push(Window::new(dimension, span, UNLIMITED, epoch));
            self.windows.len() - 1
        });
        let window = &mut self.windows[at];
        let news = window.learned != limit;
        window.learned = limit;
        window.settle_limit(self.mode);
        news
    }

    /// Forgets the limits that were learned; whether there was one.
    pub fn unlearn(&mut self) -> bool {
        let mut changed = false;
        for window in self.windows.iter_mut().filter(|window| window.learned > 0) {
            window.learned = 0;
            window.settle_limit(self.mode);
            changed = true;
        }
        changed
    }

    /// When its ramp began, if it still lasts.
    pub fn ramp(&self, now: Millis) -> Millis {
        if self.ramp_from + RAMP > now { self.ramp_from } else { 0 }
    }

    /// When the account can serve `need`, by a candidate with these ramps.
    pub fn readiness(&self, now: Millis, need: Amounts, ramps: Ramps) -> Readiness {
        let mut ready = Readiness { at: now, smallest_at: now, cause: Cause::Nothing };
        if self.blocked_until > now {
            ready.at = self.blocked_until;
            ready.smallest_at = self.blocked_until;
            ready.cause = Cause::Block;
        }
        if self.probing && self.probe_until > ready.at {
            ready.at = self.probe_until;
            ready.smallest_at = self.probe_until;
            ready.cause = Cause::Probe;
        }
        if self.mode == Mode::Soft {
            return ready;
        }
        for window in &self.windows {
            // Every request has a token at least, also one that does not say how many.
            let amount = need.of(window.dimension).max(SMALLEST.of(window.dimension));
            let at = window.ready_at(now, amount, ramps.all);
            if at > ready.at {
                let cause = if at == FOREVER { Cause::Exceeds } else { Cause::Spent };
                ready.at = at;
                ready.cause = cause(window.dimension, window.span);
            }
            let smallest = SMALLEST.of(window.dimension);
            ready.smallest_at = ready.smallest_at.max(window.ready_at(now, smallest, ramps.own));
        }
        ready
    }

    /// The first soft limit that `need` would exceed.
    pub fn exceeded(&self, now: Millis, need: Amounts) -> Option<Cause> {
        let exceeds = |window: &&Window| window.used(now) + need.of(window.dimension) > window.limit;
        let window = self.windows.iter().find(exceeds).filter(|_| self.mode == Mode::Soft)?;
        Some(Cause::Spent(window.dimension, window.span))
    }

    /// A cause in the words of [`super::types::Acquired`].
    pub fn describe(&self, cause: Cause) -> String {
        match cause {
            Cause::Nothing => String::new(),
            Cause::Block => format!("block:{}", self.reason),
            Cause::Probe => "probe".to_owned(),
            Cause::Spent(dimension, span) => format!("{}{}", letter(dimension), i64::from(span)),
            Cause::Exceeds(dimension, span) => format!("exceeds:{}{}", letter(dimension), i64::from(span)),
        }
    }

    /// When the smallest request can be served.
    pub fn smallest_at(&self, now: Millis) -> Millis {
        self.readiness(now, SMALLEST, Ramps::default()).smallest_at
    }

    /// Whether a catalogue has said which limits there are, be it none.
    pub fn is_applied(&self) -> bool {
        self.generation > 0
    }

    /// Blocks the account because of a lease granted at `granted_at`; only ever lengthens.
    pub fn block(&mut self, now: Millis, granted_at: Millis, day_end: Millis, block: &Block) {
        let step = match block.steps.as_slice() {
            [] => 0,
            [only] => *only,
            steps => {
                if self.reason != block.reason {
                    // What happens for another reason is not the same thing happening again.
                    self.streak = 0;
                }
                // Requests that were under way when the block was set say nothing new.
                if self.streak == 0 || granted_at >= self.blocked_until {
                    self.streak += 1;
                }
                steps[(self.streak.clamp(1, steps.len() as i64) - 1) as usize]
            }
        };
        let mut until = (now + step).min(FOREVER);
        if block.until_day_end {
            until = until.max(day_end);
        }
        if until > self.blocked_until {
            self.blocked_until = until;
            self.reason.clone_from(&block.reason);
        }
        // A step of nothing only counts: something is done about it when it happens again.
        if block.probe && until > now {
            self.ramp_from = 0;
            self.probing = true;
            self.probe_until = 0;
            self.probe_lease.clear();
        }
    }

    /// Takes in that a lease ended: as the probe it ends or repeats the probing, and a success of a
    /// lease granted after the last block ends the count of blocks in a row.
    pub fn lease_ended(&mut self, lease: &str, now: Millis, granted_at: Millis, success: bool) -> bool {
        let mut changed = false;
        if self.probing && self.probe_lease == lease {
            self.probing = !success;
            if success {
                self.ramp_from = now;
            }
            self.probe_until = 0;
            self.probe_lease.clear();
            changed = true;
        }
        if success && self.streak > 0 && granted_at >= self.blocked_until {
            self.streak = 0;
            changed = true;
        }
        changed
    }

    /// Whether no block, probe or ramp holds it back, and none is counted.
    pub fn is_free(&self, now: Millis) -> bool {
        self.blocked_until <= now && !self.probing && self.streak == 0 && self.ramp(now) == 0
    }

    /// Ends the block; with `ramp` because a check went well. Whether there was anything to end.
    pub fn unblock(&mut self, now: Millis, ramp: bool) -> bool {
        let changed = !self.is_free(now);
        if changed {
            self.blocked_until = 0;
            self.reason.clear();
            self.probing = false;
            self.probe_until = 0;
            self.probe_lease.clear();
            self.streak = 0;
            self.ramp_from = if ramp { now } else { 0 };
        }
        changed
    }

    /// Changes the health, within its bounds; whether it did.
    pub fn heal(&mut self, by: i64) -> bool {
        let damage = (self.damage - by).clamp(0, FULL_HEALTH);
        let changed = damage != self.damage;
        self.damage = damage;
        changed
    }

    /// When all that is counted has ended, and its block, probe and ramp too.
    pub fn counts_until(&self) -> Millis {
        let ramp_until = if self.ramp_from > 0 { self.ramp_from + RAMP } else { 0 };
        let standing = self.blocked_until.max(self.probe_until).max(ramp_until);
        self.windows.iter().map(Window::counts_until).fold(standing, Millis::max)
    }

    /// The account without what has ended.
    #[must_use]
    pub fn live(mut self, now: Millis) -> Self {
        self.windows.iter_mut().for_each(|window| window.forget(now));
        self
    }

    /// Whether the account holds nothing worth keeping: no catalogue gave it limits, and it is not
    /// blocked.
    pub fn is_empty(&self, now: Millis) -> bool {
        self.generation == 0 && self.windows.is_empty() && self.is_free(now) && self.damage == 0
    }
}

fn letter(dimension: Dimension) -> char {
    match dimension {
        Dimension::Requests => 'r',
        Dimension::InputTokens => 'i',
        Dimension::TotalTokens => 't',
        Dimension::InFlight => 'f',
        Dimension::Spend => 's',
    }
}

/// Whether a window returns its charge when the lease ends.
pub fn is_held(window: &Window) -> bool {
    window.span == Span::Held
}
