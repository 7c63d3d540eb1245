//! Round after round: which keys are disabled, which of them are due, and what their probes say.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use reqwest::Client;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    Recovery,
    probe::{Finding, probe},
    schedule::Schedule,
};
use crate::{
    catalogue::{Catalogue, Key, Probing},
    claims::FleetTurns,
    gemini::Reason,
    pool::{accounts::AccountOf, watch::ReadAccounts},
};

/// How long it is from one round to the next: half of the shortest interval, within these bounds.
const ROUND: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How many probes are under way at once.
const AT_ONCE: usize = 4;
/// How many accounts are read in one call.
const LARGEST_READ: usize = 1000;
/// How long the ledger may take to show accounts, or to bring a key back.
const DEADLINE: Duration = Duration::from_secs(5);
/// Why a key is probed; a leaked one only by the operator's leave.
const PROBED: [Reason; 4] =
    [Reason::KeyInvalid, Reason::KeyBinding, Reason::KeySuspended, Reason::KeyRestricted];

pub(super) struct Rounds {
    client: Client,
    reader: Arc<dyn ReadAccounts>,
    recovery: Arc<dyn Recovery>,
    turns: FleetTurns,
    // One for each pool.
    schedules: BTreeMap<String, Schedule>,
}

impl Rounds {
    pub(super) fn new(
        client: Client,
        reader: Arc<dyn ReadAccounts>,
        recovery: Arc<dyn Recovery>,
        turns: FleetTurns,
    ) -> Self {
        Self { client, reader, recovery, turns, schedules: BTreeMap::new() }
    }

    /// Goes on until nobody changes the catalogue any more.
    pub(super) async fn run(mut self, catalogue: watch::Receiver<Arc<Catalogue>>) {
        while catalogue.has_changed().is_ok() {
            let current = catalogue.borrow().clone();
            self.round(&current).await;
            let round = (current.probing.first / 2).clamp(ROUND.0, ROUND.1);
            sleep(round.mul_f64(rand::random_range(0.8..1.2))).await;
        }
    }

    async fn round(&mut self, catalogue: &Catalogue) {
        let probing = &catalogue.probing;
        if !probing.enabled {
            self.schedules.clear();
            return;
        }
        self.schedules.retain(|pool, _| catalogue.pools.contains_key(pool));
        for (name, pool) in &catalogue.pools {
            let keys = pool.projects.iter().flat_map(|project| &project.keys);
            let keys: BTreeMap<String, &Key> =
                keys.map(|key| (AccountOf::Key(&key.fingerprint).id(), key)).collect();
            let Some(disabled) = self.disabled(name, &keys, probing).await else { continue };
            let schedule = self.schedules.entry(name.clone()).or_default();
            schedule.set(&disabled, probing, Instant::now(), rand::random);
            let due = schedule.due(Instant::now());
            self.probe_all(name, &due, &keys, probing).await;
        }
    }

    /// The accounts of keys that are disabled for a reason that is probed; none if the ledger does not answer.
    async fn disabled(
        &self,
        pool: &str,
        keys: &BTreeMap<String, &Key>,
        probing: &Probing,
    ) -> Option<Vec<String>> {
        let is_probed = |reason: &str| {
            let by_leave = [Reason::KeyLeaked].into_iter().filter(|_| probing.leaked);
            PROBED.into_iter().chain(by_leave).any(|probed| probed.as_str() == reason)
        };
        let accounts: Vec<String> = keys.keys().cloned().collect();
        let mut disabled = Vec::new();
        for some in accounts.chunks(LARGEST_READ) {
            let read = timeout(DEADLINE, self.reader.read(pool, some)).await.ok()?.ok()?;
            let rows = some.iter().zip(&read.accounts);
            let blocked = rows.filter(|(_, row)| {
                row.as_ref().is_some_and(|row| row.blocked_until > read.now && is_probed(&row.reason))
            });
            disabled.extend(blocked.map(|(account, _)| account.clone()));
        }
        Some(disabled)
    }

    async fn probe_all(
        &mut self,
        pool: &str,
        due: &[String],
        keys: &BTreeMap<String, &Key>,
        probing: &Probing,
    ) {
        let mut probes = Vec::with_capacity(due.len());
        for account in due {
            let (Some(schedule), Some(key)) = (self.schedules.get(pool), keys.get(account)) else { continue };
            probes.push(Probe {
                claim: format!("probe/{pool}/{account}"),
                span: schedule.claim_span(account),
                key: (*key).clone(),
                account: account.clone(),
            });
        }
        let (turns, client, probing_now) = (self.turns.clone(), self.client.clone(), probing.clone());
        let make = move |one: Probe| one.make(turns.clone(), client.clone(), probing_now.clone());
        let mut found = stream::iter(probes).map(make).buffer_unordered(AT_ONCE);
        while let Some((one, finding)) = found.next().await {
            self.take_in(pool, &one, finding, probing).await;
        }
    }

    async fn take_in(&mut self, pool: &str, one: &Probe, finding: Option<Finding>, probing: &Probing) {
        let (account, key) = (one.account.as_str(), &one.key);
        let Some(schedule) = self.schedules.get_mut(pool) else { return };
        let (now, jitter, key_id) = (Instant::now(), rand::random(), key.id.as_str());
        match finding {
            // Another broker probed it.
            None => schedule.later(account, probing, now, jitter),
            Some(Finding::Unwell(signal)) => {
                tracing::info!(pool, key_id, %signal, "a disabled key was checked and is still refused");
                schedule.later(account, probing, now, jitter);
            }
            Some(Finding::Unclear(signal)) => {
                tracing::warn!(pool, key_id, %signal, model = probing.model, "the check of a disabled key says nothing of the key");
                schedule.again(account, now, jitter);
            }
            Some(Finding::Well) => match timeout(DEADLINE, self.recovery.recover(pool, account)).await {
                Ok(Ok(())) => {
                    tracing::info!(pool, key_id, "a disabled key was checked and works; it comes back");
                    schedule.done(account);
                }
                failed => {
                    let error = failed.map_or_else(|late| late.to_string(), |done| format!("{done:?}"));
                    tracing::warn!(pool, key_id, error, "a key that works could not be brought back");
                    schedule.again(account, now, jitter);
                }
            },
        }
    }
}

/// A key whose time has come.
struct Probe {
    claim: String,
    span: Duration,
    key: Key,
    account: String,
}

impl Probe {
    /// Probes the key if it is this broker's turn.
    async fn make(self, turns: FleetTurns, client: Client, probing: Probing) -> (Self, Option<Finding>) {
        if !turns.take(&self.claim, self.span).await {
            return (self, None);
        }
        let finding = probe(&client, &probing.base_url, &probing.model, &self.key.secret).await;
        (self, Some(finding))
    }
}
