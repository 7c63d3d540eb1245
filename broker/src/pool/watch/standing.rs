//! How many keys of a pool are able to serve a quota model, and when that is news.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{
    events::EventKind,
    ledger::{Millis, account::Account},
};

/// A pool that was short of keys so recently is not told to be so again. A pool whose minutes are spent
/// swings every minute, and that is one piece of news.
const QUIET: Duration = Duration::from_secs(60);

/// When a key with these accounts is able to serve the smallest request; `now` if it is. An account
/// without a row has nothing against it.
pub(super) fn able_at<'a>(
    accounts: impl Iterator<Item = &'a String>,
    rows: &HashMap<String, Account>,
    now: Millis,
) -> Millis {
    accounts.filter_map(|id| rows.get(id)).map(|row| row.smallest_at(now)).max().unwrap_or(now)
}

/// What was seen of a quota model.
#[derive(Debug, Default)]
pub(super) struct Standing {
    nearly: Option<Instant>,
    exhausted: Option<Instant>,
}

impl Standing {
    /// Takes in how many keys of how many are able now; returns what is news.
    pub(super) fn observe(&mut self, able: usize, keys: usize, now: Instant) -> Option<EventKind> {
        let lately = |seen: Option<Instant>| seen.is_some_and(|seen| now - seen < QUIET);
        let (was_nearly, was_exhausted) = (lately(self.nearly), lately(self.exhausted));
        match able {
            0 => {
                // An exhausted pool that gets one key back is not news of its own.
                (self.nearly, self.exhausted) = (Some(now), Some(now));
                (!was_exhausted).then_some(EventKind::PoolExhausted)
            }
            // A pool of one key is always down to one.
            1 if keys > 1 => {
                self.nearly = Some(now);
                (!was_nearly).then_some(EventKind::PoolNearlyExhausted)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventKind::{PoolExhausted, PoolNearlyExhausted};

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn getting_short_is_told_once_for_each_step() {
        let (mut standing, start) = (Standing::default(), Instant::now());
        assert_eq!(standing.observe(5, 5, start), None);
        assert_eq!(standing.observe(1, 5, after(start, 1)), Some(PoolNearlyExhausted));
        assert_eq!(standing.observe(1, 5, after(start, 2)), None);
        assert_eq!(standing.observe(0, 5, after(start, 3)), Some(PoolExhausted));
        assert_eq!(standing.observe(0, 5, after(start, 4)), None);
    }

    #[test]
    fn a_pool_that_swings_within_a_minute_is_told_once() {
        let (mut standing, start) = (Standing::default(), Instant::now());
        assert_eq!(standing.observe(0, 5, start), Some(PoolExhausted));
        for swing in 1..20 {
            assert_eq!(standing.observe(5, 5, after(start, swing * 50 - 20)), None);
            assert_eq!(standing.observe(1, 5, after(start, swing * 50 - 10)), None);
            assert_eq!(standing.observe(0, 5, after(start, swing * 50)), None);
        }
    }

    #[test]
    fn a_pool_that_was_well_for_a_minute_is_told_again() {
        let (mut standing, start) = (Standing::default(), Instant::now());
        assert_eq!(standing.observe(0, 5, start), Some(PoolExhausted));
        assert_eq!(standing.observe(1, 5, after(start, 30)), None);
        assert_eq!(standing.observe(0, 5, after(start, 60)), Some(PoolExhausted));
        assert_eq!(standing.observe(1, 5, after(start, 120)), Some(PoolNearlyExhausted));
    }

    #[test]
    fn a_pool_of_one_key_is_never_nearly_exhausted() {
        let (mut standing, start) = (Standing::default(), Instant::now());
        assert_eq!(standing.observe(1, 1, start), None);
        assert_eq!(standing.observe(0, 1, start), Some(PoolExhausted));
    }

    #[test]
    fn a_key_is_able_when_all_of_its_accounts_are() {
        let accounts = ["q/a/m", "k/0f", "p/a"].map(str::to_owned);
        let blocked = |until| Account { blocked_until: until, ..Account::default() };
        let mut rows = HashMap::new();
        assert_eq!(able_at(accounts.iter(), &rows, 10), 10);
        rows.insert("q/a/m".to_owned(), blocked(50));
        rows.insert("k/0f".to_owned(), blocked(70));
        rows.insert("p/other".to_owned(), blocked(99));
        assert_eq!(able_at(accounts.iter(), &rows, 10), 70);
        assert_eq!(able_at(accounts.iter(), &rows, 70), 70);
    }
}
