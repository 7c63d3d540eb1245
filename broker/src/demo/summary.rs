//! What came of it, by the judge and by the ledger.

use std::sync::atomic::Ordering::Relaxed;

use keybroker_fake_gemini::Dimension;
use serde::Serialize;

use super::{DemoArgs, watch::Standing, workers::Workers};

/// The end of the demo.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    /// Whether nothing was sent over the quota, everything was reported, and something was sent.
    pub(super) ok: bool,
    /// What speaks against it.
    pub(super) faults: Vec<String>,
    pub(super) seconds: f64,
    pub(super) brokers: u64,
    pub(super) workers: u64,
    /// Calls that arrived at the stand-in.
    pub(super) sent: u64,
    /// Those that it answered with an error, as was played.
    pub(super) refused_by_gemini: u64,
    /// Those that it refused because too much was sent.
    pub(super) over_quota: u64,
    /// The most requests that arrived in any trailing minute, of the project that came nearest to its limit.
    pub(super) worst_window: u64,
    pub(super) limit: u64,
    pub(super) answered: u64,
    pub(super) granted: i64,
    pub(super) refused_by_broker: i64,
    pub(super) leases_left_open: i64,
    /// Questions that failed in a way that has no place here.
    pub(super) failed: u64,
}

impl Summary {
    pub(super) fn of(args: &DemoArgs, standing: &Standing, workers: &Workers) -> Self {
        let verdict = &standing.verdict;
        let minutes = verdict.lines.iter().filter(|line| line.dimension == Dimension::Rpm);
        let worst_window = minutes.map(|line| line.worst_offered).max().unwrap_or_default();
        let counters = standing.pool.counters.unwrap_or_default();
        let failed = workers.tally.failed.load(Relaxed);
        let mut faults = Vec::new();
        if verdict.quota_refusals > 0 || !verdict.exact {
            faults.push(format!("{} requests were over the quota", verdict.quota_refusals));
        }
        if standing.open() > 0 {
            faults.push(format!("{} leases were not reported", standing.open()));
        }
        if failed > 0 {
            faults.push(format!("{failed} questions failed"));
        }
        if standing.answered == 0 {
            faults.push("no question was answered".to_owned());
        }
        Self {
            ok: faults.is_empty(),
            faults,
            seconds: (standing.after.as_secs_f64() * 10.0).round() / 10.0,
            brokers: args.broker_count(),
            workers: args.workers,
            sent: verdict.calls,
            refused_by_gemini: standing.refused_by_gemini(),
            over_quota: verdict.quota_refusals,
            worst_window,
            limit: args.rpm,
            answered: standing.answered,
            granted: counters.granted,
            refused_by_broker: counters.refused,
            leases_left_open: standing.open(),
            failed,
        }
    }

    pub(super) fn in_words(&self) -> String {
        let row = |name: &str, value: String, note: &str| {
            format!("  {name:<19}{value:>9}   {note}").trim_end().to_owned()
        };
        let plural = |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let through =
            format!("by {} through {}", plural(self.workers, "worker"), plural(self.brokers, "broker"));
        let verdict = match self.ok {
            true => "  OK: not one request over the quota.".to_owned(),
            false => format!("  FAILED: {}.", self.faults.join("; ")),
        };
        [
            row("requests sent", self.sent.to_string(), &through),
            row("answers received", self.answered.to_string(), ""),
            row("refused by Gemini", self.refused_by_gemini.to_string(), "as was played; other keys served"),
            row(
                "over the quota",
                self.over_quota.to_string(),
                "it judges every trailing 60 s, with no tolerance",
            ),
            row("worst window", format!("{}/{}", self.worst_window, self.limit), "requests of one project"),
            row(
                "leases left open",
                self.leases_left_open.to_string(),
                &format!("of {} granted", self.granted),
            ),
            String::new(),
            verdict,
        ]
        .join("\n")
    }
}
