//! What was looked at, and what was found there.

use serde::Serialize;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    /// A broker does not start, or does not do what it is for.
    Error,
    /// It works, and is likely not what is wanted.
    Warning,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// By which programs know it; it does not change.
    pub(super) id: &'static str,
    pub(super) severity: Severity,
    /// What is concerned: a file, an address, a variable, a key.
    pub(super) place: String,
    pub(super) what: String,
    /// What to do about it.
    pub(super) fix: String,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    /// What was seen there.
    pub(super) seen: String,
    pub(super) skipped: bool,
    pub(super) findings: Vec<Finding>,
}

impl Check {
    pub(super) fn of(name: &'static str) -> Self {
        Self { name, seen: String::new(), skipped: false, findings: Vec::new() }
    }

    pub(super) fn skipped(name: &'static str, why: &str) -> Self {
        Self { seen: why.to_owned(), skipped: true, ..Self::of(name) }
    }

    pub(super) fn error(&mut self, id: &'static str, place: impl ToString, what: impl ToString, fix: &str) {
        self.add(Severity::Error, id, place, what, fix);
    }

    pub(super) fn warning(&mut self, id: &'static str, place: impl ToString, what: impl ToString, fix: &str) {
        self.add(Severity::Warning, id, place, what, fix);
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        id: &'static str,
        place: impl ToString,
        what: impl ToString,
        fix: &str,
    ) {
        let (place, what) = (place.to_string(), what.to_string());
        self.findings.push(Finding { id, severity, place, what, fix: fix.to_owned() });
    }
}
