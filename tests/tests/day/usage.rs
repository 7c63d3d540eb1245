//! What usage must say, row by row, by what was done.

use std::collections::BTreeMap;

use keybroker::ledger::{Amounts, USAGE_MARK, Used};

use crate::fate::Kept;

/// Rows by the end of the Pacific day and the name.
pub(crate) type Rows = BTreeMap<(i64, String), Used>;

/// Whose row something is in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose<'a> {
    pub(crate) consumer: &'a str,
    pub(crate) model: &'a str,
    pub(crate) project: &'a str,
    pub(crate) key: &'a str,
    pub(crate) outcome: &'a str,
}

/// Adds a lease that has ended.
pub(crate) fn add(
    rows: &mut Rows,
    day_end: i64,
    whose: Whose<'_>,
    kept: Kept,
    bound: Amounts,
    actual: Amounts,
    over: bool,
) {
    let Whose { consumer, model, project, key, outcome } = whose;
    let name = [consumer, model, project, key, outcome].join(&USAGE_MARK.to_string());
    let Amounts { permits, input, total, spend } = match kept {
        Kept::Actual => actual,
        Kept::Bound => bound,
        Kept::Nothing => Amounts::default(),
    };
    let over = if over { permits } else { 0 };
    *rows.entry((day_end, name)).or_default() += Used(1, permits, input, total, spend, over);
}

/// The rows in which two accounts of it differ.
pub(crate) fn differences(truth: &Rows, told: &Rows) -> Vec<String> {
    let mut names: Vec<_> = truth.keys().chain(told.keys()).collect();
    names.sort();
    names.dedup();
    let differ = names.into_iter().filter(|name| truth.get(name) != told.get(name));
    differ.map(|name| format!("{name:?}: was {:?}, told {:?}", truth.get(name), told.get(name))).collect()
}
