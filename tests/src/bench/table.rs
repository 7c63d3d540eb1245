//! The one table.

use comfy_table::{Cell, CellAlignment, ContentArrangement, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use super::{
    case::{Case, Load},
    compare::{Comparison, Side, Spread},
    mark::Mark,
};

/// All that was measured, in order.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// Its rows.
    pub rows: Vec<Row>,
    /// What must be known to read them.
    pub notes: Vec<String>,
}

/// One thing measured. Times are microseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Keys in the catalogue.
    pub keys: Option<usize>,
    /// Leases or calls a second.
    pub rate: Option<f64>,
    /// Median time.
    pub p50: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// What it is compared with, in the measure that is compared.
    pub base: Option<f64>,
    /// The ratio to that.
    pub ratio: Option<Spread>,
    /// Processor time of the server a lease.
    pub server_cpu: Option<f64>,
    /// Processor time of Redis a lease.
    pub redis_cpu: Option<f64>,
    /// Calls of Redis a lease.
    pub calls_per_lease: Option<f64>,
    /// Time within scripts a lease.
    pub script_per_lease: Option<f64>,
    /// Bytes that one of them needs: a lease, or what the name says.
    pub bytes: Option<f64>,
    /// What it should be.
    pub marks: Vec<Mark>,
}

impl Row {
    /// What is known of one side alone.
    pub(super) fn of_side(name: String, side: &Side) -> Self {
        let each = |total: f64| (total > 0.0).then(|| total / side.leases as f64);
        Self {
            name,
            rate: Some(side.rate),
            p50: Some(side.p50),
            p99: Some(side.p99),
            server_cpu: each(side.cost.server_cpu),
            redis_cpu: each(side.cost.redis_cpu),
            calls_per_lease: each(side.cost.calls),
            script_per_lease: each(side.cost.script),
            ..Self::default()
        }
    }

    /// A case against the ceiling.
    pub(super) fn of_case(case: &Case, outcome: &Comparison) -> Self {
        let base = if case.load == Load::Alone { outcome.base.p50 } else { outcome.base.rate };
        Self {
            keys: Some(case.keys),
            base: Some(base),
            ratio: Some(outcome.ratio),
            marks: Mark::of(case, outcome),
            ..Self::of_side(case.name(), &outcome.case)
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = comfy_table::Table::new();
        table
            .load_preset(UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header([
                "case",
                "leases/s",
                "p50 µs",
                "p99 µs",
                "base",
                "ratio (least..greatest)",
                "broker cpu",
                "Redis cpu",
                "calls",
                "script",
                "bytes",
                "marks",
            ]);
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let whole = |number: Option<f64>| right(number.map(grouped).unwrap_or_default());
        let small =
            |number: Option<f64>, digits| right(number.map(|n| format!("{n:.digits$}")).unwrap_or_default());
        for row in &self.rows {
            let ratio = row.ratio.map(|r| format!("{:.2} ({:.2}..{:.2})", r.median, r.least, r.greatest));
            let marks = row.marks.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            table.add_row([
                Cell::new(&row.name),
                whole(row.rate),
                whole(row.p50),
                whole(row.p99),
                whole(row.base),
                right(ratio.unwrap_or_default()),
                small(row.server_cpu, 1),
                small(row.redis_cpu, 1),
                small(row.calls_per_lease, 3),
                small(row.script_per_lease, 1),
                whole(row.bytes),
                Cell::new(marks),
            ]);
        }
        writeln!(f, "{table}")?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

/// A whole number with its thousands apart.
fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = if number <= -0.5 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            ["0", "999", "1,000", "-12,346"],
            [0.0, 999.4, 1000.0, -12345.6].map(grouped).each_ref().map(String::as_str)
        );
    }

    #[test]
    fn a_median_lies_between_its_ends() {
        let spread = Spread::of(vec![4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.least, spread.median, spread.greatest), (1.0, 2.5, 4.0));
        assert!(Spread::of(Vec::new()).is_none());
    }
}
