//! Many keys at once: one a line, or CSV with the names of its columns on the first line.

use std::collections::{BTreeMap, HashMap};

use secrecy::zeroize::Zeroizing;

use super::{
    Fleet, FleetError, KeyFields, Obstacle, Placed,
    assembly::Misfit,
    fields::{Faults, check_id},
    keys::{create, derived_id},
    view::key_resource,
};
use crate::{
    catalogue::Tier,
    config::nearest,
    registry::{Action, Edit, Who},
    secret::{HOLDS_A_KEY, Secret, holds_a_key},
};

/// How many keys one import may hold.
pub const MOST_LINES: usize = 5000;

const COLUMNS: [&str; 8] =
    ["api_key", "id", "project", "tier", "billing_account", "weight", "priority", "labels"];

/// How the data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportFormat {
    /// CSV if the first line names a column `api_key`, else one key a line.
    Guess,
    /// One key a line.
    Lines,
    /// CSV.
    Csv,
}

/// What is to be imported.
pub struct Import<'a> {
    /// The pool that the keys come into.
    pub pool: &'a str,
    /// The data.
    pub data: &'a [u8],
    /// How it is written.
    pub format: ImportFormat,
    /// What holds for lines that do not say otherwise.
    pub defaults: KeyFields,
    /// Only says what would come of it.
    pub validate_only: bool,
}

/// What came of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedLine {
    /// Its number, from 1.
    pub line: usize,
    /// The key's text, masked.
    pub preview: String,
    /// What came of it.
    pub outcome: ImportOutcome,
}

/// What came of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportOutcome {
    /// This key was created, or would be: its resource name.
    Created(String),
    /// Its text is there already.
    Duplicate(Obstacle),
    /// Something in it is wrong.
    Invalid(Obstacle),
}

/// A line that holds a key.
struct Line {
    number: usize,
    id: String,
    fields: KeyFields,
    faults: Faults,
}

impl Fleet {
    /// Creates all keys that can be created, and says of each line what came of it.
    ///
    /// # Errors
    /// If the data as a whole cannot be read, or there is no master key or no such pool.
    pub async fn import_keys(&self, import: &Import<'_>, who: &Who) -> Result<Vec<ImportedLine>, FleetError> {
        let mut faults = Faults::new();
        if import.defaults.secret.is_some() {
            faults
                .push(("defaults.api_key".to_owned(), "is set; each line has a text of its own".to_owned()));
        }
        import.defaults.check(&mut faults);
        for (field, _) in &mut faults {
            *field = field.replacen("key.", "defaults.", 1);
        }
        let lines = read(import, &mut faults);
        if !faults.is_empty() {
            return Err(FleetError::Invalid(faults));
        }
        if self.master_keys.is_none() {
            return Err(FleetError::NoMasterKey);
        }
        // Sealed once: the decision may be made several times.
        let mut sealed = HashMap::new();
        for line in lines.iter().filter(|line| line.faults.is_empty()) {
            if let Some(secret) = &line.fields.secret {
                sealed.insert(line.number, self.sealed_key(import.pool, &line.id, &line.fields, secret)?);
            }
        }
        let decide = |placed: &Placed| -> Result<(Vec<Edit>, Vec<ImportedLine>), FleetError> {
            placed.check_pool(import.pool)?;
            let mut assembly = placed.assembly_without("");
            let mut first_lines: HashMap<&str, usize> = HashMap::new();
            let (mut edits, mut results) = (Vec::new(), Vec::with_capacity(lines.len()));
            for line in &lines {
                let outcome = match sealed.get(&line.number) {
                    None => {
                        let why = FleetError::Invalid(line.faults.clone()).to_string();
                        ImportOutcome::Invalid(Obstacle::open(why))
                    }
                    Some(key) => match assembly.add_key(key, Secret::from("")) {
                        Ok(()) => {
                            first_lines.insert(&key.id, line.number);
                            edits.push(create(Action::ImportKey, key));
                            ImportOutcome::Created(key_resource(&key.pool, &key.id))
                        }
                        Err(Misfit::SameText { key: other, pool }) => {
                            ImportOutcome::Duplicate(match first_lines.get(other.as_str()) {
                                Some(first) => Obstacle::open(format!("the same key stands on line {first}")),
                                None => Obstacle::in_pool(
                                    &pool,
                                    format!("the key {other} has this text already"),
                                    "another key has this text already",
                                ),
                            })
                        }
                        Err(Misfit::IdTaken(_)) => ImportOutcome::Invalid(Obstacle::open(format!(
                            "id {} is taken by another key",
                            key.id
                        ))),
                        Err(misfit) => ImportOutcome::Invalid(misfit.obstacle()),
                    },
                };
                let preview = line.fields.secret.as_ref().map(ToString::to_string).unwrap_or_default();
                results.push(ImportedLine { line: line.number, preview, outcome });
            }
            Ok((edits, results))
        };
        if import.validate_only {
            self.refresh().await?;
            return Ok(decide(&self.placed())?.1);
        }
        let results = std::sync::Mutex::new(Vec::new());
        self.change(who, |placed| {
            let (edits, decided) = decide(placed)?;
            *results.lock().expect("no holder of this lock panics") = decided;
            Ok(edits)
        })
        .await?;
        Ok(results.into_inner().expect("no holder of this lock panics"))
    }
}

fn read(import: &Import<'_>, faults: &mut Faults) -> Vec<Line> {
    let mut fault = |wrong: String| faults.push(("data".to_owned(), wrong));
    let Ok(text) = std::str::from_utf8(import.data) else {
        fault("is not UTF-8 text".to_owned());
        return Vec::new();
    };
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let names_a_key = first.split(',').any(|column| column.trim().trim_matches('"') == COLUMNS[0]);
    let csv = match import.format {
        ImportFormat::Guess => names_a_key,
        ImportFormat::Lines => false,
        ImportFormat::Csv => true,
    };
    let lines = if csv { read_csv(text) } else { Ok(read_lines(text)) };
    let lines = match lines {
        Ok(lines) => lines,
        Err(wrong) => {
            fault(wrong);
            return Vec::new();
        }
    };
    match lines.len() {
        0 => fault("holds no key; write one key a line, or CSV with a column api_key".to_owned()),
        count if count > MOST_LINES => {
            fault(format!("holds {count} keys; import at most {MOST_LINES} at once"));
        }
        _ => {}
    }
    lines.into_iter().map(|line| finish(line, &import.defaults)).collect()
}

/// A line as it is written: column and text.
type Written = (usize, Zeroizing<Texts>);

/// Texts by column, wiped when they are dropped.
#[derive(Default)]
struct Texts(BTreeMap<&'static str, String>);

impl secrecy::zeroize::Zeroize for Texts {
    fn zeroize(&mut self) {
        self.0.values_mut().for_each(secrecy::zeroize::Zeroize::zeroize);
    }
}

fn read_lines(text: &str) -> Vec<Written> {
    let lines = text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim();
        // A key has no whitespace, so a note after one is told from it by the space before.
        let line = line.split_once(" #").map_or(line, |(key, _)| key.trim_end());
        let texts = Texts(BTreeMap::from([(COLUMNS[0], line.to_owned())]));
        (!line.is_empty() && !line.starts_with('#')).then(|| (index + 1, Zeroizing::new(texts)))
    });
    lines.collect()
}

fn read_csv(text: &str) -> Result<Vec<Written>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let unreadable = |error: &csv::Error| {
        let line = error.position().map_or(0, csv::Position::line);
        format!("cannot be read as CSV (line {line})")
    };
    let header = reader.headers().map_err(|error| unreadable(&error))?.clone();
    let mut columns = Vec::new();
    for (index, name) in header.iter().enumerate() {
        match COLUMNS.iter().find(|known| **known == name) {
            Some(known) if columns.contains(known) => return Err(format!("has two columns {known}")),
            Some(known) => columns.push(*known),
            // A name that is unknown may be a key: the file may have no names at all.
            None => {
                let known = COLUMNS.join(", ");
                let meant = nearest(name, COLUMNS).map(|meant| format!("; did you mean {meant}?"));
                let meant = meant.unwrap_or_default();
                return Err(format!(
                    "has an unknown column {} on its first line{meant}; known are: {known}",
                    index + 1
                ));
            }
        }
    }
    if !columns.contains(&COLUMNS[0]) {
        return Err("has no column api_key on its first line".to_owned());
    }
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| unreadable(&error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let texts = columns.iter().zip(&record).filter(|(_, text)| !text.is_empty());
        let texts = texts.map(|(column, text)| (*column, text.to_owned())).collect();
        lines.push((usize::try_from(line).unwrap_or(0), Zeroizing::new(Texts(texts))));
    }
    Ok(lines)
}

fn finish((number, written): Written, defaults: &KeyFields) -> Line {
    let mut faults = Faults::new();
    let text = |column: &str| written.0.get(column).map(String::as_str);
    let secret = text("api_key").map(Secret::from);
    let number_of = |column: &str, faults: &mut Faults| {
        let parsed = text(column)?.parse::<i64>().ok();
        if parsed.is_none() {
            faults.push((column.to_owned(), "is not a whole number".to_owned()));
        }
        parsed
    };
    let tier = text("tier").and_then(|tier| match tier.to_ascii_lowercase().as_str() {
        "free" => Some(Tier::Free),
        "paid" => Some(Tier::Paid),
        "unknown" => Some(Tier::Unknown),
        _ => {
            faults.push(("tier".to_owned(), "is not a tier; write free or paid, or nothing".to_owned()));
            None
        }
    });
    let labels = text("labels").map(|labels| {
        let pairs = labels.split(';').filter(|pair| !pair.trim().is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
    });
    let fields = KeyFields {
        project: text("project").map(str::to_owned),
        billing_account: text("billing_account").map(str::to_owned),
        weight: number_of("weight", &mut faults),
        priority: number_of("priority", &mut faults),
        tier,
        labels,
        limits: None,
        secret,
    }
    .or(defaults);
    if fields.secret.is_none() {
        faults.push(("api_key".to_owned(), "is empty".to_owned()));
    }
    let mut of_fields = Faults::new();
    fields.check(&mut of_fields);
    faults.extend(of_fields.into_iter().map(|(field, wrong)| (field.replacen("key.", "", 1), wrong)));
    let id = match (text("id"), &fields.secret) {
        (Some(id), secret) => {
            check_id("id", id, &mut faults);
            if secret.as_ref().is_some_and(|secret| id.contains(secret.expose())) && !holds_a_key(id) {
                faults.push(("id".to_owned(), HOLDS_A_KEY.to_owned()));
            }
            id.to_owned()
        }
        (None, Some(secret)) => derived_id(secret),
        (None, None) => String::new(),
    };
    Line { number, id, fields, faults }
}
