//! Usage as text, page by page: a table for people, CSV and JSON for programs.

use keybroker_proto::v1::UsageRow;

use super::{super::Failure, args::UsageArgs, column::Columns};
use crate::{catalogue::Dollars, ledger::Used, usage::Sums};

/// Usage in one of its forms; nothing of a page is held once it is written.
pub(super) struct Sheet {
    columns: Columns,
    form: Form,
    begun: bool,
}

enum Form {
    Table(Table),
    Csv,
    Json,
}

/// A table whose columns only ever grow, with the sums of all rows.
#[derive(Default)]
struct Table {
    widths: Vec<usize>,
    sums: Sums,
}

impl Sheet {
    /// An empty one.
    pub(super) fn new(args: &UsageArgs, columns: Columns) -> Self {
        let form = match (args.csv, args.broker.json) {
            (true, _) => Form::Csv,
            (_, true) => Form::Json,
            _ => Form::Table(Table::default()),
        };
        Self { columns, form, begun: false }
    }

    /// The text of a page, after that of the pages before.
    pub(super) fn rows(&mut self, rows: &[UsageRow]) -> Result<String, Failure> {
        let first = !std::mem::replace(&mut self.begun, true);
        let columns = &self.columns;
        match &mut self.form {
            Form::Table(table) => Ok(table.rows(columns, rows, first)),
            Form::Csv => csv(columns, rows, first),
            Form::Json => {
                let mut text = if first { "[".to_owned() } else { String::new() };
                for (index, row) in rows.iter().enumerate() {
                    text.push_str(if first && index == 0 { "\n  " } else { ",\n  " });
                    text.push_str(&columns.object(row).to_string());
                }
                Ok(text)
            }
        }
    }

    /// What follows the last page.
    pub(super) fn end(&mut self) -> String {
        match &mut self.form {
            Form::Table(table) => table.end(&self.columns),
            Form::Csv => String::new(),
            Form::Json => "\n]\n".to_owned(),
        }
    }
}

fn csv(columns: &Columns, rows: &[UsageRow], first: bool) -> Result<String, Failure> {
    let unwritten =
        |error: &dyn std::fmt::Display| Failure::Failed(format!("CSV cannot be written: {error}"));
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    if first {
        writer.write_record(columns.names()).map_err(|error| unwritten(&error))?;
    }
    for row in rows {
        writer.write_record(columns.record(row)).map_err(|error| unwritten(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| unwritten(&error))?;
    String::from_utf8(bytes).map_err(|error| unwritten(&error))
}

impl Table {
    fn rows(&mut self, columns: &Columns, rows: &[UsageRow], first: bool) -> String {
        for row in rows {
            let (tokens, spend) = ((row.input_tokens, row.total_tokens), row.spend_micros);
            self.sums += Used(row.leases, row.requests, tokens.0, tokens.1, spend, row.requests_over_plan);
        }
        let titles = first.then(|| columns.titles());
        let lines: Vec<_> = titles.into_iter().chain(rows.iter().map(|row| columns.cells(row))).collect();
        self.lines(columns.texts(), &lines)
    }

    fn end(&mut self, columns: &Columns) -> String {
        let sums = self.sums;
        let all = UsageRow {
            leases: sums.leases,
            requests: sums.requests,
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens(),
            total_tokens: sums.total_tokens,
            spend_usd: Dollars(sums.spend.max(0).unsigned_abs()).to_string(),
            requests_over_plan: sums.over_plan,
            ..UsageRow::default()
        };
        let mut line = columns.cells(&all);
        line[..columns.texts()].fill(String::new());
        "total".clone_into(&mut line[0]);
        self.lines(columns.texts(), &[line])
    }

    /// Texts stand to the left, numbers to the right.
    fn lines(&mut self, texts: usize, lines: &[Vec<String>]) -> String {
        for line in lines {
            self.widths.resize(line.len(), 0);
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for line in lines {
            let cells = line.iter().zip(&self.widths).enumerate().map(|(index, (cell, width))| {
                if index < texts { format!("{cell:width$}") } else { format!("{cell:>width$}") }
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}
