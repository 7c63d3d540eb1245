//! Texts that hold no secret, by their type.

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{gemini, secret::Secret};

/// The most characters of a text that are shown.
const LONGEST: usize = 256;
/// Stands where a secret was.
const MASK: &str = "***";

/// A text that a [`Redactor`] has seen: it holds no key, no control character and not much of anything.
///
/// An event is made of these, so that nobody who writes one has to remember to redact.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Redacted(String);

impl Redacted {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes keys out of texts. It knows the keys themselves; their forms are known anyway.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    keys: Arc<[Secret]>,
    // Of the keys: a shorter text holds none.
    shortest: usize,
}

impl Redactor {
    /// A redactor that knows these keys.
    pub fn new(keys: impl IntoIterator<Item = Secret>) -> Self {
        let keys: Arc<[Secret]> = keys.into_iter().filter(|key| !key.expose().is_empty()).collect();
        Self { shortest: keys.iter().map(|key| key.expose().len()).min().unwrap_or_default(), keys }
    }

    /// Whether both know the same keys.
    pub fn knows_what(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    /// A whole short text, such as an id or a label.
    pub fn text(&self, text: &str) -> Redacted {
        let mut shown = text.to_owned();
        let keys = if text.len() < self.shortest { &[] } else { &*self.keys };
        for key in keys.iter().map(Secret::expose) {
            if shown.contains(key) {
                shown = shown.replace(key, MASK);
            }
        }
        // The keys are out; what is left are forms of keys that nobody configured here.
        let shown = gemini::redact(shown.as_bytes(), std::iter::empty());
        Redacted(shown.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect())
    }

    /// Output of another program, which may be cut anywhere and need not be text.
    pub fn output(&self, bytes: &[u8]) -> String {
        gemini::redact(bytes, self.keys.iter().map(Secret::expose))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        Redactor::new([Secret::from("fake-key-of-team-a")])
    }

    #[test]
    fn a_key_of_the_pool_is_masked_wherever_it_stands() {
        let text = redactor().text("user fake-key-of-team-a, again fake-key-of-team-a");
        assert_eq!(text.as_str(), "user ***, again ***");
        assert_eq!(redactor().output(b"login with fake-key-of-team-a"), "login with ***");
    }

    #[test]
    fn what_has_the_form_of_a_key_is_masked_also_if_nobody_knows_it() {
        assert_eq!(redactor().text("AIzaFAKEFAKEFAKE").as_str(), "***");
        assert_eq!(redactor().text("Bearer fake-token").as_str(), "Bearer ***");
    }

    #[test]
    fn a_text_that_ends_like_a_key_begins_is_left_alone() {
        assert_eq!(redactor().text("not-fake").as_str(), "not-fake");
    }

    #[test]
    fn control_characters_and_length_are_bounded() {
        assert_eq!(redactor().text("a\n\u{1b}[2Jb").as_str(), "a  [2Jb");
        assert_eq!(redactor().text(&"é".repeat(1000)).as_str().chars().count(), LONGEST);
    }
}
