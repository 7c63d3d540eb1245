//! The request log, a ring of bounded size, and the counters that go with it. No key is ever in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::clock::Moment;

/// One API call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The number of the call, from 1 and never used again, not even after a reset.
    pub seq: u64,
    /// When the call was judged, or answered if it never came to that: microseconds since 1970.
    pub unix_micros: i64,
    /// The same on the monotonic clock, in microseconds since the server started.
    pub micros: u64,
    /// The fingerprint of the key; empty without a key.
    pub key: Arc<str>,
    /// The project of the key; empty if the key is not known.
    pub project: Arc<str>,
    /// The model id asked for; empty for a listing.
    pub model: String,
    /// The family it counts under.
    pub quota_model: String,
    /// The method, such as `generateContent`.
    pub method: String,
    /// The requests the call cost; 0 if it did not count.
    pub requests: u64,
    /// The input tokens of the call; 0 if its body was not looked at.
    pub input_tokens: u64,
    /// The HTTP status; 0 if there was no answer.
    pub status: u16,
    /// The injected fault that ended the call, if one did.
    pub fault: Option<String>,
}

/// A part of the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogPage {
    /// The entries asked for, oldest first.
    pub entries: Vec<LogEntry>,
    /// What to ask for next: the number of the last call so far.
    pub next_since: u64,
    /// How many of the entries asked for the ring no longer holds.
    pub lost: u64,
}

/// The counters of the verdict that are not about quotas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of every kind and outcome.
    pub calls: u64,
    /// Calls with a key in the URL.
    pub keys_in_url: u64,
    /// Calls by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls by the key's fingerprint and by method.
    pub keys: BTreeMap<String, BTreeMap<String, u64>>,
}

#[derive(Debug)]
struct Book {
    since: Moment,
    last_seq: u64,
    // Entries from before a reset are gone but not lost: nobody may want them any more.
    first_kept: u64,
    ring: VecDeque<LogEntry>,
    counters: Counters,
}

/// The log and the counters behind one short lock.
#[derive(Debug)]
pub struct Journal {
    capacity: usize,
    book: Mutex<Book>,
}

impl Journal {
    /// An empty log of this many entries at most.
    pub fn new(capacity: usize, since: Moment) -> Self {
        let book =
            Book { since, last_seq: 0, first_kept: 1, ring: VecDeque::new(), counters: Counters::default() };
        Self { capacity, book: Mutex::new(book) }
    }

    /// Writes one call down and numbers it.
    pub fn record(&self, mut entry: LogEntry, key_in_url: bool) -> u64 {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.last_seq += 1;
        entry.seq = book.last_seq;
        book.counters.calls += 1;
        book.counters.keys_in_url += u64::from(key_in_url);
        *book.counters.statuses.entry(entry.status).or_default() += 1;
        let of_key = book.counters.keys.entry(entry.key.to_string()).or_default();
        *of_key.entry(entry.method.clone()).or_default() += 1;
        if self.capacity > 0 {
            if book.ring.len() == self.capacity {
                book.ring.pop_front();
            }
            book.ring.push_back(entry);
        }
        book.last_seq
    }

    /// The entries numbered above `since`.
    pub fn page(&self, since: u64) -> LogPage {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let start = book.ring.partition_point(|entry| entry.seq <= since);
        let entries: Vec<LogEntry> = book.ring.range(start..).cloned().collect();
        let wanted = (book.last_seq + 1).saturating_sub(book.first_kept.max(since + 1));
        LogPage { lost: wanted - entries.len() as u64, next_since: book.last_seq, entries }
    }

    /// The counters, and the moment they count from.
    pub fn counters(&self) -> (Counters, Moment) {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        (book.counters.clone(), book.since)
    }

    /// Forgets all entries and counts anew from `since`. Numbers go on, so that a reader who follows the
    /// log misses nothing.
    pub fn reset(&self, since: Moment) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.since = since;
        book.first_kept = book.last_seq + 1;
        book.ring.clear();
        book.counters = Counters::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(status: u16) -> LogEntry {
        LogEntry {
            seq: 0,
            unix_micros: 0,
            micros: 0,
            key: "".into(),
            project: "".into(),
            model: String::new(),
            quota_model: String::new(),
            method: String::new(),
            requests: 1,
            input_tokens: 1,
            status,
            fault: None,
        }
    }

    fn start() -> Moment {
        Moment::after(jiff::Timestamp::UNIX_EPOCH, Duration::ZERO)
    }

    #[test]
    fn the_ring_keeps_the_newest_and_says_what_it_lost() {
        let journal = Journal::new(3, start());
        for status in 200..205 {
            journal.record(entry(status), false);
        }
        let page = journal.page(0);
        assert_eq!(page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!((page.next_since, page.lost), (5, 2));
        assert_eq!(journal.page(4).entries.len(), 1);
        assert_eq!(journal.page(5), LogPage { next_since: 5, ..LogPage::default() });
        assert_eq!(journal.page(99).entries, []);
    }

    #[test]
    fn a_reset_empties_the_log_but_never_reuses_a_number() {
        let journal = Journal::new(3, start());
        journal.record(entry(200), true);
        journal.reset(start());
        assert_eq!(journal.page(0), LogPage { next_since: 1, ..LogPage::default() });
        assert_eq!(journal.counters().0, Counters::default());
        assert_eq!(journal.record(entry(200), false), 2);
    }

    #[test]
    fn a_log_of_no_capacity_still_counts() {
        let journal = Journal::new(0, start());
        journal.record(entry(429), true);
        let (counters, _) = journal.counters();
        assert_eq!((counters.calls, counters.keys_in_url, counters.statuses[&429]), (1, 1, 1));
        assert_eq!(journal.page(0).lost, 1);
    }
}
