//! What must hold whatever happened, checked from what arrived at Gemini, what the workers were told and what
//! the ledger says at the end.

use std::collections::BTreeMap;

use super::{
    quota::Window,
    worker::{Said, What},
};
use crate::fake_gemini::LogEntry;

/// What was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// More arrived at Gemini than a limit allows.
    NoOverSpend,
    /// A lease was granted twice, or under two keys.
    GrantedOnce,
    /// An acknowledged report or a granted lease is not in the ledger.
    NothingLost,
    /// Requests count as in flight that are not.
    GaugesReturn,
    /// Leases are granted again within the stated time.
    Recovery,
    /// Nothing ends or panics that was not killed.
    Running,
}

/// A promise that was broken, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// What shows it.
    pub evidence: String,
    /// When it was, in microseconds since 1970, if it was at one instant.
    pub at: Option<i64>,
}

impl Violation {
    /// With evidence.
    pub fn of(promise: Promise, evidence: impl Into<String>) -> Self {
        Self { promise, evidence: evidence.into(), at: None }
    }
}

/// An arrival at Gemini.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// When, in microseconds of the judge's own monotonic clock.
    pub at: u64,
    /// When, in microseconds since 1970.
    pub unix: i64,
    /// Whose quota it takes of.
    pub project: String,
    /// The model id, which names the worker.
    pub model: String,
}

impl Arrival {
    /// The arrivals of a log, refused ones included: they were sent. `late` says which do not count, because
    /// the worker that sent them was frozen while it did: no broker can keep a request from being late.
    pub fn of(log: &[LogEntry], late: impl Fn(&Arrival) -> bool) -> Vec<Self> {
        let arrivals =
            log.iter().filter(|entry| entry.method == "generateContent" && !entry.project.is_empty());
        let arrivals = arrivals.map(|entry| Self {
            at: entry.micros,
            unix: entry.unix_micros,
            project: entry.project.to_string(),
            model: entry.model.clone(),
        });
        let mut arrivals: Vec<Self> = arrivals.filter(|arrival| !late(arrival)).collect();
        arrivals.sort_by_key(|arrival| arrival.at);
        arrivals
    }
}

/// The windows that were exceeded, each by its worst sum. A window is open on the left: an arrival exactly as old
/// as the window is long is outside.
pub fn exceeded(arrivals: &[Arrival], windows: &[Window]) -> Vec<Violation> {
    let mut by_project: BTreeMap<&str, Vec<&Arrival>> = BTreeMap::new();
    for arrival in arrivals {
        by_project.entry(&arrival.project).or_default().push(arrival);
    }
    let over = windows.iter().filter_map(|window| {
        let arrivals = by_project.get(window.project.as_str())?;
        let (worst, at) = worst(arrivals, window.span.as_micros());
        (worst as u64 > window.limit).then(|| {
            let Window { project, span, limit } = window;
            let evidence =
                format!("{worst} requests of {project} arrived within {span:?}, where {limit} may");
            Violation { at: Some(at), ..Violation::of(Promise::NoOverSpend, evidence) }
        })
    });
    over.collect()
}

/// The highest number of arrivals in any trailing window, and when the last of them came.
fn worst(arrivals: &[&Arrival], span_micros: u128) -> (usize, i64) {
    let (mut first, mut worst) = (0, (0, 0));
    for (last, arrival) in arrivals.iter().enumerate() {
        while u128::from(arrival.at - arrivals[first].at) >= span_micros {
            first += 1;
        }
        if last + 1 - first > worst.0 {
            worst = (last + 1 - first, arrival.unix);
        }
    }
    worst
}

/// What a worker was told of one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// When, in microseconds since 1970.
    pub at: i64,
    /// Whether its request was answered well.
    pub ok: bool,
    /// What the report did.
    pub state: i32,
    /// What the broker read in it.
    pub signal: i32,
}

/// The reports that were acknowledged, by lease.
pub fn acknowledged(said: &[Said]) -> BTreeMap<&str, Settled> {
    let acknowledged = said.iter().filter_map(|said| match said.what {
        What::Acknowledged { ok, state, signal } => {
            Some((said.lease.as_str(), Settled { at: said.at, ok, state, signal }))
        }
        _ => None,
    });
    acknowledged.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn arrivals(at: &[u64]) -> Vec<Arrival> {
        let arrival = |at: &u64| Arrival { at: *at, unix: 0, project: "p".to_owned(), model: "m".to_owned() };
        at.iter().map(arrival).collect()
    }

    fn window(limit: u64) -> [Window; 1] {
        [Window { project: "p".to_owned(), span: Duration::from_secs(1), limit }]
    }

    #[test]
    fn a_window_is_exceeded_at_any_alignment_and_not_by_an_arrival_as_old_as_itself() {
        let at = arrivals(&[900_000, 1_000_000, 1_899_999, 1_900_000]);
        assert_eq!(exceeded(&at, &window(3)), []);
        assert!(exceeded(&at, &window(2))[0].evidence.starts_with("3 requests of p"));
        let at = arrivals(&[500_000, 1_499_999]);
        assert_eq!(exceeded(&at, &window(1)).len(), 1);
        let at = arrivals(&[500_000, 1_500_000]);
        assert_eq!(exceeded(&at, &window(1)), []);
    }

    #[test]
    fn a_project_without_a_limit_may_be_asked_for_ever() {
        let other = [Window { project: "q".to_owned(), ..window(1)[0].clone() }];
        assert_eq!(exceeded(&arrivals(&[1, 2, 3, 4]), &other), []);
    }
}
