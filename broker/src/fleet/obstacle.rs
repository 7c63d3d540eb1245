//! What stands against a key. Where it lies in another pool, there are also words for those who may not know that
//! pool: they do not say whose it is.

use std::fmt;

/// What stands against a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    text: String,
    elsewhere: Option<Elsewhere>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Elsewhere {
    pool: String,
    /// The text without the names of that pool.
    text: String,
}

impl Obstacle {
    /// One that everybody may be told.
    pub(super) fn open(text: impl Into<String>) -> Self {
        Self { text: text.into(), elsewhere: None }
    }

    /// One that lies in this pool, with the words for those who may not know it.
    pub(super) fn in_pool(pool: &str, text: impl Into<String>, without_names: impl Into<String>) -> Self {
        let elsewhere = Elsewhere { pool: pool.to_owned(), text: without_names.into() };
        Self { text: text.into(), elsewhere: Some(elsewhere) }
    }

    /// The words for somebody who knows these pools.
    pub fn told(&self, knows: impl Fn(&str) -> bool) -> &str {
        match &self.elsewhere {
            Some(elsewhere) if !knows(&elsewhere.pool) => &elsewhere.text,
            _ => &self.text,
        }
    }
}

/// All of it, for the log.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
