//! Takes key texts out of messages.

use std::collections::{BTreeSet, HashSet};

use crate::secret::{Secret, key_marks, mask};

/// How long a word that begins like one of Google's keys must be to be taken for one.
const SHORTEST_LOOKALIKE: usize = 24;

/// Every known key text, indexed so that a message is cleaned in one pass however many there are.
pub(super) struct Cleaner<'a> {
    texts: HashSet<&'a str>,
    lengths: BTreeSet<usize>,
}

impl<'a> Cleaner<'a> {
    pub(super) fn new(secrets: &'a [Secret]) -> Self {
        let texts: HashSet<_> = secrets.iter().map(Secret::expose).filter(|text| !text.is_empty()).collect();
        let lengths = texts.iter().map(|text| text.len()).collect();
        Self { texts, lengths }
    }

    /// A text with every known key in it masked, and every word that begins like one of Google's.
    pub(super) fn clean(&self, text: &str) -> String {
        mask_lookalikes(&self.mask_known(text))
    }

    fn mask_known(&self, text: &str) -> String {
        let mut cleaned = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            match self.known_at(rest) {
                Some(known) => {
                    cleaned.push_str(&mask(known));
                    rest = &rest[known.len()..];
                }
                None => {
                    cleaned.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        cleaned
    }

    /// The longest known text that begins here: a key that begins another one must not leave the
    /// other's end behind.
    fn known_at<'t>(&self, text: &'t str) -> Option<&'t str> {
        let candidates = self.lengths.iter().rev().filter_map(|length| text.get(..*length));
        candidates.into_iter().find(|candidate| self.texts.contains(candidate))
    }
}

fn mask_lookalikes(text: &str) -> String {
    let in_key = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(in_key) {
        let (between, word) = rest.split_at(start);
        let (word, after) = word.split_at(word.find(|c| !in_key(c)).unwrap_or(word.len()));
        cleaned.push_str(between);
        match key_marks().filter_map(|mark| word.find(mark)).min() {
            Some(at) if word.len() - at >= SHORTEST_LOOKALIKE => {
                cleaned.push_str(&word[..at]);
                cleaned.push_str(&mask(&word[at..]));
            }
            _ => cleaned.push_str(word),
        }
        rest = after;
    }
    cleaned.push_str(rest);
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_masked_the_longest_first() {
        let secrets = [Secret::from("test-key-aaaaaaaa"), Secret::from("test-key-aaaaaaaa-0001")];
        let cleaner = Cleaner::new(&secrets);
        assert_eq!(cleaner.clean("é bad (test-key-aaaaaaaa-0001)!"), "é bad (…0001)!");
        assert_eq!(cleaner.clean("test-key-aaaaaaaa"), "…aaaa");
        assert_eq!(cleaner.clean("nothing to hide"), "nothing to hide");
    }

    #[test]
    fn words_that_begin_like_googles_keys_are_masked_unknown_as_they_are() {
        let cleaner = Cleaner::new(&[]);
        let lookalike = format!("{}{}9z", "AIza", "B".repeat(24));
        assert_eq!(cleaner.clean(&format!("key={lookalike},")), "key=…BB9z,");
        assert_eq!(cleaner.clean("AIza is how they begin"), "AIza is how they begin");
    }
}
