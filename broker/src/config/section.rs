//! Reading a TOML document field by field, so that every fault of it is found in one pass.
//!
//! A derived deserializer would stop at the first wrong type. It would also quote the offending
//! line, which may hold a key: nothing here ever repeats a value.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Findings;
use super::nearest::nearest;
use super::reference::Table;

/// A document's name and where its lines begin.
pub(super) struct Document {
    name: String,
    line_starts: Vec<usize>,
}

impl Document {
    pub(super) fn new(name: impl Display, text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { name: name.to_string(), line_starts: std::iter::once(0).chain(ends).collect() }
    }

    /// The line that a byte is on, from 1.
    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn place(&self, path: &str, offset: usize) -> String {
        format!("{}:{}: {path}", self.name, self.line(offset))
    }

    /// Where a syntax error stands, by line and column, both from 1.
    pub(super) fn position(&self, text: &str, offset: usize) -> String {
        let line = self.line(offset);
        let before = text.get(self.line_starts[line - 1]..offset).unwrap_or_default();
        format!("{}:{line}:{}", self.name, before.chars().count() + 1)
    }
}

/// One table of a document, with its path.
pub(super) struct Section<'a> {
    document: &'a Document,
    table: &'a DeTable<'a>,
    path: String,
    offset: usize,
}

impl<'a> Section<'a> {
    pub(super) fn root(document: &'a Document, table: &'a Spanned<DeTable<'a>>) -> Self {
        Self { document, table: table.get_ref(), path: String::new(), offset: 0 }
    }

    /// Where this table stands.
    pub(super) fn place(&self) -> String {
        self.document.place(&self.path, self.offset)
    }

    /// Where a field of it stands, or would stand if it were there.
    pub(super) fn place_of(&self, field: &str) -> String {
        let offset = self.table.get(field).map_or(self.offset, |value| value.span().start);
        self.document.place(&self.path_of(field), offset)
    }

    fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// Finds fault with every field that its table does not have.
    pub(super) fn only(&self, table: &Table, found: &mut Findings) {
        let known = table.names();
        for (name, value) in self.table.iter() {
            let text = name.get_ref().as_ref();
            if known.contains(&text) {
                continue;
            }
            keep_texts(value.get_ref(), found);
            let fix = match nearest(text, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            let place = self.document.place(&self.path_of(&speakable(text)), name.span().start);
            found.fault(place, "unknown field", fix);
        }
    }

    /// Whether a field was written at all, rightly or not.
    pub(super) fn has(&self, field: &str) -> bool {
        self.table.contains_key(field)
    }

    /// A field that must be a text.
    pub(super) fn text(&self, field: &str, found: &mut Findings) -> Option<&'a str> {
        match self.table.get(field)?.get_ref() {
            DeValue::String(text) => Some(text.as_ref()),
            other => {
                self.wrong_type(field, other, "text in quotes", found);
                None
            }
        }
    }

    /// The value of a field, if it was written.
    pub(super) fn value(&self, field: &str) -> Option<&'a DeValue<'a>> {
        self.table.get(field).map(Spanned::get_ref)
    }

    /// A field that must be there and be a text.
    pub(super) fn required_text(&self, field: &str, found: &mut Findings) -> Option<&'a str> {
        if !self.has(field) {
            found.fault(self.place(), format!("has no `{field}`"), format!("add {field} = \"...\""));
        }
        self.text(field, found)
    }

    /// A field that, if it is there, must be an id.
    pub(super) fn id(&self, field: &str, found: &mut Findings) -> Option<&'a str> {
        let text = self.text(field, found)?;
        self.checked_name(field, text, is_id, ID_RULE, found)
    }

    /// A field that must be there and be an id; `example` is one.
    pub(super) fn required_id(&self, field: &str, example: &str, found: &mut Findings) -> Option<&'a str> {
        if !self.has(field) {
            found.fault(self.place(), format!("has no `{field}`"), format!("add {field} = \"{example}\""));
        }
        self.id(field, found)
    }

    /// A text that passed a test and will be printed later, or nothing and a fault.
    pub(super) fn checked_name(
        &self,
        field: &str,
        text: &'a str,
        test: fn(&str) -> bool,
        rule: &str,
        found: &mut Findings,
    ) -> Option<&'a str> {
        let place = self.place_of(field);
        if !test(text) {
            found.fault(place, "is not a valid name", rule);
            return None;
        }
        found.keep_name(&place, text);
        Some(text)
    }

    /// A field that, if it is there, must be a whole number within a range.
    pub(super) fn number(
        &self,
        field: &str,
        range: RangeInclusive<u64>,
        found: &mut Findings,
    ) -> Option<u64> {
        let expected = format!("a whole number, {} to {}", range.start(), range.end());
        match self.table.get(field)?.get_ref() {
            DeValue::Integer(integer) => {
                let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
                let number = number.filter(|number| range.contains(number));
                if number.is_none() {
                    found.fault(self.place_of(field), "is out of range", format!("write {expected}"));
                }
                number
            }
            other => {
                self.wrong_type(field, other, &expected, found);
                None
            }
        }
    }

    /// A field that, if it is there, must be a span of whole milliseconds within a range.
    pub(super) fn duration(
        &self,
        field: &str,
        range: RangeInclusive<Duration>,
        found: &mut Findings,
    ) -> Option<Duration> {
        let text = self.text(field, found)?;
        let (least, most) = (spoken(*range.start()), spoken(*range.end()));
        let fix = format!("write {least} to {most}, such as {field} = \"{least}\"");
        let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
        let problem = match parsed {
            None => "is not a duration",
            Some(span) if !range.contains(&span) => "is out of range",
            Some(span) if span.subsec_nanos() % 1_000_000 != 0 => "is not a whole number of milliseconds",
            Some(span) => return Some(span),
        };
        found.fault(self.place_of(field), problem, fix);
        None
    }

    /// A field that, if it is there, must be a table.
    pub(super) fn table(&self, field: &str, found: &mut Findings) -> Option<Self> {
        let value = self.table.get(field)?;
        let (path, offset) = (self.path_of(field), value.span().start);
        match value.get_ref() {
            DeValue::Table(table) => Some(Self { document: self.document, table, path, offset }),
            other => {
                let expected = format!("a table, such as {{ {} }}", example(field));
                self.wrong_type(field, other, &expected, found);
                None
            }
        }
    }

    /// The tables of an array of tables.
    pub(super) fn sections(&self, field: &str, found: &mut Findings) -> Vec<Section<'a>> {
        let Some(value) = self.table.get(field) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(field, value.get_ref(), "a list of tables", found);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(field));
            let (document, offset) = (self.document, item.span().start);
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Self { document, table, path, offset }),
                other => {
                    keep_texts(other, found);
                    let fix = format!("write a table here, such as {{ {} }}", example(field));
                    found.fault(document.place(&path, offset), format!("is {}", kind(other)), fix);
                }
            }
        }
        sections
    }

    /// The texts of a list, with the place of each; a list without any is a fault, since it would
    /// say less than no list. `example` is a list that is right.
    pub(super) fn texts(&self, field: &str, example: &str, found: &mut Findings) -> Vec<(&'a str, String)> {
        let Some(value) = self.table.get(field) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(field, value.get_ref(), &format!("a list of texts, such as {example}"), found);
            return Vec::new();
        };
        if items.is_empty() {
            found.fault(self.place_of(field), "is an empty list", format!("write one such as {example}"));
        }
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = self.document.place(&format!("{}[{index}]", self.path_of(field)), item.span().start);
            match item.get_ref() {
                DeValue::String(text) => texts.push((text.as_ref(), place)),
                other => {
                    keep_texts(other, found);
                    found.fault(place, format!("is {}", kind(other)), "write text in quotes");
                }
            }
        }
        texts
    }

    /// A table whose values are all texts, as names, values and the place of each.
    pub(super) fn pairs(&self, field: &str, found: &mut Findings) -> Vec<(&'a str, &'a str, String)> {
        let Some(value) = self.table.get(field) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(field, value.get_ref(), "a table of texts", found);
            return Vec::new();
        };
        let mut pairs = Vec::with_capacity(table.len());
        for (name, value) in table.iter() {
            let name_text: &'a str = name.get_ref().as_ref();
            let path = format!("{}.{}", self.path_of(field), speakable(name_text));
            let place = self.document.place(&path, name.span().start);
            match value.get_ref() {
                DeValue::String(text) => pairs.push((name_text, text.as_ref(), place)),
                other => found.fault(place, format!("is {}", kind(other)), "write text in quotes"),
            }
        }
        pairs
    }

    /// Finds fault with a value of another type than the expected one.
    pub(super) fn wrong_type(&self, field: &str, value: &DeValue<'_>, expected: &str, found: &mut Findings) {
        keep_texts(value, found);
        found.fault(self.place_of(field), format!("is {}", kind(value)), format!("write {expected}"));
    }
}

/// What an id may be, as a fix.
pub(crate) const ID_RULE: &str = "use 1 to 63 letters, digits, dots, hyphens and underscores";

/// Whether a text can be an id.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// A span of time as it would be written.
pub(super) fn spoken(span: Duration) -> String {
    match span.as_secs() {
        0 if span.is_zero() => "0s".to_owned(),
        0 => format!("{span:?}"),
        _ if span.subsec_nanos() > 0 => format!("{span:?}"),
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 && seconds > 60 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// A name from the document as it may be shown. One that has not the looks of a field is masked,
/// since a key may have been put where a name belongs: field names have few digits, keys many.
fn speakable(name: &str) -> String {
    let letters = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let plain = (1..=32).contains(&name.len()) && name.chars().all(letters);
    if plain && name.chars().filter(char::is_ascii_digit).count() <= 3 {
        name.to_owned()
    } else {
        "…".to_owned()
    }
}

/// Remembers the texts of a value that is not understood, if they are as long as keys are: they may
/// be keys that a misspelt field keeps from being known as such.
fn keep_texts(value: &DeValue<'_>, found: &mut Findings) {
    const AS_LONG_AS_A_KEY: usize = 20;
    match value {
        DeValue::String(text) if text.len() >= AS_LONG_AS_A_KEY => found.keep_secret(text),
        DeValue::Array(items) => items.iter().for_each(|item| keep_texts(item.get_ref(), found)),
        DeValue::Table(table) => table.values().for_each(|value| keep_texts(value.get_ref(), found)),
        _ => {}
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn example(field: &str) -> &'static str {
    match field {
        "keys" => "secret = \"env:NAME\"",
        "limits" | "model_totals" => "model = \"*\", requests_per_minute = 10",
        "totals" => "requests_per_day = 1000",
        "projects" => "id = \"team-a\"",
        "billing_accounts" => "id = \"account-a\", totals = { spend_per_month = 250 }",
        "prices" => "model = \"*\", input_per_million = 0.3, output_per_million = 2.5",
        "plans" => "name = \"team\", requests_per_minute = 10",
        "consumers" => "id = \"someone@example.com\", plan = \"team\"",
        "hooks" => "name = \"alerts\", events = [\"*\"], url = \"env:NAME\"",
        "probing" => "enabled = false",
        "log" => "level = \"info\"",
        "identities" => "name = \"nightly-report\", roles = [\"worker\"], token_sha256 = [\"...\"]",
        "tls" => "cert_file = \"tls.crt\", key_file = \"tls.key\"",
        "jwt" => "issuer = \"https://...\", audience = \"keybroker\", jwks_file = \"jwks.json\"",
        _ => "name = \"default\"",
    }
}
