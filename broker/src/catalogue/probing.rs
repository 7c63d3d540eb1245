//! Probing: how disabled keys are looked at, at no cost, to see whether they work again.

use std::time::Duration;

/// How disabled keys are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// Whether they are at all.
    pub enabled: bool,
    /// Whether keys that Google called leaked are too.
    pub leaked: bool,
    /// Where Google is, without a slash at the end.
    pub base_url: String,
    /// How long after a key was disabled it is first probed: 10 s to 24 h.
    pub first: Duration,
    /// How long it is between two probes at most, as the intervals grow: at least [`Self::first`].
    pub longest: Duration,
    /// The model whose tokens are counted, which costs nothing.
    pub model: String,
}

impl Default for Probing {
    fn default() -> Self {
        Self {
            enabled: true,
            leaked: false,
            base_url: "https://generativelanguage.googleapis.com".to_owned(),
            first: Duration::from_secs(600),
            longest: Duration::from_secs(24 * 3600),
            model: "gemini-2.5-flash".to_owned(),
        }
    }
}
