//! What was found of a stretch of a day.

use std::{collections::BTreeMap, fmt};

use crate::supply::Line;

/// The least share of what was possible that must have been sent.
pub(crate) const LEAST_UTILISATION: f64 = 0.95;
/// Of how many possible requests at least a share says something.
const TELLING: f64 = 100.0;

/// Everything that was found.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Refusals of Google's that were our fault.
    pub(crate) our_fault: Vec<String>,
    /// Limits of the catalogue that were exceeded.
    pub(crate) over: Vec<String>,
    /// Answers of the ledger that were not as they must be.
    pub(crate) wrong: Vec<String>,
    /// Rows of usage that differ from what was done.
    pub(crate) usage: Vec<String>,
    /// Gauges that differ from what is in flight.
    pub(crate) gauges: Vec<String>,
    /// Limits that bound, and how well they were used.
    pub(crate) lines: BTreeMap<String, Line>,
    /// Google's refusals for other people's requests.
    pub(crate) refusals: BTreeMap<&'static str, usize>,
    pub(crate) counts: Counts,
    /// All that happened, if it was asked for.
    pub(crate) trace: Vec<u8>,
}

/// How much of everything there was.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) batches: usize,
    pub(crate) leases: usize,
    pub(crate) refused: usize,
    pub(crate) sent: usize,
    pub(crate) gave_up: usize,
    pub(crate) never_reported: usize,
    pub(crate) late: usize,
    pub(crate) repeated: usize,
    pub(crate) renewed: usize,
    pub(crate) over_plan: usize,
    pub(crate) usage_rows: usize,
    pub(crate) limits: usize,
    pub(crate) limits_reached: usize,
}

impl Verdict {
    /// The limits that bound for long enough.
    pub(crate) fn telling(&self) -> impl Iterator<Item = &String> {
        self.lines.iter().filter(|(_, line)| line.possible >= TELLING).map(|(name, _)| name)
    }

    /// The limits that bound and were not used well.
    pub(crate) fn unused(&self) -> Vec<String> {
        let telling = self.lines.iter().filter(|(_, line)| line.possible >= TELLING);
        let unused = telling.filter(|(_, line)| line.utilisation() < LEAST_UTILISATION);
        unused.map(|(name, line)| format!("{name}: {:.1} %", 100.0 * line.utilisation())).collect()
    }

    /// All that is wrong, shortened.
    pub(crate) fn faults(&self) -> Vec<String> {
        let kinds = [
            ("Google refused", &self.our_fault),
            ("over", &self.over),
            ("wrong", &self.wrong),
            ("usage", &self.usage),
            ("gauge", &self.gauges),
            ("unused", &self.unused()),
        ];
        let first = |(kind, faults): (&str, &Vec<String>)| {
            let number = faults.len();
            faults.iter().take(5).map(move |fault| format!("{kind} ({number}): {fault}")).collect::<Vec<_>>()
        };
        kinds.into_iter().flat_map(first).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}; refused for others' requests: {:?}", self.counts, self.refusals)?;
        writeln!(f, "Too few of those marked with * were possible to tell anything.")?;
        writeln!(
            f,
            "{:<72} {:>8} {:>9} {:>9} {:>8} {:>11} {:>10}",
            "limit that binds", "minutes", "allowed", "possible", "sent", "of possible", "of allowed"
        )?;
        for (name, line) in &self.lines {
            let Line { minutes, allowed, possible, sent, .. } = line;
            let (used, of_allowed) = (100.0 * line.utilisation(), 100.0 * sent / allowed.max(*sent).max(1.0));
            let star = if *possible < TELLING { "*" } else { " " };
            write!(f, "{name:<72} {minutes:>8.1} {allowed:>9.0} {possible:>9.0} {sent:>8.0}")?;
            writeln!(f, " {used:>9.1} %{star} {of_allowed:>8.1} %")?;
        }
        Ok(())
    }
}
