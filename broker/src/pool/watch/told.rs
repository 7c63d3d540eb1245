//! What was told already, so that it is not told again while nothing has changed.

use std::collections::BTreeMap;

use crate::ledger::Millis;

/// The most that is remembered; beyond it, what has ended is forgotten, and if nothing has, nothing more is
/// remembered.
const MOST: usize = 4096;

/// Texts that stand for what was told, each with the instant until which it is no news.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, Millis>);

impl Told {
    /// Whether it is news at `now`; from then on it is none until `until`.
    pub(super) fn is_news(&mut self, what: &str, now: Millis, until: Millis) -> bool {
        if self.0.get(what).is_some_and(|told_until| *told_until > now) {
            return false;
        }
        if self.0.len() >= MOST {
            self.0.retain(|_, told_until| *told_until > now);
        }
        if self.0.len() < MOST || self.0.contains_key(what) {
            self.0.insert(what.to_owned(), until);
        }
        true
    }

    /// Forgets what was told of an account, which stands at the beginning of the text.
    pub(super) fn forget(&mut self, account: &str) {
        self.0.retain(|what, _| !what.starts_with(account));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_news_again_when_its_time_is_over() {
        let mut told = Told::default();
        assert!(told.is_news("a", 0, 100));
        assert!(!told.is_news("a", 99, 300), "nor does asking make it longer");
        assert!(told.is_news("a", 100, 200));
        assert!(told.is_news("b", 100, 200));
    }

    #[test]
    fn what_was_told_of_an_account_that_is_well_again_is_news_again() {
        let mut told = Told::default();
        assert!(told.is_news("k/0f disabled", 0, 100) && told.is_news("k/1e disabled", 0, 100));
        told.forget("k/0f ");
        assert!(told.is_news("k/0f disabled", 1, 100) && !told.is_news("k/1e disabled", 1, 100));
    }

    #[test]
    fn memory_is_bounded() {
        let mut told = Told::default();
        (0..MOST + 10).for_each(|n| assert!(told.is_news(&n.to_string(), 0, 100)));
        assert_eq!(told.0.len(), MOST);
        assert!(told.is_news("late", 200, 300));
        assert_eq!(told.0.len(), 1);
    }
}
