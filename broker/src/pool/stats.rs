//! What a broker did for a pool since it started.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use super::MOST_MODELS;
use crate::catalogue::Key;

/// Counters of a pool, and the quota models that it was asked for. They outlive its catalogues.
#[derive(Debug, Default)]
pub struct Stats {
    models: RwLock<BTreeSet<String>>,
    last_key: Mutex<Option<Arc<Key>>>,
    granted: AtomicI64,
    refused: AtomicI64,
    settled: AtomicI64,
    waiting: AtomicI64,
}

/// The counters at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsView {
    /// Leases handed out.
    pub granted: i64,
    /// Acquires refused.
    pub refused: i64,
    /// Leases settled.
    pub settled: i64,
    /// Acquires that are waiting now.
    pub waiting: i64,
}

impl Stats {
    /// The pool was asked for this quota model. As many are remembered as a pool leases for at once.
    pub(super) fn asked_for(&self, quota_model: &str) {
        let mut models = self.models.write().expect("no holder of this lock panics");
        if models.len() < MOST_MODELS {
            models.insert(quota_model.to_owned());
        }
    }

    /// The quota models asked for.
    pub(super) fn models(&self) -> BTreeSet<String> {
        self.models.read().expect("no holder of this lock panics").clone()
    }

    /// A lease of this key was handed out.
    pub(super) fn granted(&self, key: &Arc<Key>) {
        *self.last_key.lock().expect("no holder of this lock panics") = Some(key.clone());
        self.granted.fetch_add(1, Relaxed);
    }

    /// The id of the key that was leased last.
    pub(super) fn last_key_id(&self) -> Option<String> {
        let last = self.last_key.lock().expect("no holder of this lock panics");
        last.as_ref().map(|key| key.id.clone())
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn settled(&self) {
        self.settled.fetch_add(1, Relaxed);
    }

    /// Counts one who waits, until the guard is dropped.
    pub(super) fn waiting(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Relaxed);
        Waiting(self.clone())
    }

    /// The counters now.
    pub fn view(&self) -> StatsView {
        StatsView {
            granted: self.granted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            settled: self.settled.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
        }
    }
}

pub(super) struct Waiting(Arc<Stats>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}
