//! What came of it, computed from the fake Gemini's verdict and the ledger.

use std::time::Duration;

use serde::Serialize;

use super::{
    options::Options,
    setting::project,
    snapshot::{Snapshot, refused_by_gemini},
    tally::Tally,
};
use crate::fake_gemini::{Dimension, DimensionVerdict, Verdict};

/// The window of the minute limits.
const MINUTE: f64 = 60.0;

/// The end of the demo.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Whether Gemini refused nothing, no window was over its limit, and something was sent.
    pub ok: bool,
    /// What speaks against it.
    pub faults: Vec<String>,
    /// How long the workers ran.
    pub seconds: f64,
    /// How many brokers there were.
    pub brokers: u64,
    /// How many workers.
    pub workers: u64,
    /// Requests that arrived at the fake Gemini.
    pub sent: u64,
    /// Those of them that it answered with an error.
    pub refused_by_gemini: u64,
    /// The trailing window that came nearest to its limit, or went over it furthest.
    pub worst_window: Option<Worst>,
    /// Admitted requests over those that an exact limiter could have admitted at most.
    pub utilisation: f64,
    /// Requests that were admitted.
    pub admitted: u64,
    /// Requests that an exact limiter could have admitted at most.
    pub admissible: u64,
    /// Leases that nobody had reported at the end.
    pub leases_left_open: i64,
    /// Leases that were granted.
    pub granted: i64,
    /// Leases that were refused by a broker.
    pub refused_by_broker: i64,
    /// Answers that workers received.
    pub answers: u64,
    /// Requests that failed in a way that has no place in the demo.
    pub failed: u64,
    /// Each project.
    pub projects: Vec<ProjectSummary>,
}

/// The worst trailing window of a dimension.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worst {
    /// Whose.
    pub project: String,
    /// What was limited.
    pub dimension: Dimension,
    /// The most that arrived in any window, what was refused included.
    pub worst: u64,
    /// What was allowed.
    pub limit: u64,
}

/// What came of a project.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProjectSummary {
    /// Its name.
    pub project: String,
    /// The most requests that arrived in any trailing minute.
    pub worst_requests: u64,
    /// What was allowed.
    pub requests_limit: u64,
    /// The most input tokens that arrived in any trailing minute.
    pub worst_tokens: u64,
    /// What was allowed.
    pub tokens_limit: u64,
    /// Requests that were admitted.
    pub admitted: u64,
    /// Requests that an exact limiter could have admitted at most.
    pub admissible: u64,
    /// Calls that the judge refused.
    pub refused: u64,
}

impl Worst {
    fn share(&self) -> f64 {
        self.worst as f64 / self.limit.max(1) as f64
    }
}

/// The most requests that a project could have sent in this time without ever exceeding its limit in a
/// trailing minute: all of them at the first instant, and again whenever a whole minute has passed.
pub fn admissible(limit: u64, elapsed: Duration) -> u64 {
    limit * (1 + (elapsed.as_secs_f64() / MINUTE) as u64)
}

impl Summary {
    /// Puts together what is known at the end. `since_end` is the time from the workers' end to the verdict,
    /// whose observation goes on after it.
    pub fn new(
        options: &Options,
        since_end: Duration,
        last: &Snapshot,
        verdict: &Verdict,
        tally: &Tally,
    ) -> Self {
        let projects: Vec<_> = (1..=options.projects)
            .map(|number| {
                let [name, ..] = project(number);
                project_summary(options, since_end, name, verdict)
            })
            .collect();
        let admitted = projects.iter().map(|project| project.admitted).sum();
        let possible = projects.iter().map(|project| project.admissible).sum();
        let worst = verdict.lines.iter().filter_map(|line| {
            let DimensionVerdict { project, dimension, worst_offered, .. } = line.clone();
            Some(Worst { project, dimension, worst: worst_offered, limit: line.limit? })
        });
        let mut summary = Self {
            ok: false,
            faults: Vec::new(),
            seconds: last.seconds,
            brokers: options.broker_count(),
            workers: options.workers,
            sent: verdict.calls,
            refused_by_gemini: refused_by_gemini(verdict),
            worst_window: worst.reduce(|a, b| if b.share() > a.share() { b } else { a }),
            utilisation: admitted as f64 / u64::max(possible, 1) as f64,
            admitted,
            admissible: possible,
            leases_left_open: last.in_flight,
            granted: last.granted,
            refused_by_broker: last.refused_by_broker,
            answers: tally.answered,
            failed: tally.failed,
            projects,
        };
        summary.faults = summary.find_faults(verdict);
        summary.ok = summary.faults.is_empty();
        summary
    }

    fn find_faults(&self, verdict: &Verdict) -> Vec<String> {
        let mut faults = Vec::new();
        if self.sent == 0 {
            faults.push("nothing was sent".to_owned());
        }
        if self.refused_by_gemini > 0 {
            faults.push(format!("Gemini refused {} requests", self.refused_by_gemini));
        }
        for line in verdict.overspent() {
            let DimensionVerdict { project, dimension, worst_offered, limit, .. } = line;
            let (unit, limit) = (unit(*dimension), limit.unwrap_or_default());
            faults.push(format!(
                "{project} got {worst_offered} {unit} in one window, where {limit} are allowed"
            ));
        }
        faults
    }
}

fn project_summary(
    options: &Options,
    since_end: Duration,
    name: String,
    verdict: &Verdict,
) -> ProjectSummary {
    // One model is asked for, so a project has one line for each dimension.
    let line =
        |dimension| verdict.lines.iter().find(|line| line.project == name && line.dimension == dimension);
    let (requests, tokens) = (line(Dimension::Rpm), line(Dimension::InputTpm));
    let observed = requests.map_or(0.0, |line| line.observed_seconds);
    let elapsed = Duration::from_secs_f64(observed.max(0.0)).saturating_sub(since_end);
    ProjectSummary {
        worst_requests: requests.map_or(0, |line| line.worst_offered),
        requests_limit: options.rpm,
        worst_tokens: tokens.map_or(0, |line| line.worst_offered),
        tokens_limit: options.tpm,
        admitted: requests.map_or(0, |line| line.admitted),
        // A project that got nothing could have got its requests from the beginning.
        admissible: if requests.is_some() {
            admissible(options.rpm, elapsed)
        } else {
            admissible(options.rpm, options.length())
        },
        refused: requests.map_or(0, |line| line.refused),
        project: name,
    }
}

/// What a dimension counts, for people.
pub fn unit(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Rpm | Dimension::Rpd => "requests",
        Dimension::InputTpm => "input tokens",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const TOKENS: u64 = 250_000;

    fn line(
        project: &str,
        dimension: Dimension,
        worst: u64,
        admitted: u64,
        refused: u64,
    ) -> DimensionVerdict {
        let limit = if dimension == Dimension::Rpm { 10 } else { TOKENS };
        DimensionVerdict {
            project: project.to_owned(),
            quota_model: "gemini-2.5-flash".to_owned(),
            dimension,
            limit: Some(limit),
            worst_admitted: worst.min(limit),
            worst_offered: worst,
            admitted,
            refused,
            refused_calls: refused,
            observed_seconds: 77.0,
            utilisation: None,
        }
    }

    fn summary(worst: u64, refused: u64) -> Summary {
        let options = Options::parse_from(["demo", "--projects", "2"]);
        let lines = vec![
            line("project-1", Dimension::Rpm, worst, 20, refused),
            line("project-1", Dimension::InputTpm, 25_000, 50_000, 0),
            line("project-2", Dimension::Rpm, 9, 18, 0),
            line("project-2", Dimension::InputTpm, 30_000, 60_000, 0),
        ];
        let statuses = [(200, 38), (429, refused)].into();
        let verdict =
            Verdict { calls: 38 + refused, quota_refusals: refused, statuses, lines, ..Verdict::default() };
        let tally = Tally { answered: 37, ..Tally::default() };
        Summary::new(&options, Duration::from_secs(2), &Snapshot::default(), &verdict, &tally)
    }

    #[test]
    fn a_limit_fits_once_at_once_and_again_each_whole_minute() {
        let after = |seconds| admissible(10, Duration::from_secs_f64(seconds));
        assert_eq!([0.0, 59.9, 60.0, 75.0, 120.0].map(after), [10, 10, 20, 20, 30]);
    }

    #[test]
    fn a_run_within_the_quota_is_well() {
        let summary = summary(10, 0);
        assert!(summary.ok && summary.faults.is_empty());
        let worst =
            Worst { project: "project-1".to_owned(), dimension: Dimension::Rpm, worst: 10, limit: 10 };
        assert_eq!(summary.worst_window, Some(worst));
        assert_eq!((summary.sent, summary.answers, summary.admitted, summary.admissible), (38, 37, 38, 40));
        assert_eq!(summary.utilisation, 0.95);
        let second = &summary.projects[1];
        assert_eq!((second.worst_requests, second.worst_tokens, second.admitted), (9, 30_000, 18));
    }

    #[test]
    fn one_request_over_the_quota_is_named_and_fails_the_run() {
        let summary = summary(11, 1);
        assert!(!summary.ok);
        assert_eq!(summary.faults.len(), 2);
        assert_eq!(summary.faults[0], "Gemini refused 1 requests");
        assert!(summary.faults[1].contains("project-1 got 11 requests in one window, where 10 are allowed"));
    }

    #[test]
    fn a_run_that_sent_nothing_proves_nothing() {
        let options = Options::parse_from(["demo"]);
        let nothing = (Snapshot::default(), Verdict { exact: true, ..Verdict::default() }, Tally::default());
        let summary = Summary::new(&options, Duration::ZERO, &nothing.0, &nothing.1, &nothing.2);
        assert!(!summary.ok);
        assert_eq!((summary.faults[0].as_str(), summary.admissible), ("nothing was sent", 100));
    }
}
