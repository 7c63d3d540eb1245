//! Which names, mostly of quota models, a rule is for.

use std::fmt;
use std::str::FromStr;

/// Which names a rule is for: those of quota models, pools or consumers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamePattern {
    /// `*`: every one.
    Any,
    /// `gemini-2.5-*`: every one that starts so. Holds the text before the star.
    Prefix(String),
    /// `gemini-2.5-flash`: this one.
    Exact(String),
}

/// A model id without the resource prefix that some clients write.
pub(super) fn bare_model(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

impl NamePattern {
    /// Reads a name, a beginning with one star at its end, or a star alone; `test` says what is a name.
    pub fn read(text: &str, test: impl Fn(&str) -> bool) -> Option<Self> {
        let (name, starred) = text.strip_suffix('*').map_or((text, false), |name| (name, true));
        match (test(name), starred) {
            (_, true) if name.is_empty() => Some(Self::Any),
            (true, true) => Some(Self::Prefix(name.to_owned())),
            (true, false) => Some(Self::Exact(name.to_owned())),
            (false, _) => None,
        }
    }

    /// Whether a name is meant.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Exact(name) => text == name,
        }
    }

    /// A larger number for a narrower pattern: an exact name over a longer prefix over a shorter
    /// one over any. Comparable among patterns that match one and the same model.
    pub fn specificity(&self) -> usize {
        match self {
            Self::Any => 0,
            Self::Prefix(prefix) => prefix.len(),
            Self::Exact(_) => usize::MAX,
        }
    }

    /// Whether every model that `other` means is meant by this pattern too. Patterns are nested
    /// or disjoint, never half of each, so the more specific of two that meet is the inner one.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (Self::Prefix(outer), Self::Prefix(name) | Self::Exact(name)) => name.starts_with(outer.as_str()),
            (Self::Exact(_), Self::Prefix(_)) => false,
            (Self::Exact(outer), Self::Exact(name)) => outer == name,
        }
    }
}

/// Why a text is not a model pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a model name, a beginning followed by one star at the end, or a star alone")]
pub struct NotAPattern;

impl FromStr for NamePattern {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        Self::read(bare_model(text), is_model_name).ok_or(NotAPattern)
    }
}

/// Whether a text can be a model id: 1 to 128 letters, digits and `.`, `_`, `-`, `/`, `:`, `@`.
pub fn is_model_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    (1..=128).contains(&text.len()) && text.chars().all(letter)
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Exact(name) => f.write_str(name),
        }
    }
}
