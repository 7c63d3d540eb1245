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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        usage: UsageArgs,
    }

    /// Two pages of one row each, as one text.
    fn written(arguments: &[&str]) -> String {
        let arguments = ["usage", "--by", "consumer"].iter().chain(arguments);
        let args = Line::try_parse_from(arguments).map_err(|error| error.to_string()).unwrap().usage;
        let columns = Columns::of(&args.by);
        let mut sheet = Sheet::new(&args, columns);
        let row = |consumer: &str, leases| UsageRow {
            consumer: consumer.to_owned(),
            leases,
            spend_micros: 1_500_000,
            spend_usd: "1.5".to_owned(),
            ..UsageRow::default()
        };
        let pages = [vec![row("ann", 1)], vec![row("a longer name", 12)]];
        let mut text: String =
            pages.iter().map(|rows| sheet.rows(rows).map_err(|_| "it is written").unwrap()).collect();
        text.push_str(&sheet.end());
        text
    }

    #[test]
    fn pages_of_csv_have_one_header() {
        let names = "consumer,leases,requests,input_tokens,output_tokens,total_tokens,spend_micros,spend_usd,\
                     requests_over_plan";
        let rows = "ann,1,0,0,0,0,1500000,1.5,0\r\na longer name,12,0,0,0,0,1500000,1.5,0\r\n";
        assert_eq!(written(&["--csv"]), format!("{names}\r\n{rows}"));
    }

    #[test]
    fn pages_of_json_are_one_list() {
        let rows: serde_json::Value = serde_json::from_str(&written(&["--json"])).unwrap();
        assert_eq!((&rows[0]["consumer"], &rows[1]["leases"]), (&"ann".into(), &12.into()));
        assert_eq!(rows.as_array().unwrap().len(), 2);
    }

    #[test]
    fn pages_of_a_table_end_with_their_sums() {
        assert_eq!(
            written(&[]),
            "CONSUMER  LEASES  REQUESTS  INPUT  OUTPUT  TOKENS  USD  OVER PLAN\n\
             ann            1         0      0       0       0  1.5          0\n\
             a longer name      12         0      0       0       0  1.5          0\n\
             total              13         0      0       0       0    3          0\n"
        );
    }
}
