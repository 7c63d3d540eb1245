//! Keys and pools as operators see them: never with a text.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Obstacle, Placed, rules};
use crate::{
    catalogue::{Key, Pool, Project, Tier},
    ledger::Millis,
    registry::{Mark, MarkState, RunTimeKey, RunTimePool, Stored, WrittenRule},
};

/// Where a key or a pool comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configuration.
    Configured,
    /// It was created at run time.
    RunTime,
}

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It is leased.
    Active,
    /// It is not leased until an operator enables it.
    Disabled,
    /// It is not leased, and leases of it may still be out.
    Draining,
    /// It is not leased, and no lease of it is out.
    Drained,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// Its pool.
    pub pool: String,
    /// Its id.
    pub id: String,
    /// Its text, masked.
    pub preview: String,
    /// Its former texts, masked, of which leases may still be out.
    pub former_previews: Vec<String>,
    /// The project that owns it.
    pub project: String,
    /// Whether the project's requests are paid for.
    pub tier: Tier,
    /// The account that pays.
    pub billing_account: Option<String>,
    /// Its share.
    pub weight: u32,
    /// Its class, if it has one of its own.
    pub priority: Option<u8>,
    /// What the operator notes about it.
    pub labels: BTreeMap<String, String>,
    /// Its own limits.
    pub limits: Vec<WrittenRule>,
    /// How it stands.
    pub state: KeyState,
    /// Why, in the operator's words.
    pub reason: String,
    /// Whether it is deleted once it is drained.
    pub remove_when_drained: bool,
    /// Where it comes from.
    pub origin: Origin,
    /// Why this broker leaves it out although it is active.
    pub problem: Option<Obstacle>,
    /// Differs whenever it changed.
    pub etag: String,
    /// When it was created, and when it was last changed.
    pub times: Option<(Millis, Millis)>,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// In which order its keys are leased.
    pub strategy: String,
    /// How long after a grant a request may still be sent.
    pub send_within: Duration,
    /// How long a lease lives.
    pub lease_ttl: Duration,
    /// The limits of every project that does not name its own.
    pub limits: Vec<WrittenRule>,
    /// How many keys it has, leased or not.
    pub keys: usize,
    /// Where it comes from.
    pub origin: Origin,
    /// Differs whenever it changed.
    pub etag: String,
    /// When it was created, and when it was last changed.
    pub times: Option<(Millis, Millis)>,
}

impl KeyView {
    /// Its resource name.
    pub fn resource(&self) -> String {
        key_resource(&self.pool, &self.id)
    }
}

/// The resource name of a key.
pub(super) fn key_resource(pool: &str, id: &str) -> String {
    format!("pools/{pool}/keys/{id}")
}

impl Placed {
    /// All keys, by pool and id.
    pub(super) fn keys(&self) -> Vec<KeyView> {
        let configured = self
            .configured
            .projects()
            .flat_map(|(pool, project)| project.keys.iter().map(move |key| (pool, project, key)));
        let configured = configured.map(|(pool, project, key)| self.configured_key(pool, project, key));
        let ids: std::collections::HashSet<&str> =
            self.configured.keys().map(|(_, key)| key.id.as_str()).collect();
        // One whose id the configuration took meanwhile can be seen no more by that id.
        let run_time = self.snapshot.keys.values().filter(|key| !ids.contains(key.value.id.as_str()));
        let run_time = run_time.map(|key| self.run_time_key(key));
        let mut keys: Vec<KeyView> = configured.chain(run_time).collect();
        keys.sort_by(|a, b| (&a.pool, &a.id).cmp(&(&b.pool, &b.id)));
        keys
    }

    /// One key.
    pub(super) fn key(&self, pool: &str, id: &str) -> Option<KeyView> {
        self.keys().into_iter().find(|key| key.pool == pool && key.id == id)
    }

    fn configured_key(&self, pool: &Pool, project: &Project, key: &Key) -> KeyView {
        let mark = self.snapshot.marks.get(&key.id);
        let content = json!([
            pool.name,
            key.id,
            key.fingerprint,
            key.weight,
            key.priority,
            key.labels,
            project.id,
            project.tier.to_string(),
            project.billing_account,
            mark.map(|mark| mark.revision),
        ]);
        KeyView {
            pool: pool.name.clone(),
            id: key.id.clone(),
            preview: key.secret.to_string(),
            former_previews: Vec::new(),
            project: project.id.clone(),
            tier: project.tier,
            billing_account: project.billing_account.clone(),
            weight: key.weight,
            priority: key.priority,
            labels: key.labels.clone(),
            limits: rules::written(&key.limits),
            state: state(mark),
            reason: mark.map(|mark| mark.value.reason.clone()).unwrap_or_default(),
            remove_when_drained: false,
            origin: Origin::Configured,
            problem: None,
            etag: etag(&content),
            times: None,
        }
    }

    fn run_time_key(&self, stored: &Stored<RunTimeKey>) -> KeyView {
        let key = &stored.value;
        let mark = self.snapshot.marks.get(&key.id);
        let updated = mark.map_or(stored.updated, |mark| mark.updated.max(stored.updated));
        KeyView {
            pool: key.pool.clone(),
            id: key.id.clone(),
            preview: key.preview.clone(),
            former_previews: Vec::new(),
            project: key.project.clone(),
            tier: key.tier,
            billing_account: key.billing_account.clone(),
            weight: key.weight,
            priority: key.priority,
            labels: key.labels.clone(),
            limits: key.limits.clone(),
            state: state(mark),
            reason: mark.map(|mark| mark.value.reason.clone()).unwrap_or_default(),
            remove_when_drained: mark.is_some_and(|mark| mark.value.remove_when_drained),
            origin: Origin::RunTime,
            problem: self.left_out.get(&key.id).cloned(),
            etag: etag(&json!([key.id, stored.revision, mark.map(|mark| mark.revision)])),
            times: Some((stored.created, updated)),
        }
    }

    /// All pools, by name.
    pub(super) fn pools(&self) -> Vec<PoolView> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for key in self.keys() {
            *counts.entry(key.pool).or_default() += 1;
        }
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        let mut pools: BTreeMap<String, PoolView> = BTreeMap::new();
        for stored in self.snapshot.pools.values() {
            pools.insert(stored.value.name.clone(), run_time_pool(stored, count(&stored.value.name)));
        }
        for pool in self.configured.pools.values() {
            pools.insert(pool.name.clone(), configured_pool(pool, count(&pool.name)));
        }
        pools.into_values().collect()
    }
}

fn run_time_pool(stored: &Stored<RunTimePool>, keys: usize) -> PoolView {
    let pool = &stored.value;
    PoolView {
        name: pool.name.clone(),
        strategy: pool.strategy.clone(),
        send_within: Duration::from_millis(pool.send_within_ms),
        lease_ttl: Duration::from_millis(pool.lease_ttl_ms),
        limits: pool.limits.clone(),
        keys,
        origin: Origin::RunTime,
        etag: etag(&json!([pool.name, stored.revision])),
        times: Some((stored.created, stored.updated)),
    }
}

fn configured_pool(pool: &Pool, keys: usize) -> PoolView {
    let limits = rules::written(&pool.limits);
    let content = json!([
        pool.name,
        pool.strategy.to_string(),
        pool.send_within.as_millis(),
        pool.lease_ttl.as_millis(),
        limits
    ]);
    PoolView {
        name: pool.name.clone(),
        strategy: pool.strategy.to_string(),
        send_within: pool.send_within,
        lease_ttl: pool.lease_ttl,
        limits,
        keys,
        origin: Origin::Configured,
        etag: etag(&content),
        times: None,
    }
}

fn state(mark: Option<&Stored<Mark>>) -> KeyState {
    match mark.map(|mark| mark.value.state) {
        None => KeyState::Active,
        Some(MarkState::Disabled) => KeyState::Disabled,
        Some(MarkState::Draining) => KeyState::Draining,
        Some(MarkState::Drained) => KeyState::Drained,
    }
}

fn etag(content: &Value) -> String {
    let digest = Sha256::new()
        .chain_update(b"keybroker.v1/etag\0")
        .chain_update(content.to_string().as_bytes())
        .finalize();
    hex::encode(&digest[..8])
}
