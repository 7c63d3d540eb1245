//! What a day is run on: the catalogue, and the two days of the year that are not 24 hours long.

use std::collections::HashMap;

use keybroker::{
    catalogue::{self, Catalogue, Limit, Window},
    config::{Sources, load},
    ledger::{Dimension, Span},
};

pub(crate) const SECOND: i64 = 1_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;

/// A Pacific day, by the instants that Google's documentation and the law of California give; no time
/// zone database is asked.
#[derive(Debug)]
pub(crate) struct PacificDay {
    pub(crate) date: &'static str,
    /// Its first instant.
    pub(crate) dawn: i64,
    /// The first instant of the next day.
    pub(crate) dusk: i64,
    /// Whether it is the first of a month.
    first: bool,
}

/// 2026-03-08, from 08:00 UTC to 07:00 UTC of the next day: 23 hours.
pub(crate) const SPRING: PacificDay =
    PacificDay { date: "2026-03-08", dawn: 1_772_956_800_000, dusk: 1_773_039_600_000, first: false };
/// 2026-11-01, from 07:00 UTC to 08:00 UTC of the next day: 25 hours.
pub(crate) const AUTUMN: PacificDay =
    PacificDay { date: "2026-11-01", dawn: 1_793_516_400_000, dusk: 1_793_606_400_000, first: true };

impl PacificDay {
    /// The number of the day in which an instant lies: 1 is this one.
    pub(crate) fn day_of(&self, at: i64) -> usize {
        usize::from(at >= self.dawn) + usize::from(at >= self.dusk)
    }

    /// The number of the month.
    pub(crate) fn month_of(&self, at: i64) -> usize {
        usize::from(self.first && at >= self.dawn)
    }

    /// When the day ends in which an instant lies.
    pub(crate) fn day_end(&self, at: i64) -> i64 {
        [self.dawn, self.dusk, self.dusk + 24 * HOUR][self.day_of(at)]
    }
}

/// Where a key stands.
#[derive(Debug)]
pub(crate) struct KeyPlace {
    pub(crate) pool: String,
    pub(crate) project: String,
    pub(crate) account: Option<String>,
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// The catalogue, read the way a broker reads it.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) catalogue: Catalogue,
    pub(crate) digest: String,
    pub(crate) keys: Vec<KeyPlace>,
    key_numbers: HashMap<String, usize>,
}

impl Setting {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a small file");
        let file = folder.path().join("keybroker.toml");
        std::fs::write(&file, include_str!("catalogue.toml")).expect("the folder is ours");
        let loaded = load(&Sources::new(Some(file), &|_| None));
        let catalogue = loaded.unwrap_or_else(|error| panic!("{error}")).catalogue;
        let mut keys = Vec::new();
        for (pool, project) in catalogue.projects() {
            keys.extend(project.keys.iter().map(|key| KeyPlace {
                pool: pool.name.clone(),
                project: project.id.clone(),
                account: project.billing_account.clone(),
                id: key.id.clone(),
                secret: key.secret.expose().to_owned(),
            }));
        }
        let key_numbers = keys.iter().enumerate().map(|(number, key)| (key.id.clone(), number)).collect();
        Self { digest: catalogue.digest(), catalogue, keys, key_numbers }
    }

    pub(crate) fn pool(&self, name: &str) -> &catalogue::Pool {
        &self.catalogue.pools[name]
    }

    pub(crate) fn key_number(&self, id: &str) -> usize {
        self.key_numbers[id]
    }
}

/// What a limit of the catalogue counts, and for how long, in the words of the ledger.
pub(crate) fn measure(limit: &Limit) -> (Dimension, Span) {
    let dimension = match limit.dimension {
        catalogue::Dimension::Requests => Dimension::Requests,
        catalogue::Dimension::InputTokens => Dimension::InputTokens,
        catalogue::Dimension::TotalTokens => Dimension::TotalTokens,
        catalogue::Dimension::Spend => Dimension::Spend,
        catalogue::Dimension::InFlight => Dimension::InFlight,
    };
    let span = match limit.window {
        Window::Trailing(seconds) => Span::Trailing(i64::from(seconds) * SECOND),
        Window::PacificDay => Span::Day,
        Window::Month => Span::Month,
        Window::None => Span::Held,
    };
    (dimension, span)
}
