//! Where a key's text comes from and whether it can be one.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;

use super::fault::{Findings, SHORTEST_KEY};
use super::{Env, section::Section};
use crate::secret::Secret;
use crate::secret_sources::{Fetched, LastValues, Reference};

/// The most characters a key may have.
const LONGEST_KEY: usize = 512;

/// The most bytes read of any file; a larger one is not a configuration.
const LARGEST_FILE: u64 = 8 << 20;

/// Why a text cannot be a key, or nothing if it can. Formats are not judged here: Google has
/// changed them before.
pub(crate) fn malformed(text: &str) -> Option<&'static str> {
    if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        Some("has a control character in it")
    } else if text.chars().any(char::is_whitespace) {
        Some("has whitespace in it")
    } else if !text.is_ascii() {
        Some("has a character in it that is not ASCII")
    } else if text.contains(['"', '\'', '`', '\\']) {
        Some("has a quote or a backslash left over")
    } else if text.starts_with('$') {
        Some("is the name of a variable that was not expanded")
    } else if text.contains([',', ';']) {
        Some("has a separator in it (keys are separated by commas)")
    } else if text.len() < SHORTEST_KEY {
        Some("is shorter than 8 characters")
    } else if text.len() > LONGEST_KEY {
        Some("is longer than 512 characters")
    } else {
        None
    }
}

/// The parts of a text that may each be a key, when whatever should part them is wrong.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || "\"'`,;".contains(c))
}

/// Whether a text begins with a word and a colon, as a reference does.
fn begins_with_a_scheme(text: &str) -> bool {
    text.trim_start().split_once(':').is_some_and(|(scheme, _)| {
        (2..=12).contains(&scheme.len()) && scheme.bytes().all(|byte| byte.is_ascii_alphabetic())
    })
}

/// A file's text. Bytes that are not UTF-8 are refused, as is a file too large to be meant.
pub(super) fn read_file(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if read as u64 > LARGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 8 MiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        io::Error::new(io::ErrorKind::InvalidData, format!("not UTF-8 text (line {line})"))
    })?;
    Ok(Zeroizing::new(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned()))
}

/// Where texts that are not written in place are looked up.
pub(super) struct Lookup<'a> {
    /// The environment.
    pub(super) env: Env<'a>,
    /// What a relative path is relative to.
    pub(super) folder: PathBuf,
    /// Variables that the file took a key from: finding it there again is no surprise.
    pub(super) variables: Vec<String>,
    /// Files that were read, for whoever watches for changes.
    pub(super) files: Vec<PathBuf>,
    /// What was fetched from elsewhere, or why it was not.
    pub(super) fetched: Fetched,
    /// What has to be fetched from elsewhere: gathered by a first reading, of which nothing else is used.
    pub(super) to_fetch: HashMap<String, Reference>,
    /// Where all of Vault's paths begin, if that is configured.
    pub(super) vault_mount: Option<String>,
    /// What texts were when they could last be had.
    pub(super) last: Option<&'a LastValues>,
    /// Every reference that was met.
    pub(super) met: HashSet<String>,
    /// The references of which the last value stands.
    pub(super) failed: Vec<FailedSource>,
}

/// A source that gave nothing that can be used: what it gave before stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedSource {
    /// Where it is referred to.
    pub place: String,
    /// Why, in words that hold nothing of the secret.
    pub why: String,
}

/// Why a text cannot be had or used.
struct Unusable {
    problem: String,
    fix: String,
}

impl Unusable {
    fn new(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: fix.into() }
    }
}

/// Whether a text says where another one lies, by how it begins; else it stands for itself.
fn is_reference(written: &str) -> bool {
    ["env:", "file:", "command:", "vault:"].iter().any(|kind| written.starts_with(kind))
}

impl<'a> Lookup<'a> {
    pub(super) fn new(env: Env<'a>, folder: PathBuf, last: Option<&'a LastValues>) -> Self {
        Self {
            env,
            folder,
            last,
            variables: Vec::new(),
            files: Vec::new(),
            fetched: Fetched::new(),
            to_fetch: HashMap::new(),
            vault_mount: None,
            met: HashSet::new(),
            failed: Vec::new(),
        }
    }

    /// The key that `secret` of a section stands for.
    pub(super) fn secret(&mut self, section: &Section<'_>, found: &mut Findings) -> Option<Secret> {
        let written = section.required_text("secret", found)?;
        let place = section.place_of("secret");
        let sound = |text: &str| match malformed(text.trim()) {
            None => Ok(()),
            Some(problem) => Err(Unusable::new(
                format!("the key {problem}"),
                "give the key's text as Google shows it, or \"env:NAME\", \"file:/path\", \"command:program\" or \"vault:mount/path#field\"",
            )),
        };
        let text = self.checked_text(written, "key", &place, sound, found)?;
        Some(Secret::from(text.trim()))
    }

    /// The text that stands in a field or that the field says where to find, never to be printed.
    /// `noun` is what it is.
    pub(super) fn text(
        &mut self,
        written: &str,
        noun: &str,
        place: &str,
        found: &mut Findings,
    ) -> Option<Zeroizing<String>> {
        self.checked_text(written, noun, place, |_| Ok(()), found)
    }

    /// The same of a text that has to pass a test. Where it cannot be had, or does not pass, what it was before stands.
    fn checked_text(
        &mut self,
        written: &str,
        noun: &str,
        place: &str,
        sound: impl Fn(&str) -> Result<(), Unusable>,
        found: &mut Findings,
    ) -> Option<Zeroizing<String>> {
        let last = self.last.filter(|_| is_reference(written));
        if last.is_some() {
            self.met.insert(written.to_owned());
        }
        let read = self.read(written, noun, found);
        if let Ok(text) = &read {
            found.keep_secret(text.trim());
            words(text).for_each(|word| found.keep_secret(word));
        }
        let unusable = match read.and_then(|text| sound(&text).map(|()| text)) {
            Ok(text) => {
                if let Some(last) = last {
                    last.put(written, &text);
                }
                return Some(text);
            }
            Err(unusable) => unusable,
        };
        let Some(before) = last.and_then(|last| last.get(written)) else {
            found.fault(place, unusable.problem, unusable.fix);
            return None;
        };
        self.failed.push(FailedSource { place: place.to_owned(), why: unusable.problem });
        found.keep_secret(before.expose());
        Some(Zeroizing::new(before.expose().to_owned()))
    }

    fn read(
        &mut self,
        written: &str,
        noun: &str,
        found: &mut Findings,
    ) -> Result<Zeroizing<String>, Unusable> {
        if let Some(name) = written.strip_prefix("env:") {
            return self.variable(name.trim(), noun, found);
        }
        if let Some(path) = written.strip_prefix("file:") {
            return self.first_line(path.trim(), noun, found);
        }
        match Reference::parse(written, self.vault_mount.as_deref()) {
            None if noun == "key" && begins_with_a_scheme(written) => Err(Unusable::new(
                "the key begins with a scheme that is not known",
                "write \"env:NAME\", \"file:/path\", \"command:program\" or \"vault:mount/path#field\"; no key of Google has a colon",
            )),
            None => Ok(Zeroizing::new(written.to_owned())),
            Some(Err(bad)) => Err(Unusable::new(bad.problem, bad.fix)),
            Some(Ok(reference)) => match self.fetched.get(written) {
                Some(Ok(secret)) => Ok(Zeroizing::new(secret.expose().to_owned())),
                Some(Err(why)) => {
                    let fix = if reference.is_of_vault() {
                        "see [vault], and what lies at that path"
                    } else {
                        "name a command that prints it and ends with exit code 0"
                    };
                    Err(Unusable::new(format!("the {noun} {why}"), fix))
                }
                None => {
                    self.to_fetch.insert(written.to_owned(), reference);
                    Err(Unusable::new("is not fetched yet", "try again"))
                }
            },
        }
    }

    /// The text of the file that a field of a section must name, which is watched for changes from now on.
    pub(super) fn file(
        &mut self,
        section: &Section<'_>,
        field: &str,
        what: &str,
        found: &mut Findings,
    ) -> Option<Zeroizing<String>> {
        let path = self.folder.join(section.required_text(field, found)?.trim());
        match read_file(&path) {
            Ok(text) => {
                self.files.push(path);
                Some(text)
            }
            Err(error) => {
                let problem = format!("the file it names cannot be read: {error}");
                found.fault(section.place_of(field), problem, format!("name a readable file with {what}"));
                None
            }
        }
    }

    fn variable(
        &mut self,
        name: &str,
        noun: &str,
        found: &mut Findings,
    ) -> Result<Zeroizing<String>, Unusable> {
        // A name that does not look like one may be a key that was put here by mistake.
        let named = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if !named {
            found.keep_secret(name);
        }
        let shown = if named { format!("the variable {name}") } else { "the variable it names".to_owned() };
        let value = (self.env)(name).map(Zeroizing::new).filter(|value| !value.trim().is_empty());
        let value = value.ok_or_else(|| {
            Unusable::new(format!("{shown} is not set or empty"), format!("set it to the {noun}'s text"))
        })?;
        self.variables.push(name.to_owned());
        Ok(value)
    }

    fn first_line(
        &mut self,
        path: &str,
        noun: &str,
        found: &mut Findings,
    ) -> Result<Zeroizing<String>, Unusable> {
        // The same goes for a path that does not look like one.
        if !path.contains(['/', '.']) {
            found.keep_secret(path);
        }
        let path = self.folder.join(path);
        let text = read_file(&path);
        // Also one that cannot be read is watched: it may come back.
        self.files.push(path);
        let text = text.map_err(|error| {
            Unusable::new(
                format!("the file it names cannot be read: {error}"),
                format!("name a readable file whose first line is the {noun}"),
            )
        })?;
        let line = text.lines().next().unwrap_or_default().trim();
        if line.is_empty() {
            return Err(Unusable::new(
                "the file it names has an empty first line",
                format!("put the {noun} there"),
            ));
        }
        Ok(Zeroizing::new(line.to_owned()))
    }
}
