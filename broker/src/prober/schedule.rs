//! When a disabled key is probed.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::catalogue::Probing;

/// The shortest part of an interval that jitter leaves.
const LEAST_OF_INTERVAL: f64 = 0.8;

/// Disabled keys, each with its next probe. Times count from when the block was first seen here.
#[derive(Debug, Default)]
pub(super) struct Schedule(BTreeMap<String, Entry>);

#[derive(Debug, Clone, Copy)]
struct Entry {
    interval: Duration,
    due: Instant,
}

impl Schedule {
    /// Takes in which accounts are disabled now: new ones wait for their first interval, those that are not
    /// disabled any more are forgotten, and with them how long their intervals had become.
    pub(super) fn set(
        &mut self,
        disabled: &[String],
        probing: &Probing,
        now: Instant,
        mut jitter: impl FnMut() -> f64,
    ) {
        self.0.retain(|account, _| disabled.contains(account));
        for account in disabled {
            self.0.entry(account.clone()).or_insert_with(|| Entry::after(probing.first, now, jitter()));
        }
    }

    /// The accounts whose time has come.
    pub(super) fn due(&self, now: Instant) -> Vec<String> {
        self.0.iter().filter(|(_, entry)| entry.due <= now).map(|(account, _)| account.clone()).collect()
    }

    /// How long the claim on a probe of this account lasts: no other broker probes it within the interval,
    /// whichever interval it has come to itself.
    pub(super) fn claim_span(&self, account: &str) -> Duration {
        self.0.get(account).map_or(Duration::ZERO, |entry| entry.interval.mul_f64(LEAST_OF_INTERVAL))
    }

    /// The key is still unwell, or another broker probed it: the next interval is twice as long.
    pub(super) fn later(&mut self, account: &str, probing: &Probing, now: Instant, jitter: f64) {
        if let Some(entry) = self.0.get_mut(account) {
            *entry = Entry::after((entry.interval * 2).min(probing.longest), now, jitter);
        }
    }

    /// Nothing was found out: the next interval is as long as the last.
    pub(super) fn again(&mut self, account: &str, now: Instant, jitter: f64) {
        if let Some(entry) = self.0.get_mut(account) {
            *entry = Entry::after(entry.interval, now, jitter);
        }
    }

    /// The key is well.
    pub(super) fn done(&mut self, account: &str) {
        self.0.remove(account);
    }
}

impl Entry {
    /// `jitter` is from 0 to 1.
    fn after(interval: Duration, now: Instant, jitter: f64) -> Self {
        let part = LEAST_OF_INTERVAL + (1.0 - LEAST_OF_INTERVAL) * jitter;
        Self { interval, due: now + interval.mul_f64(part) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probing() -> Probing {
        let (first, longest) = (Duration::from_secs(60), Duration::from_secs(300));
        Probing { first, longest, ..Probing::default() }
    }

    fn disabled() -> Vec<String> {
        vec!["k/0f".to_owned()]
    }

    #[test]
    fn intervals_double_from_the_first_to_the_longest() {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        schedule.set(&disabled(), &probing(), now, || 1.0);
        for seconds in [60, 120, 240, 300, 300] {
            assert!(schedule.due(now + Duration::from_millis(seconds * 1000 - 1)).is_empty());
            now += Duration::from_secs(seconds);
            assert_eq!(schedule.due(now), disabled());
            schedule.later("k/0f", &probing(), now, 1.0);
        }
    }

    #[test]
    fn an_interval_that_found_nothing_out_is_repeated() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.set(&disabled(), &probing(), now, || 1.0);
        let then = now + Duration::from_secs(60);
        schedule.again("k/0f", then, 1.0);
        assert!(schedule.due(then + Duration::from_secs(59)).is_empty());
        assert_eq!(schedule.due(then + Duration::from_secs(60)), disabled());
    }

    #[test]
    fn a_key_that_was_well_meanwhile_begins_anew() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.set(&disabled(), &probing(), now, || 1.0);
        schedule.later("k/0f", &probing(), now, 1.0);
        schedule.set(&disabled(), &probing(), now, || 1.0);
        assert!(schedule.due(now + Duration::from_secs(60)).is_empty(), "it is known already");
        schedule.set(&[], &probing(), now, || 1.0);
        schedule.set(&disabled(), &probing(), now, || 1.0);
        assert_eq!(schedule.due(now + Duration::from_secs(60)), disabled());
    }

    #[test]
    fn jitter_only_shortens_and_the_claim_ends_before_the_next_probe() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.set(&disabled(), &probing(), now, || 0.0);
        assert!(schedule.due(now + Duration::from_secs(47)).is_empty());
        assert_eq!(schedule.due(now + Duration::from_secs(48)), disabled());
        assert_eq!(schedule.claim_span("k/0f"), Duration::from_secs(48));
    }
}
