//! Fault by topology: how often, how much over, how much lost, how soon well again.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{checker::Promise, fault::Fault, run::Outcome, topology::Topology};

/// One fault on one topology.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cell {
    /// How often it happened.
    pub runs: usize,
    /// Limits that were exceeded, and requests that Gemini refused.
    pub over_spend: usize,
    /// Leases and reports that the ledger lost, and leases granted twice.
    pub lost: usize,
    /// Everything else that was broken.
    pub other: usize,
    /// The longest recovery, in seconds.
    pub worst_recovery: f64,
    /// The longest that is stated for these runs, in seconds.
    pub stated_recovery: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Table {
    cells: BTreeMap<(Fault, Topology), Cell>,
    runs: usize,
    granted: usize,
    arrived: usize,
    late: usize,
    forgotten: usize,
    before: usize,
}

/// A row of the file.
#[derive(Debug, Serialize)]
struct Row<'a> {
    fault: Fault,
    topology: Topology,
    #[serde(flatten)]
    cell: &'a Cell,
}

impl Table {
    /// Takes in a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.granted += outcome.granted;
        self.arrived += outcome.arrived;
        self.late += outcome.late;
        self.forgotten += outcome.forgotten;
        let topology = outcome.plan.topology;
        for suffered in &outcome.suffered {
            let cell = self.cells.entry((suffered.fault, topology)).or_default();
            cell.runs += 1;
            let stated = outcome.plan.recovers_within(suffered.fault).as_secs();
            cell.stated_recovery = cell.stated_recovery.max(stated);
            let recovery = suffered.recovery.unwrap_or(Duration::ZERO).as_secs_f64();
            cell.worst_recovery = cell.worst_recovery.max(recovery);
        }
        for violation in &outcome.violations {
            let Some(fault) = outcome.blamed(violation) else {
                self.before += 1;
                continue;
            };
            let cell = self.cells.entry((fault, topology)).or_default();
            match violation.promise {
                Promise::NoOverSpend => cell.over_spend += 1,
                Promise::NothingLost | Promise::GrantedOnce => cell.lost += 1,
                Promise::GaugesReturn | Promise::Recovery | Promise::Running => cell.other += 1,
            }
        }
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.cells.iter().map(|((fault, topology), cell)| Row { fault: *fault, topology: *topology, cell })
    }

    /// What all runs saw, in one line.
    pub fn summary(&self) -> String {
        let sum = |of: fn(&Cell) -> usize| self.cells.values().map(of).sum::<usize>();
        let (strikes, over, lost, other) = (
            sum(|cell| cell.runs),
            sum(|cell| cell.over_spend),
            sum(|cell| cell.lost),
            sum(|cell| cell.other),
        );
        format!(
            "{} runs, {strikes} faults, {} leases granted, {} requests at Gemini ({} of them late, from a frozen \
             worker): over-spend {over}, lost {lost}, other violations {other}, and {} before any fault; {} leases were \
             not looked for, since a broker and then a Redis that keeps nothing had ended",
            self.runs, self.granted, self.arrived, self.late, self.before, self.forgotten
        )
    }

    /// As Markdown: a row for each fault, a column for each topology.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| fault |");
        for topology in Topology::ALL {
            text.push_str(&format!(" {topology} |"));
        }
        text.push_str("\n|---|");
        text.push_str(&"---|".repeat(Topology::ALL.len()));
        for fault in Fault::ALL {
            text.push_str(&format!("\n| {fault} |"));
            for topology in Topology::ALL {
                text.push_str(&match self.cells.get(&(fault, topology)) {
                    Some(cell) => format!(" {} |", told(cell)),
                    None if fault.strikes(topology) => " none |".to_owned(),
                    None => " - |".to_owned(),
                });
            }
        }
        text.push_str(
            "\n\nEach cell: runs / over-spend / lost / other violations, and the longest recovery of the time that is \
             stated. `-`: cannot happen there.\n",
        );
        text
    }

    /// As JSON: an object for each fault on each topology.
    ///
    /// # Errors
    /// Never in practice: it is plain data.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&self.rows().collect::<Vec<_>>())
    }
}

fn told(cell: &Cell) -> String {
    let Cell { runs, over_spend, lost, other, worst_recovery, stated_recovery } = cell;
    format!("{runs} / {over_spend} / {lost} / {other}, {worst_recovery:.1} of {stated_recovery} s")
}
