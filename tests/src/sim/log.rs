//! The event log: every event is a line, and the hash of all lines is what two runs of a seed must share.

use std::{collections::VecDeque, fmt};

use keybroker::ledger::Millis;
use sha2::{Digest, Sha256};

/// How many of the last lines are kept for whoever looks for the cause of a violation.
const RECENT: usize = 40;

/// The log of one run.
#[derive(Debug)]
pub struct Log {
    start: Millis,
    hash: Sha256,
    line: String,
    recent: VecDeque<String>,
    whole: Option<Vec<String>>,
    count: usize,
}

impl Log {
    /// An empty log; `whole` keeps every line.
    pub fn new(start: Millis, whole: bool) -> Self {
        Self {
            start,
            hash: Sha256::new(),
            line: String::new(),
            recent: VecDeque::with_capacity(RECENT),
            whole: whole.then(Vec::new),
            count: 0,
        }
    }

    /// Writes a line.
    pub fn write(&mut self, now: Millis, what: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a text does not fail.
        let _ = fmt::write(&mut self.line, format_args!("{} {what}\n", now - self.start));
        self.hash.update(self.line.as_bytes());
        self.count += 1;
        let spare = if self.recent.len() == RECENT { self.recent.pop_front() } else { None };
        let mut kept = spare.unwrap_or_default();
        kept.clear();
        kept.push_str(self.line.trim_end());
        if let Some(whole) = &mut self.whole {
            whole.push(kept.clone());
        }
        self.recent.push_back(kept);
    }

    /// The hash of all lines, how many there are, the last of them, and all of them if they were kept.
    pub fn close(self) -> Closed {
        Closed {
            hash: hex::encode(self.hash.finalize()),
            lines: self.count,
            recent: self.recent.into(),
            whole: self.whole.unwrap_or_default(),
        }
    }
}

/// A log that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The hash of all lines.
    pub hash: String,
    /// How many lines there are.
    pub lines: usize,
    /// The last lines.
    pub recent: Vec<String>,
    /// All lines, if they were asked for.
    pub whole: Vec<String>,
}

/// The first line in which two logs differ, with its number; none if they are the same.
pub fn first_difference(one: &[String], other: &[String]) -> Option<(usize, String, String)> {
    let longest = one.len().max(other.len());
    let line = |log: &[String], at: usize| log.get(at).cloned().unwrap_or_else(|| "(no line)".to_owned());
    (0..longest).find(|at| one.get(*at) != other.get(*at)).map(|at| (at + 1, line(one, at), line(other, at)))
}
