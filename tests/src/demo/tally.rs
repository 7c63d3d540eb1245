//! What a worker counts, and says to the demo as one line of JSON at a time.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// The counts of one worker since it started, or of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests that its tasks wanted to send.
    pub asked: u64,
    /// Answers received.
    pub answered: u64,
    /// Requests for which the broker refused a lease in time.
    pub refused: u64,
    /// Requests that were given up at the end of the demo.
    pub cut: u64,
    /// Requests that failed in another way.
    pub failed: u64,
    /// The words of the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Tally) {
        self.asked += other.asked;
        self.answered += other.answered;
        self.refused += other.refused;
        self.cut += other.cut;
        self.failed += other.failed;
        if other.failure.is_some() {
            self.failure.clone_from(&other.failure);
        }
    }
}
