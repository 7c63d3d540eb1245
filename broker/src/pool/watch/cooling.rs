//! The accounts that are cooling down, and when that is over.

use std::collections::BTreeMap;

use crate::ledger::{Millis, account::Account};

/// An account that is cooling down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cooldown {
    /// Until when, as last seen.
    pub(super) until: Millis,
    /// Why.
    pub(super) reason: String,
}

/// What cools down, by account.
#[derive(Debug, Default)]
pub(super) struct Cooling(BTreeMap<String, Cooldown>);

impl Cooling {
    /// Takes in an account as it stands. A cooldown that was not known is noted in silence; one that was
    /// known and is over is returned, once.
    pub(super) fn observe(&mut self, account: &str, row: Option<&Account>, now: Millis) -> Option<Cooldown> {
        let blocked = row.filter(|row| row.blocked_until > now);
        if let Some(row) = blocked {
            let cooldown = Cooldown { until: row.blocked_until, reason: row.reason.clone() };
            self.0.insert(account.to_owned(), cooldown);
            return None;
        }
        // A key is not well again because its time is over, but once a request with it succeeded.
        if is_key(account) && row.is_some_and(|row| row.probing) {
            return None;
        }
        self.0.remove(account)
    }

    /// Notes a cooldown that began, for as long as the ledger's row does not say otherwise.
    pub(super) fn begun(&mut self, account: &str, until: Millis, reason: &str) {
        let cooldown = Cooldown { until, reason: reason.to_owned() };
        self.0.entry(account.to_owned()).or_insert(cooldown);
    }

    /// The accounts.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Whether nothing is cooling.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first end that is still to come.
    pub(super) fn next_end(&self, now: Millis) -> Option<Millis> {
        self.0.values().map(|cooldown| cooldown.until).filter(|until| *until > now).min()
    }
}

/// Whether an account stands for a key itself.
pub(super) fn is_key(account: &str) -> bool {
    account.starts_with("k/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(blocked_until: Millis, probing: bool) -> Account {
        Account { blocked_until, probing, reason: "minute_quota".to_owned(), ..Account::default() }
    }

    #[test]
    fn an_end_is_told_once_and_not_before_its_instant() {
        let mut cooling = Cooling::default();
        assert_eq!(cooling.observe("q/a/m", Some(&row(100, true)), 50), None);
        assert_eq!(cooling.next_end(50), Some(100));
        assert_eq!(cooling.observe("q/a/m", Some(&row(100, true)), 99), None);
        let ended = cooling.observe("q/a/m", Some(&row(100, true)), 100).unwrap();
        assert_eq!((ended.until, ended.reason.as_str()), (100, "minute_quota"));
        assert_eq!(cooling.observe("q/a/m", Some(&row(100, true)), 101), None);
        assert!(cooling.is_empty());
    }

    #[test]
    fn a_cooldown_that_another_broker_lengthened_ends_later() {
        let mut cooling = Cooling::default();
        cooling.begun("q/a/m", 100, "minute_quota");
        assert_eq!(cooling.observe("q/a/m", Some(&row(500, true)), 100), None);
        assert_eq!(cooling.next_end(100), Some(500));
        assert_eq!(cooling.observe("q/a/m", Some(&row(500, true)), 500).unwrap().until, 500);
    }

    #[test]
    fn a_key_is_well_again_only_after_its_probe_succeeded() {
        let mut cooling = Cooling::default();
        cooling.begun("k/0f", 100, "key_invalid");
        assert_eq!(cooling.observe("k/0f", Some(&row(100, true)), 200), None);
        assert_eq!(cooling.next_end(200), None, "there is no instant to wait for");
        assert!(!cooling.is_empty());
        assert!(cooling.observe("k/0f", Some(&row(100, false)), 300).is_some());
    }

    #[test]
    fn an_account_without_a_row_is_not_cooling() {
        let mut cooling = Cooling::default();
        assert_eq!(cooling.observe("k/0f", None, 0), None);
        cooling.begun("k/0f", 100, "key_invalid");
        assert!(cooling.observe("k/0f", None, 0).is_some(), "an operator may have ended it early");
    }
}
