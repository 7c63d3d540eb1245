//! What one attempt came to.

use std::time::Duration;

/// Why an attempt failed. The text holds no URL, since that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// In a sentence.
    pub(super) why: String,
    /// Whether another attempt may fare better.
    pub(super) again: bool,
    /// How long the receiver asked to wait before it.
    pub(super) wait: Option<Duration>,
}

impl Failure {
    /// Another attempt may fare better.
    pub(super) fn passing(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: true, wait: None }
    }

    /// Another attempt would fail too.
    pub(super) fn lasting(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: false, wait: None }
    }
}
