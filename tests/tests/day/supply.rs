//! What could have been sent while more was wanted than there was, and what was.
//!
//! **Demand exceeds supply** of a model in a pool as long as, at every instant, at least one request for it
//! waits that every key of the pool may serve and that its consumer's plan does not refuse. Such a time is
//! looked at in parts of at most two minutes, none across midnight. What could have been sent in a part is
//! what was sent, and what more the limit that binds left room for:
//!
//! - a trailing span `S`: the rule counts a request from its grant to the end of the sub-bucket of its grant
//!   (`S / 60`) and for `S + send_within` more, so that no span that Google looks at sees more than the limit.
//!   A request thus takes its part of the limit for at most `D = S + S / 60 + send_within`, by its upper bound
//!   until its use is known, and what lies free for a time `t` could have carried `t / D` more. Of Google's
//!   own `limit x time / S` this leaves `S / D`: 60/62 where requests are sent within a second, 60/61.5 within
//!   half of one, 600/611 for ten minutes;
//! - a Pacific day or month: what was left of it, but for an end that is smaller than the largest request's
//!   upper bound;
//! - requests in flight: what lay free, by how long a request is in flight on average.
//!
//! What is charged for requests of which nobody knows whether Google counted them is taken, not free. A
//! project has the least room that its limits leave, an account and a pool the room of their projects and that
//! of their own limits: the least of all is what there was, and the limit that left it is the one that binds.
//! Tokens and money are turned into requests by what those that were sent used. A project does not count
//! while something of it was blocked because Google refused, and until the ramp afterwards is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use keybroker::ledger::window::RAMP;

use crate::{
    demand::Source,
    possible::{Books, Time},
    series::{Leased, Shelf},
    setting::{MINUTE, PacificDay, Setting},
};

/// How long a part of a time of excess is.
const LONGEST: i64 = 2 * MINUTE;
const SHORTEST: i64 = MINUTE;
/// How long after a block's end its probe may take to come back.
const PROBE: i64 = 2 * MINUTE;

/// A time in which something could not be leased because of a block.
#[derive(Debug, Clone, Copy)]
struct Outage {
    from: i64,
    /// When it was last blocked.
    blocked_at: i64,
    /// When the block ends, as it was told.
    block_ends: i64,
    to: Option<i64>,
}

impl Outage {
    /// When it is over, with the ramp after it.
    fn end(&self) -> i64 {
        let latest = self.block_ends.saturating_add(PROBE);
        self.to.unwrap_or(latest).min(latest).saturating_add(RAMP)
    }
}

/// When which project's models could not be leased.
#[derive(Debug, Default)]
pub(crate) struct Outages(HashMap<(String, String), Vec<Outage>>);

impl Outages {
    /// The parts of a time in which nothing of a project's model was blocked.
    pub(crate) fn without(&self, project: &str, model: &str, (from, to): Time) -> Vec<Time> {
        let (mut parts, mut start) = (Vec::new(), from);
        for outage in self.0.get(&(project.to_owned(), model.to_owned())).into_iter().flatten() {
            parts.push((start, outage.from.min(to)));
            start = start.max(outage.end());
        }
        parts.push((start, to));
        parts.retain(|part| part.0 < part.1);
        parts
    }
}

/// Whose demand it is: a pool's model, or a consumer in a pool that is refused by its plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wants {
    Model { pool: String, model: String },
    Consumer { pool: String, consumer: String },
}

/// What was possible and what was sent by a limit, over all times in which it bound.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Line {
    pub(crate) minutes: f64,
    /// Requests that Google's own limit would have allowed.
    pub(crate) allowed: f64,
    pub(crate) possible: f64,
    pub(crate) sent: f64,
    /// Whether it tells of a whole calendar window up to then, and not of the time alone.
    pub(crate) so_far: bool,
}

impl Line {
    /// Takes in a further part of the times, or, of a calendar window, all of it so far.
    fn add(&mut self, more: Self) {
        self.minutes += more.minutes;
        if more.so_far {
            if more.sent >= self.sent {
                *self = Self { minutes: self.minutes, ..more };
            }
            return;
        }
        self.allowed += more.allowed;
        self.possible += more.possible;
        self.sent += more.sent;
    }

    pub(crate) fn utilisation(&self) -> f64 {
        if self.possible > 0.0 { self.sent / self.possible } else { 1.0 }
    }
}

/// What is written down while a day goes by.
#[derive(Debug, Default)]
pub(crate) struct Supply {
    leased: Vec<Leased>,
    outages: Outages,
    waiting: HashMap<usize, (Wants, usize)>,
    numbers: BTreeMap<Wants, usize>,
    open: BTreeMap<usize, (usize, i64)>,
    excess: Vec<(usize, i64, i64)>,
}

impl Supply {
    /// A lease has ended.
    pub(crate) fn ended(&mut self, leased: Leased) {
        self.leased.push(leased);
    }

    /// A lane waits for what it wants from now on, or no longer.
    pub(crate) fn waits(&mut self, now: i64, lane: usize, wants: Option<Wants>) {
        if self.waiting.get(&lane).map(|known| &known.0) == wants.as_ref() {
            return;
        }
        if let Some((_, number)) = self.waiting.remove(&lane) {
            let (lanes, since) = self.open.get_mut(&number).expect("somebody waited");
            *lanes -= 1;
            if *lanes == 0 {
                self.excess.push((number, *since, now));
                self.open.remove(&number);
            }
        }
        if let Some(wants) = wants {
            let next = self.numbers.len();
            let number = *self.numbers.entry(wants.clone()).or_insert(next);
            self.open.entry(number).or_insert((0, now)).0 += 1;
            self.waiting.insert(lane, (wants, number));
        }
    }

    /// A model of a project is blocked from now on, until an instant.
    pub(crate) fn blocked(&mut self, now: i64, project: &str, model: &str, until: i64) {
        let outages = self.outages.0.entry((project.to_owned(), model.to_owned())).or_default();
        match outages.last_mut().filter(|last| last.to.is_none()) {
            Some(last) => {
                last.blocked_at = now;
                last.block_ends = last.block_ends.max(until);
            }
            None => outages.push(Outage { from: now, blocked_at: now, block_ends: until, to: None }),
        }
    }

    /// A request of a project's model was served, whose lease was granted at an instant.
    pub(crate) fn served(&mut self, now: i64, project: &str, model: &str, granted_at: i64) {
        let Some(outages) = self.outages.0.get_mut(&(project.to_owned(), model.to_owned())) else { return };
        if let Some(last) =
            outages.last_mut().filter(|last| last.to.is_none() && granted_at >= last.blocked_at)
        {
            last.to = Some(now);
        }
    }

    /// Ends what is still open.
    pub(crate) fn close(&mut self, now: i64) {
        for lane in self.waiting.keys().copied().collect::<BTreeSet<_>>() {
            self.waits(now, lane, None);
        }
    }

    /// Every limit that bound, by its name.
    pub(crate) fn lines(
        self,
        setting: &Setting,
        day: &PacificDay,
        sources: &[Source],
    ) -> BTreeMap<String, Line> {
        let shelf = Shelf::new(self.leased, setting, sources);
        let books = Books { setting, day, shelf: &shelf, outages: &self.outages };
        let mut lines: BTreeMap<String, Line> = BTreeMap::new();
        let names: BTreeMap<usize, &Wants> =
            self.numbers.iter().map(|(wants, number)| (*number, wants)).collect();
        for &(number, from, to) in &self.excess {
            for time in parts(from, to, [day.dawn, day.dusk]) {
                let found = match names[&number] {
                    Wants::Model { pool, model } => books.of_model(setting.pool(pool), model, time),
                    Wants::Consumer { pool, consumer } => {
                        books.of_consumer(setting.pool(pool), consumer, time)
                    }
                };
                for (name, line) in found {
                    lines.entry(name).or_default().add(line);
                }
            }
        }
        lines
    }
}

/// The parts of a time, without those that are too short to tell anything.
fn parts(from: i64, to: i64, midnights: [i64; 2]) -> Vec<Time> {
    let (mut parts, mut start) = (Vec::new(), from);
    while start < to {
        let midnight = midnights.into_iter().find(|midnight| *midnight > start).unwrap_or(i64::MAX);
        let end = to.min(midnight).min(start + LONGEST);
        parts.push((start, end));
        start = end;
    }
    parts.retain(|part| part.1 - part.0 >= SHORTEST);
    parts
}
