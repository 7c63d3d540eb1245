//! The plain line and the summary, as text.

use std::fmt::Write;

use super::{
    super::{
        snapshot::Snapshot,
        summary::{ProjectSummary, Summary, unit},
    },
    paint::Paint,
    table::short,
};

/// More projects than this are left out of the summary's table.
const MOST_ROWS: usize = 20;

/// One line on how everything stands.
pub(super) fn line(snapshot: &Snapshot) -> String {
    let Snapshot {
        seconds, granted, refused_by_broker, waiting, sent, refused_by_gemini, used, limit, ..
    } = snapshot;
    format!(
        "{seconds:>4.0} s  granted {granted:<4} refused by the broker {refused_by_broker:<5} waiting {waiting:<4} \
         sent {sent:<4} refused by Gemini {refused_by_gemini}  used {used}/{limit}\n"
    )
}

/// The end of the demo. `failure` is what a worker said of a request that failed.
pub(super) fn summary(summary: &Summary, failure: Option<&str>, paint: Paint) -> String {
    let mut text = projects(summary, paint);
    text.push('\n');
    let mut row = |name: &str, value: &str, well: Option<bool>, note: &str| {
        let value = format!("{value:>9}");
        let value = match well {
            Some(true) => paint.green(&value),
            Some(false) => paint.red(&value),
            None => value,
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<18}{value}   {}", paint.dim(note));
    };
    let Summary { workers, brokers, sent, admitted, admissible, seconds, .. } = summary;
    let plural = |count: u64, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let through = format!("by {} through {}", plural(*workers, "worker"), plural(*brokers, "broker"));
    row("requests sent", &sent.to_string(), None, &through);
    let refused = summary.refused_by_gemini;
    let judge = "it judges every trailing 60 s, with no tolerance";
    row("refused by Gemini", &refused.to_string(), Some(refused == 0), judge);
    if let Some(worst) = &summary.worst_window {
        let note = format!("{}, {}", unit(worst.dimension), worst.project);
        let value = format!("{}/{}", worst.worst, worst.limit);
        row("worst window", &value, Some(worst.worst <= worst.limit), &note);
    }
    let utilisation = format!("{:.1} %", summary.utilisation * 100.0);
    let note = format!("{admitted} of the {admissible} that are possible at most in {seconds:.0} s");
    row("utilisation", &utilisation, None, &note);
    let open = summary.leases_left_open;
    row("leases left open", &open.to_string(), Some(open == 0), &format!("of {} granted", summary.granted));
    row("answers received", &summary.answers.to_string(), None, "by the workers");
    if summary.failed > 0 {
        row("otherwise failed", &summary.failed.to_string(), Some(false), failure.unwrap_or_default());
    }
    let verdict = match summary.ok {
        true => paint.green("  OK: not one request over the quota.\n"),
        false => paint.red(&format!("  FAILED: {}.\n", summary.faults.join("; "))),
    };
    text.push('\n');
    text.push_str(&verdict);
    text
}

/// What came of each project.
fn projects(summary: &Summary, paint: Paint) -> String {
    let shown = &summary.projects[..summary.projects.len().min(MOST_ROWS)];
    let width = shown.iter().map(|row| row.project.len()).max().unwrap_or(0).max(7);
    let header = format!(
        "  {:width$}  {:>14}  {:>18}  {:>8}  {:>7}  {:>11}\n",
        "project", "worst requests", "worst input tokens", "admitted", "refused", "utilisation"
    );
    let mut text = paint.dim(&header);
    for row in shown {
        let ProjectSummary { project, admitted, refused, admissible, .. } = row;
        let requests = format!("{}/{}", row.worst_requests, row.requests_limit);
        let tokens = |count: u64| short(count.cast_signed());
        let tokens = format!("{}/{}", tokens(row.worst_tokens), tokens(row.tokens_limit));
        let share = format!("{:.0} %", *admitted as f64 * 100.0 / (*admissible).max(1) as f64);
        let _ = writeln!(
            text,
            "  {project:width$}  {requests:>14}  {tokens:>18}  {admitted:>8}  {refused:>7}  {share:>11}"
        );
    }
    if summary.projects.len() > shown.len() {
        let _ = writeln!(text, "  and {} more projects", summary.projects.len() - shown.len());
    }
    text
}
