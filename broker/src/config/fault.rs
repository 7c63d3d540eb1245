//! What is wrong with a configuration, and the one place that gathers and cleans it.

use std::fmt;

use super::cleaner::Cleaner;
use crate::secret::Secret;

/// One thing that must be put right before the configuration can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: a variable, or a file, line and path such as `keys.toml:12: projects[1].keys[0].weight`.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.problem, self.fix)
    }
}

/// One thing that was passed over or that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where, as in [`Fault::place`].
    pub place: String,
    /// What was seen and what was made of it.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// Why there is no catalogue: every fault found, not the first alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
    /// What was warned of besides, since it may explain a fault (skipped keys, for one).
    pub warnings: Vec<Warning>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.faults.len() == 1 { "fault" } else { "faults" };
        write!(f, "the configuration has {} {noun}", self.faults.len())?;
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        for warning in &self.warnings {
            write!(f, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}

/// What has been found so far, and every key text met on the way.
///
/// The texts are kept to clean all messages of them at the end, whatever route they took there.
#[derive(Default)]
pub(super) struct Findings {
    faults: Vec<Fault>,
    warnings: Vec<Warning>,
    secrets: Vec<Secret>,
    names: Vec<(String, String)>,
}

impl Findings {
    pub(super) fn fault(&mut self, place: impl ToString, problem: impl ToString, fix: impl ToString) {
        let (place, problem, fix) = (place.to_string(), problem.to_string(), fix.to_string());
        self.faults.push(Fault { place, problem, fix });
    }

    pub(super) fn warn(&mut self, place: impl ToString, text: impl ToString) {
        self.warnings.push(Warning { place: place.to_string(), text: text.to_string() });
    }

    /// Remembers a text that may be a key, so that it is never printed.
    pub(super) fn keep_secret(&mut self, text: &str) {
        if text.len() >= SHORTEST_KEY {
            self.secrets.push(Secret::from(text));
        }
    }

    /// Remembers a text that will be printed by others, to be held against the keys at the end.
    pub(super) fn keep_name(&mut self, place: &str, text: &str) {
        self.names.push((place.to_owned(), text.to_owned()));
    }

    pub(super) fn faultless(&self) -> bool {
        self.faults.is_empty()
    }

    /// The warnings if there is no fault, the error if there is; no key text in either.
    pub(super) fn finish(mut self) -> Result<Vec<Warning>, ConfigError> {
        let secrets = std::mem::take(&mut self.secrets);
        let cleaner = Cleaner::new(&secrets);
        for (place, name) in std::mem::take(&mut self.names) {
            if cleaner.clean(&name) != name {
                self.fault(place, "holds the text of a key, but is printed in logs", "choose another name");
            }
        }
        for warning in &mut self.warnings {
            warning.place = cleaner.clean(&warning.place);
            warning.text = cleaner.clean(&warning.text);
        }
        for fault in &mut self.faults {
            fault.place = cleaner.clean(&fault.place);
            fault.problem = cleaner.clean(&fault.problem);
            fault.fix = cleaner.clean(&fault.fix);
        }
        if self.faults.is_empty() {
            return Ok(self.warnings);
        }
        Err(ConfigError { faults: self.faults, warnings: self.warnings })
    }
}

/// The fewest characters a key may have.
pub(super) const SHORTEST_KEY: usize = 8;
