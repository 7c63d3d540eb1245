//! Every table of the configuration file and every field of it: what may be written, what holds if it is not, and
//! what it means. What is read is looked up here, and so is what `docs/configuration.md` says of it.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::limits;
use super::section::spoken;
use crate::catalogue::{Dollars, Window};

mod tables;

pub use tables::TABLES;
pub(super) use tables::{
    BILLING_ACCOUNT, CONSUMER, HOOK, IDENTITY, JWT, KEY, KUBERNETES, LIMITS, LOG, MARGIN, PLAN, POOL,
    POOL_LIMITS, PRICE, PRIORITY, PROBING, PROJECT, ROOT, SECRETS, TLS, TOTALS, VAULT, WEIGHT,
};

/// A table of the configuration file.
#[derive(Debug)]
pub struct Table {
    /// Its name in the reference.
    pub name: &'static str,
    /// What is written before its fields.
    pub header: &'static str,
    /// Its fields, but for limits.
    pub fields: &'static [Field],
    /// Whether each limit may be a field of it.
    pub limits: bool,
}

/// A field of a table.
#[derive(Debug)]
pub struct Field {
    /// How it is written.
    pub name: &'static str,
    /// What may be written.
    pub range: Range,
    /// What holds if it is not written.
    pub default: Unwritten,
    /// What it means.
    pub what: &'static str,
}

/// What may be written in a field.
#[derive(Debug)]
pub enum Range {
    /// As these words say.
    Words(&'static str),
    /// A whole number.
    Number(RangeInclusive<u64>),
    /// A span of time.
    Span(RangeInclusive<Duration>),
    /// True or false.
    Truth,
    /// An amount of money, here in millionths of a dollar.
    Dollars(RangeInclusive<u64>),
    /// One of some names.
    OneOf(fn() -> Vec<&'static str>),
    /// A list of some of these names.
    ListOf(fn() -> Vec<&'static str>),
}

/// What holds where a field is not written.
#[derive(Debug)]
pub enum Unwritten {
    /// It must be.
    Required,
    /// As these words say; nothing, where there are none.
    Words(&'static str),
    /// A value, as it would be written.
    Value(fn() -> String),
    /// A span of time.
    Span(Duration),
}

impl Table {
    /// The names of all fields.
    pub fn names(&self) -> Vec<&'static str> {
        let limits = limits::FIELDS.iter().map(|(field, ..)| *field).filter(|_| self.limits);
        self.fields.iter().map(|field| field.name).chain(limits).collect()
    }

    /// The table for people, in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| field | unit, range | default | what |\n|---|---|---|---|\n");
        for Field { name, range, default, what } in self.fields {
            let required = if matches!(default, Unwritten::Required) { ", required" } else { "" };
            let _ = writeln!(text, "| `{name}` | {range}{required} | {default} | {what} |");
        }
        if self.limits {
            text.push_str("| any [limit](#limits) | | none | |\n");
        }
        text
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Words(words) => f.write_str(words),
            Self::Number(range) => f.write_str(&numbers(range)),
            Self::Span(range) => write!(f, "span, {} to {}", spoken(*range.start()), spoken(*range.end())),
            Self::Truth => f.write_str("true, false"),
            Self::Dollars(range) => write!(f, "dollars, {}", dollars(range)),
            Self::OneOf(names) => f.write_str(&quoted(&names())),
            Self::ListOf(names) => write!(f, "list of {}", quoted(&names())),
        }
    }
}

impl std::fmt::Display for Unwritten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Required => Ok(()),
            Self::Words(words) => f.write_str(words),
            Self::Value(value) => write!(f, "`{}`", value()),
            Self::Span(span) => write!(f, "`\"{}\"`", spoken(*span)),
        }
    }
}

/// Which limits there are, as rows of what is counted and columns of spans, in Markdown.
fn limits_markdown() -> String {
    let mut spans: Vec<&str> = Vec::new();
    let mut counted: Vec<(&str, Vec<&str>)> = Vec::new();
    for (field, _, window) in limits::FIELDS {
        let (what, span) = match (window, field.split_once("_per_")) {
            (Window::None, _) | (_, None) => (field, None),
            (_, Some((what, span))) => (what, Some(span)),
        };
        spans.extend(span.filter(|span| !spans.contains(span)));
        match counted.last_mut().filter(|(last, _)| *last == what) {
            Some((_, of)) => of.extend(span),
            None => counted.push((what, span.into_iter().collect())),
        }
    }
    let heads: Vec<_> = spans.iter().map(|span| format!("`_per_{span}`")).collect();
    let mut text = format!("| counted | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(spans.len()));
    for (what, of) in counted {
        let cells: Vec<_> = spans.iter().map(|span| if of.contains(span) { "yes" } else { "" }).collect();
        let _ = writeln!(text, "| {} | {} |", tables::counted(what), cells.join(" | "));
    }
    text
}

/// Names as they are written.
fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`\"{name}\"`")).collect::<Vec<_>>().join(", ")
}

/// What a whole number may be.
fn numbers(range: &RangeInclusive<u64>) -> String {
    format!("{} to {}", grouped(*range.start()), grouped(*range.end()))
}

/// A number with its thousands told apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// What a field of money may be, in dollars.
fn dollars(range: &RangeInclusive<u64>) -> String {
    let spoken = |amount: u64| {
        let text = Dollars(amount).to_string();
        text.parse::<u64>().map_or(text, grouped)
    };
    format!("{} to {}", spoken(*range.start()), spoken(*range.end()))
}

/// What a limit may be, in Markdown.
fn amounts_markdown() -> String {
    let (amounts, money) = (numbers(&limits::AMOUNT), dollars(&limits::AMOUNT));
    format!(
        "Range: {amounts}; of `spend`, {money} dollars.
"
    )
}

/// Every table of the reference by its name, in Markdown.
pub fn sections() -> Vec<(&'static str, String)> {
    let tables = TABLES.iter().map(|table| (table.name, table.markdown()));
    [("limit names", limits_markdown()), ("limit amounts", amounts_markdown())]
        .into_iter()
        .chain(tables)
        .collect()
}

/// The whole reference, in Markdown.
pub fn markdown() -> String {
    let section = |(name, text): (&str, String)| format!("## {name}\n\n{text}");
    sections().into_iter().map(section).collect::<Vec<_>>().join("\n")
}
