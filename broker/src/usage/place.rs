//! What a row of usage is about.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::ledger::USAGE_MARK;

/// What usage can be told apart by, in the order by which rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    /// The Pacific date.
    Date,
    /// The pool.
    Pool,
    /// Who asked.
    Consumer,
    /// The project.
    Project,
    /// The key's id.
    Key,
    /// The quota model.
    QuotaModel,
    /// What came of the lease.
    Outcome,
}

impl Dimension {
    /// Every dimension.
    pub const ALL: [Self; 7] =
        [Self::Date, Self::Pool, Self::Consumer, Self::Project, Self::Key, Self::QuotaModel, Self::Outcome];
}

/// A value for each dimension; empty where rows are not told apart by it. Places sort as rows do,
/// because dates are written so that they sort as texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place([String; 7]);

impl Place {
    /// The place of a row of the ledger.
    pub fn of(date: Date, pool: &str, name: &str) -> Self {
        // From the end: no other part than the consumer could ever hold the mark.
        let mut parts = name.rsplitn(5, USAGE_MARK);
        let mut next = || parts.next().unwrap_or_default().to_owned();
        let (outcome, key, project, quota_model, consumer) = (next(), next(), next(), next(), next());
        Self([date.to_string(), pool.to_owned(), consumer, project, key, quota_model, outcome])
    }

    /// Its value for a dimension.
    pub fn get(&self, dimension: Dimension) -> &str {
        &self.0[dimension as usize]
    }

    /// The same with nothing but these dimensions.
    #[must_use]
    pub fn only(mut self, by: &[Dimension]) -> Self {
        for dimension in Dimension::ALL {
            if !by.contains(&dimension) {
                self.0[dimension as usize].clear();
            }
        }
        self
    }
}
