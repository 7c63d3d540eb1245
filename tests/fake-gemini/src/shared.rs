//! What all handlers of one server share.

use super::clock::Clock;
use super::config::FakeGeminiConfig;
use super::fault::Faults;
use super::files::Files;
use super::journal::Journal;
use super::judge::Judge;
use super::keyring::Keyring;
use super::verdict::{DimensionVerdict, Verdict};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) judge: Judge,
    pub(crate) keyring: Keyring,
    pub(crate) faults: Faults,
    pub(crate) files: Files,
    pub(crate) journal: Journal,
    pub(crate) config: FakeGeminiConfig,
}

impl Shared {
    pub(crate) fn new(config: FakeGeminiConfig) -> Self {
        let clock = Clock::start();
        Self {
            judge: Judge::new(config.limits.clone()),
            keyring: Keyring::new(&config),
            faults: Faults::new(config.seed),
            files: Files::default(),
            journal: Journal::new(config.log_capacity, clock.now()),
            clock,
            config,
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let now = self.clock.now();
        let (lines, quota_refusals) = self.judge.verdict(now);
        let (counters, since) = self.journal.counters();
        Verdict {
            exact: lines.iter().all(DimensionVerdict::is_kept),
            observed_seconds: now.since_start.saturating_sub(since.since_start).as_secs_f64(),
            calls: counters.calls,
            quota_refusals,
            keys_in_url: counters.keys_in_url,
            statuses: counters.statuses,
            keys: counters.keys,
            lines,
        }
    }

    /// Forgets every arrival, log entry and count. Keys and fault rules stay.
    pub(crate) fn reset(&self) {
        self.judge.reset();
        self.journal.reset(self.clock.now());
    }
}
