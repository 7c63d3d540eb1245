//! The live table: one row for each project, and the sums below.

use super::{
    super::snapshot::{ProjectStatus, Snapshot},
    paint::Paint,
};

/// More projects than this are summed up in one row, so that the table fits on any terminal.
const MOST_ROWS: usize = 12;
/// How wide the bar of a limit is.
const BAR: usize = 14;

/// The whole table.
pub(super) fn table(snapshot: &Snapshot, paint: Paint) -> String {
    let rows: Vec<&ProjectStatus> = snapshot.projects.iter().take(MOST_ROWS).collect();
    let widest = |text: fn(&ProjectStatus) -> &str| rows.iter().map(|row| text(row).len()).max().unwrap_or(0);
    let widths = (widest(|row| &row.project).max(7), widest(|row| &row.key).max(3));
    let header = format!(
        "  {:p$}  {:k$}  {:b$}  {:>13}  {:>9}  state",
        "project",
        "key",
        "requests a minute",
        "tokens",
        "in flight",
        p = widths.0,
        k = widths.1,
        b = BAR + 8
    );
    let mut lines = vec![paint.dim(&header)];
    lines.extend(rows.iter().map(|row| project_row(row, widths, paint)));
    let rest = &snapshot.projects[rows.len()..];
    if !rest.is_empty() {
        let (used, limit): (i64, i64) =
            rest.iter().fold((0, 0), |sum, row| (sum.0 + row.used, sum.1 + row.limit));
        lines.push(format!("  and {} more projects: {used}/{limit}", rest.len()));
    }
    lines.push(String::new());
    lines.extend(sums(snapshot, paint));
    lines.join("\n")
}

fn project_row(row: &ProjectStatus, (project, key): (usize, usize), paint: Paint) -> String {
    let tokens = format!("{}/{}", short(row.tokens_used), short(row.tokens_limit));
    let used = format!("{:>7}", format!("{}/{}", row.used, row.limit));
    let (bar, state) = match &row.cooldown {
        Some(cooldown) => (paint.red(&bar(row)), paint.red(&format!("cooling {cooldown}"))),
        None if !row.available => (paint.red(&bar(row)), paint.red("disabled")),
        None if is_full(row) => (paint.yellow(&bar(row)), paint.yellow("full")),
        None => (paint.cyan(&bar(row)), paint.green("free")),
    };
    format!(
        "  {:project$}  {:key$}  {bar} {used}  {tokens:>13}  {:>9}  {state}",
        row.project, row.key, row.in_flight
    )
}

/// The sums in two lines, each short enough for 80 columns.
fn sums(snapshot: &Snapshot, paint: Paint) -> [String; 2] {
    let Snapshot { granted, refused_by_broker, waiting, in_flight, sent, refused_by_gemini, answers, .. } =
        snapshot;
    let refused = format!("refused by Gemini {refused_by_gemini}");
    let refused = if *refused_by_gemini == 0 { paint.green(&refused) } else { paint.red(&refused) };
    [
        format!("  brokers   granted {granted:<7} refused {refused_by_broker:<7} waiting {waiting}"),
        format!("  workers   sent {sent:<10} answered {answers:<6} in flight {in_flight:<5} {refused}"),
    ]
}

/// Nothing fits under a limit of tokens long before its last token is spent.
fn is_full(row: &ProjectStatus) -> bool {
    row.used >= row.limit || row.tokens_used as f64 >= row.tokens_limit as f64 * 0.95
}

fn bar(row: &ProjectStatus) -> String {
    let share = row.used as f64 / row.limit.max(1) as f64;
    let full = ((share * BAR as f64).round() as usize).min(BAR);
    format!("{}{}", "█".repeat(full), "░".repeat(BAR - full))
}

/// A count in at most five characters.
pub(super) fn short(count: i64) -> String {
    match count {
        ..=999 => count.to_string(),
        1_000..=9_999 => format!("{:.1}k", count as f64 / 1e3),
        10_000..=999_999 => format!("{}k", count / 1_000),
        _ => format!("{:.1}M", count as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(projects: usize) -> Snapshot {
        let status = |number: usize| ProjectStatus {
            project: format!("project-{number}"),
            key: format!("key-{number}"),
            used: 10,
            limit: 10,
            tokens_used: 123_456,
            tokens_limit: 250_000,
            in_flight: 10,
            available: true,
            cooldown: None,
        };
        let big = 1_000_000;
        Snapshot {
            granted: big,
            refused_by_broker: big,
            waiting: big,
            sent: 1_000_000,
            answers: 100_000,
            projects: (1..=projects).map(status).collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_table_fits_on_a_small_terminal() {
        for projects in [1, 5, 12, 13, 200] {
            let table = table(&snapshot(projects), Paint::new(false));
            assert!(table.lines().all(|line| line.chars().count() < 80), "{table}");
            assert!(table.lines().count() <= 18, "{table}");
        }
    }

    #[test]
    fn counts_are_short() {
        assert_eq!([7, 999, 1_234, 250_000, 4_000_000].map(short), ["7", "999", "1.2k", "250k", "4.0M"]);
    }
}
