//! The text of a key: masked by its type wherever it is printed, wiped when it is dropped.

use std::{fmt, ops::RangeInclusive};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Secrets shorter than this many characters show nothing at all, since four characters of a
/// short text would be a large part of it.
const SHORTEST_WITH_A_TAIL: usize = 12;

/// How many characters of a longer secret may be seen, at its end.
const TAIL: usize = 4;

/// Separates these digests from every other use of SHA-256, here or elsewhere, so that one
/// cannot be looked up in a table made for another purpose.
const FINGERPRINT_DOMAIN: &[u8] = b"keybroker.v1/key-fingerprint\0";

/// The text of a credential.
///
/// `Debug` and `Display` show at most its last four characters (`…wxyz`), so a secret that
/// reaches a log by accident stays one. The memory is zeroed when the value is dropped. The text
/// itself is had by [`Secret::expose`] alone, which makes every use of it easy to find.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a text. The text is moved, not copied, so no second copy stays behind.
    pub fn new(text: String) -> Self {
        // Shrinking a string with spare room may move it; the old place is wiped by copying
        // into a text of the exact size first.
        if text.capacity() == text.len() {
            return Self(SecretString::from(text));
        }
        let text = Zeroizing::new(text);
        Self(SecretString::from(text.as_str()))
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The fingerprint of this text; see [`fingerprint`].
    pub fn fingerprint(&self) -> String {
        fingerprint(self.expose())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(self.expose()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(SecretString::from(text))
    }
}

/// The masked form of a text that is or may be a key: `…` and its last four characters, or `…`
/// alone if the text is shorter than twelve characters or ends in anything but visible ASCII
/// (which keeps control characters out of terminals and logs).
pub fn mask(text: &str) -> String {
    let length = text.chars().count();
    if length < SHORTEST_WITH_A_TAIL {
        return "…".to_owned();
    }
    let tail: String = text.chars().skip(length - TAIL).collect();
    if tail.chars().all(|c| c.is_ascii_graphic()) { format!("…{tail}") } else { "…".to_owned() }
}

/// The shortest that Google's keys are known to be is 39 characters; names that people choose are shorter than this.
const LONGEST_NAME_SHOWN: usize = 24;

/// How a name is repeated that somebody gave and nobody knows. It may be a key that was put in the wrong place, so a
/// long one is masked.
pub fn unknown_name(name: &str) -> String {
    if name.len() > LONGEST_NAME_SHOWN { mask(name) } else { name.to_owned() }
}

/// The formats of the keys that Google is known to give out: how one begins, and how many characters follow.
const KEY_FORMATS: [(&str, RangeInclusive<usize>); 2] = [("AIza", 35..=35), ("AQ.", 40..=64)];

/// How Google's keys begin.
pub(crate) fn key_marks() -> impl Iterator<Item = &'static str> {
    KEY_FORMATS.iter().map(|(mark, _)| *mark)
}

/// Whether a text has one of the formats of Google's keys.
pub(crate) fn has_key_format(text: &str) -> bool {
    KEY_FORMATS.iter().any(|(mark, lengths)| {
        text.strip_prefix(mark)
            .is_some_and(|rest| lengths.contains(&rest.len()) && rest.bytes().all(|byte| is_of_key(&byte)))
    })
}

/// What is wrong with such a text that somebody chose: it is written down where no key may stand.
pub(crate) const HOLDS_A_KEY: &str = "holds the text of an API key; a key is given as api_key alone";

/// Whether a text that somebody chose has one of Google's keys in it.
pub(crate) fn holds_a_key(text: &str) -> bool {
    KEY_FORMATS.iter().any(|(mark, lengths)| {
        let least = *lengths.start();
        text.len() >= mark.len() + least
            && text.match_indices(mark).any(|(at, _)| {
                let rest = &text.as_bytes()[at + mark.len()..];
                rest.iter().take(least).filter(|byte| is_of_key(byte)).count() == least
            })
    })
}

fn is_of_key(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-".contains(byte)
}

/// The fingerprint of a key: 16 hex characters by which it is known in the ledger, the logs and
/// the metrics, the same on every host.
///
/// It is the first 64 bits of a domain-separated SHA-256. Nothing can be reversed out of it: the
/// digest keeps 64 bits of a key that has more than 200 random ones, so a vast number of texts
/// share each fingerprint, and the only attack is to guess whole keys, which their randomness
/// forbids. That argument needs the randomness: a guessable text (a password) would be found by
/// trying guesses, so only generated keys may be given to it. It tells keys apart, it does not
/// authenticate: whoever can choose key texts can, at the cost of about 2^32 tries, make two
/// alike.
pub fn fingerprint(key: &str) -> String {
    let digest = Sha256::new().chain_update(FINGERPRINT_DOMAIN).chain_update(key.as_bytes()).finalize();
    hex::encode(&digest[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_only_the_last_four_characters() {
        let secret = Secret::from("test-key-aaaaaaaa-wxyz");
        assert_eq!(secret.to_string(), "…wxyz");
        assert_eq!(format!("{secret:?}"), "Secret(…wxyz)");
        assert_eq!(secret.expose(), "test-key-aaaaaaaa-wxyz");
    }

    #[test]
    fn shows_nothing_of_a_short_or_unprintable_secret() {
        assert_eq!(mask("elevenchars"), "…");
        assert_eq!(mask("twelve-chars"), "…hars");
        assert_eq!(mask(""), "…");
        assert_eq!(mask("a-long-enough-text\u{1b}[2J"), "…");
        assert_eq!(mask("a-long-enough-textéééé"), "…");
    }

    #[test]
    fn a_name_that_nobody_knows_is_shown_if_it_is_too_short_for_a_key() {
        assert_eq!(unknown_name("nightly-batch"), "nightly-batch");
        assert_eq!(unknown_name("test-key-aaaaaaaaaaaaaaaa-wxyz"), "…wxyz");
    }

    #[test]
    fn a_key_within_a_text_is_seen() {
        let (former, newer) = (format!("AIza{}", "x".repeat(35)), format!("AQ.{}", "x".repeat(50)));
        for text in [former.clone(), format!("leaked: {former}."), newer, format!("AIza {former}")] {
            assert!(holds_a_key(&text), "{text}");
        }
        for text in ["", "gemini-2.5-flash", "AIza", &former[..38], &format!("AIza{}", "é".repeat(40))] {
            assert!(!holds_a_key(text), "{text}");
        }
    }

    #[test]
    fn a_fingerprint_tells_keys_apart_and_is_the_same_everywhere() {
        let first = fingerprint("test-key-aaaaaaaa-0001");
        assert_eq!(first.len(), 16);
        assert_ne!(first, fingerprint("test-key-aaaaaaaa-0002"));
        assert_eq!(first, Secret::new("test-key-aaaaaaaa-0001".to_owned()).fingerprint());
    }
}
