//! What of the usage is asked for, and how it is read from the ledger.

use std::collections::BTreeMap;

use jiff::{ToSpan, civil::Date};

use super::{Dimension, Place, Sums};
use crate::ledger::{Ledger, LedgerError, calendar::day_end_of};

/// How many days are read at most, and for how many usage is kept.
pub const LONGEST_SPAN: i32 = 400;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The pools.
    pub pools: Vec<String>,
    /// The first Pacific day.
    pub from: Date,
    /// The last one, included.
    pub to: Date,
    /// What a row must have; nothing is said of other dimensions.
    pub only: BTreeMap<Dimension, String>,
    /// By what rows are told apart.
    pub by: Vec<Dimension>,
}

/// A row of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is about.
    pub place: Place,
    /// How much was used.
    pub sums: Sums,
}

/// A part of the answer, sorted by place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// Whether more follow.
    pub more: bool,
}

type Rows = BTreeMap<Place, Sums>;

impl Query {
    /// The rows that follow a place, so many at most. Where rows are told apart by date, only the days
    /// of the page are read, and only one is held at a time.
    ///
    /// # Errors
    /// If the ledger gives no answer.
    pub async fn page(
        &self,
        ledger: &dyn Ledger,
        after: Option<&Place>,
        size: usize,
    ) -> Result<Page, LedgerError> {
        let mut found = Vec::new();
        let mut rows = Rows::new();
        for day in self.days(after) {
            self.add_day(ledger, day, &mut rows).await?;
            if self.by.contains(&Dimension::Date) {
                take(std::mem::take(&mut rows), after, size + 1, &mut found);
                if found.len() > size {
                    break;
                }
            }
            // The embedded ledger answers without a pause: let others have their turn.
            tokio::task::yield_now().await;
        }
        take(rows, after, size + 1, &mut found);
        let more = found.len() > size;
        found.truncate(size);
        Ok(Page { rows: found, more })
    }

    /// The days to read; those before the place are done.
    fn days(&self, after: Option<&Place>) -> impl Iterator<Item = Date> + use<> {
        let reached = after.and_then(|after| after.get(Dimension::Date).parse().ok());
        let first = reached.map_or(self.from, |reached: Date| reached.max(self.from));
        let to = self.to;
        first.series(1.day()).take_while(move |day| *day <= to)
    }

    async fn add_day(&self, ledger: &dyn Ledger, day: Date, rows: &mut Rows) -> Result<(), LedgerError> {
        for pool in &self.pools {
            for row in ledger.usage(pool, &[day_end_of(day)]).await? {
                let place = Place::of(day, pool, &row.name);
                if self.only.iter().all(|(dimension, wanted)| place.get(*dimension) == wanted) {
                    *rows.entry(place.only(&self.by)).or_default() += row.used;
                }
            }
        }
        Ok(())
    }
}

/// Moves rows that follow a place, until so many are found.
fn take(rows: Rows, after: Option<&Place>, most: usize, found: &mut Vec<Row>) {
    let following = rows.into_iter().filter(|(place, _)| after.is_none_or(|after| place > after));
    let room = most.saturating_sub(found.len());
    found.extend(following.take(room).map(|(place, sums)| Row { place, sums }));
}
