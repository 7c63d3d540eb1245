//! The columns of usage: what a row is about, then its numbers.

use clap::ValueEnum;
use keybroker_proto::v1::UsageRow;
use serde_json::{Map, Value};

use super::{super::print, args::By};

/// What rows are told apart by; each is a column.
pub(super) struct Columns(Vec<By>);

/// The names of the numbers, as CSV and JSON have them.
const NUMBERS: [&str; 8] = [
    "leases",
    "requests",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "spend_micros",
    "spend_usd",
    "requests_over_plan",
];

impl Columns {
    /// Those that are asked for; all if none is.
    pub(super) fn of(by: &[By]) -> Self {
        let all = By::value_variants().iter();
        Self(all.filter(|column| by.is_empty() || by.contains(column)).copied().collect())
    }

    /// How many columns say what a row is about.
    pub(super) fn texts(&self) -> usize {
        self.0.len()
    }

    /// The names that CSV and JSON have.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let name = |by: &By| match by {
            By::Day => "date",
            By::Pool => "pool",
            By::Consumer => "consumer",
            By::Project => "project",
            By::Key => "key_id",
            By::Model => "quota_model",
            By::Outcome => "outcome",
        };
        self.0.iter().map(name).chain(NUMBERS).collect()
    }

    /// The titles for people.
    pub(super) fn titles(&self) -> Vec<String> {
        let title =
            |by: &By| by.to_possible_value().map_or_else(String::new, |by| by.get_name().to_uppercase());
        let numbers = ["LEASES", "REQUESTS", "INPUT", "OUTPUT", "TOKENS", "USD", "OVER PLAN"];
        self.0.iter().map(title).chain(numbers.map(str::to_owned)).collect()
    }

    /// What a row is about.
    fn about<'a>(&self, row: &'a UsageRow) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(move |by| match by {
            By::Day => row.date.as_str(),
            By::Pool => &row.pool,
            By::Consumer => &row.consumer,
            By::Project => &row.project,
            By::Key => &row.key_id,
            By::Model => &row.quota_model,
            By::Outcome => &row.outcome,
        })
    }

    /// A row for people.
    pub(super) fn cells(&self, row: &UsageRow) -> Vec<String> {
        let numbers = [row.leases, row.requests, row.input_tokens, row.output_tokens, row.total_tokens];
        let numbers = numbers.map(|number| number.to_string());
        let rest = [row.spend_usd.clone(), row.requests_over_plan.to_string()];
        self.about(row).map(print::or_none).chain(numbers).chain(rest).collect()
    }

    /// A row of CSV.
    pub(super) fn record(&self, row: &UsageRow) -> Vec<String> {
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.about(row).map(str::to_owned).chain(numbers(row).map(text)).collect()
    }

    /// A row of JSON.
    pub(super) fn object(&self, row: &UsageRow) -> Value {
        let values = self.about(row).map(Value::from).chain(numbers(row));
        let named = self.names().into_iter().map(str::to_owned).zip(values);
        Value::Object(named.collect::<Map<String, Value>>())
    }
}

/// The numbers of a row, in the order of [`NUMBERS`].
fn numbers(row: &UsageRow) -> impl Iterator<Item = Value> {
    let tokens = [row.leases, row.requests, row.input_tokens, row.output_tokens, row.total_tokens];
    let spend = [Value::from(row.spend_micros), Value::from(row.spend_usd.as_str())];
    tokens.map(Value::from).into_iter().chain(spend).chain([Value::from(row.requests_over_plan)])
}
