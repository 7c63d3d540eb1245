//! The judge: decides on each arrival, exactly, and remembers the worst that ever was.
//!
//! [`ModelJudge`] is a pure function of its own state, the cost and the moment. [`Judge`] only finds the right
//! one and reads the clock under its lock, so that the order of instants is the order of decisions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::clock::{Clock, Moment};
use super::config::{LimitTable, Limits};
use super::day::{DaySum, next_pacific_midnight};
use super::verdict::{Dimension, DimensionVerdict};
use super::window::{TrailingSum, WINDOW};

/// What one call costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Requests: one, or one a text for a batch of embeddings.
    pub requests: u64,
    /// Input tokens.
    pub input_tokens: u64,
}

/// A limit that an arrival would have exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// What is spent.
    pub dimension: Dimension,
    /// The limit.
    pub limit: u64,
    /// How long until the same call would fit; `None` if it is larger than the limit and never will.
    pub wait: Option<Duration>,
}

/// The decision on one arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It fits, and now counts.
    Admitted,
    /// It would exceed these limits, and counts for nothing.
    Refused(Vec<Excess>),
}

#[derive(Debug)]
enum Tally {
    Minute(TrailingSum),
    Day(DaySum),
}

impl Tally {
    fn of(dimension: Dimension) -> Self {
        match dimension {
            Dimension::Rpm | Dimension::InputTpm => Self::Minute(TrailingSum::default()),
            Dimension::Rpd => Self::Day(DaySum::default()),
        }
    }

    fn sum(&mut self, now: Moment) -> u64 {
        match self {
            Self::Minute(sum) => sum.sum(now.since_start),
            Self::Day(sum) => sum.sum(now.wall),
        }
    }

    fn add(&mut self, now: Moment, amount: u64) {
        match self {
            Self::Minute(sum) => sum.add(now.since_start, amount),
            Self::Day(sum) => sum.add(now.wall, amount),
        }
    }

    fn wait(&mut self, now: Moment, limit: u64, amount: u64) -> Option<Duration> {
        match self {
            Self::Minute(sum) => sum.wait(now.since_start, limit, amount),
            Self::Day(_) if amount > limit => None,
            Self::Day(_) => Duration::try_from(next_pacific_midnight(now.wall).duration_since(now.wall)).ok(),
        }
    }

    fn worst(&self) -> u64 {
        match self {
            Self::Minute(sum) => sum.worst(),
            Self::Day(sum) => sum.worst(),
        }
    }
}

/// One dimension: its limit, and what was admitted and offered against it.
#[derive(Debug)]
struct Meter {
    dimension: Dimension,
    limit: Option<u64>,
    admitted: Tally,
    offered: Tally,
    admitted_total: u64,
    refused_total: u64,
    refused_calls: u64,
}

impl Meter {
    fn new(dimension: Dimension, limit: Option<u64>) -> Self {
        Self {
            dimension,
            limit,
            admitted: Tally::of(dimension),
            offered: Tally::of(dimension),
            admitted_total: 0,
            refused_total: 0,
            refused_calls: 0,
        }
    }

    fn amount(&self, cost: Cost) -> u64 {
        match self.dimension {
            Dimension::Rpm | Dimension::Rpd => cost.requests,
            Dimension::InputTpm => cost.input_tokens,
        }
    }

    /// Counts the arrival as offered, and says whether it would exceed the limit.
    fn offer(&mut self, cost: Cost, now: Moment) -> Option<Excess> {
        let amount = self.amount(cost);
        self.offered.add(now, amount);
        let limit = self.limit?;
        if self.admitted.sum(now).saturating_add(amount) <= limit {
            return None;
        }
        self.refused_calls += 1;
        Some(Excess { dimension: self.dimension, limit, wait: self.admitted.wait(now, limit, amount) })
    }

    fn admit(&mut self, cost: Cost, now: Moment) {
        let amount = self.amount(cost);
        self.admitted.add(now, amount);
        self.admitted_total += amount;
        // The judge's own invariant, asserted where it is written: nothing admitted is ever above the limit.
        assert!(self.limit.is_none_or(|limit| self.admitted.worst() <= limit), "the judge admitted too much");
    }

    fn refuse(&mut self, cost: Cost) {
        self.refused_total += self.amount(cost);
    }

    fn utilisation(&self, observed: Duration) -> Option<f64> {
        let limit = self.limit.filter(|&limit| limit > 0)?;
        let windows = match &self.offered {
            Tally::Minute(_) => observed.max(WINDOW).as_secs_f64() / WINDOW.as_secs_f64(),
            Tally::Day(sum) => sum.days() as f64,
        };
        Some(self.admitted_total as f64 / (limit as f64 * windows))
    }
}

/// The judge of one (project, quota model).
#[derive(Debug)]
pub struct ModelJudge {
    meters: [Meter; 3],
    first: Option<Moment>,
    last: Option<Moment>,
    refusals: u64,
}

impl ModelJudge {
    /// A judge that has seen nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            meters: [
                Meter::new(Dimension::Rpm, limits.rpm),
                Meter::new(Dimension::InputTpm, limits.input_tpm),
                Meter::new(Dimension::Rpd, limits.rpd),
            ],
            first: None,
            last: None,
            refusals: 0,
        }
    }

    /// Decides on an arrival: it fits under all limits and counts against all, or it counts against none.
    ///
    /// An instant earlier than the last one is taken as the last one: arrivals are judged in order.
    pub fn rule(&mut self, cost: Cost, now: Moment) -> Ruling {
        let now = self.last.filter(|last| last.since_start > now.since_start).unwrap_or(now);
        self.last = Some(now);
        self.first.get_or_insert(now);
        let excesses: Vec<Excess> =
            self.meters.iter_mut().filter_map(|meter| meter.offer(cost, now)).collect();
        if excesses.is_empty() {
            self.meters.iter_mut().for_each(|meter| meter.admit(cost, now));
            Ruling::Admitted
        } else {
            self.refusals += 1;
            self.meters.iter_mut().for_each(|meter| meter.refuse(cost));
            Ruling::Refused(excesses)
        }
    }

    /// The verdict on each dimension, as of `now`.
    pub fn verdict(&self, project: &str, quota_model: &str, now: Moment) -> Vec<DimensionVerdict> {
        let since = self.first.map_or(now.since_start, |first| first.since_start);
        let observed = now.since_start.saturating_sub(since);
        let line = |meter: &Meter| DimensionVerdict {
            project: project.to_owned(),
            quota_model: quota_model.to_owned(),
            dimension: meter.dimension,
            limit: meter.limit,
            worst_admitted: meter.admitted.worst(),
            worst_offered: meter.offered.worst(),
            admitted: meter.admitted_total,
            refused: meter.refused_total,
            refused_calls: meter.refused_calls,
            observed_seconds: observed.as_secs_f64(),
            utilisation: meter.utilisation(observed),
        };
        self.meters.iter().map(line).collect()
    }
}

type Models = HashMap<String, Arc<Mutex<ModelJudge>>>;

/// All judges of a server, each behind a lock of its own.
#[derive(Debug)]
pub struct Judge {
    limits: LimitTable,
    projects: RwLock<HashMap<String, Models>>,
}

impl Judge {
    /// A judge that holds these limits.
    pub fn new(limits: LimitTable) -> Self {
        Self { limits, projects: RwLock::default() }
    }

    /// Decides on an arrival now, and tells which moment it took.
    pub fn rule(&self, project: &str, quota_model: &str, cost: Cost, clock: &Clock) -> (Ruling, Moment) {
        let judge = self.judge_of(project, quota_model);
        let mut judge = judge.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: two arrivals cannot be judged in another order than their instants.
        let now = clock.now();
        (judge.rule(cost, now), now)
    }

    /// Every line of the verdict in order, with the number of refused calls.
    pub fn verdict(&self, now: Moment) -> (Vec<DimensionVerdict>, u64) {
        let projects = self.projects.read().unwrap_or_else(PoisonError::into_inner);
        let mut lines = BTreeMap::new();
        let mut refusals = 0;
        for (project, models) in projects.iter() {
            for (model, judge) in models {
                let judge = judge.lock().unwrap_or_else(PoisonError::into_inner);
                refusals += judge.refusals;
                lines.insert((project, model), judge.verdict(project, model, now));
            }
        }
        (lines.into_values().flatten().collect(), refusals)
    }

    /// Forgets every arrival.
    pub fn reset(&self) {
        self.projects.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn judge_of(&self, project: &str, quota_model: &str) -> Arc<Mutex<ModelJudge>> {
        let projects = self.projects.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(judge) = projects.get(project).and_then(|models| models.get(quota_model)) {
            return Arc::clone(judge);
        }
        drop(projects);
        let mut projects = self.projects.write().unwrap_or_else(PoisonError::into_inner);
        let models = projects.entry(project.to_owned()).or_default();
        let judge = models.entry(quota_model.to_owned()).or_insert_with(|| {
            let limits = self.limits.of(project, quota_model);
            Arc::new(Mutex::new(ModelJudge::new(limits)))
        });
        Arc::clone(judge)
    }
}
