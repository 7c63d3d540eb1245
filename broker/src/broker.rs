//! All pools of a broker, and how a new configuration takes their place.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, RwLock},
};

use tokio::sync::{Mutex, watch};

use crate::{
    catalogue::{Catalogue, DEFAULT_POOL},
    lease_id::LeaseNames,
    ledger::{Ledger, LedgerError},
    pool::{AcquireError, Grant, Pool, Queues, Stats, Wish},
    secret::Secret,
};

/// How many texts of keys that are leased no more are kept out of logs.
const MOST_FORMER: usize = 1000;

/// A broker: pools over one ledger.
pub struct Broker {
    ledger: Arc<dyn Ledger>,
    names: Arc<LeaseNames>,
    state: RwLock<Arc<State>>,
    changing: Mutex<()>,
    draining: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    catalogue: Catalogue,
    pools: BTreeMap<String, Arc<Pool>>,
    stats: BTreeMap<String, Arc<Stats>>,
    queues: BTreeMap<String, Arc<Queues>>,
    // Pools that are gone: nothing is leased from them, and leases of them can still be reported.
    former_pools: BTreeMap<String, Arc<Pool>>,
    former_secrets: Vec<Secret>,
}

impl Broker {
    /// Opens the pools of a catalogue.
    ///
    /// # Errors
    /// If the ledger cannot be opened.
    pub async fn open(ledger: Arc<dyn Ledger>, catalogue: Catalogue) -> Result<Self, LedgerError> {
        let broker = Self {
            ledger,
            names: Arc::default(),
            state: RwLock::default(),
            changing: Mutex::default(),
            draining: watch::Sender::new(false),
        };
        broker.change(catalogue).await?;
        Ok(broker)
    }

    /// Puts a new catalogue in place. What was counted stays; leases of the old one can still be
    /// reported. On an error the old catalogue stays.
    ///
    /// # Errors
    /// If the ledger cannot be opened with it.
    pub async fn change(&self, catalogue: Catalogue) -> Result<(), LedgerError> {
        let _changing = self.changing.lock().await;
        let old = self.state();
        let digest = catalogue.digest();
        let mut state = State {
            catalogue: catalogue.clone(),
            stats: old.stats.clone(),
            former_secrets: former_secrets(&old, &catalogue),
            ..State::default()
        };
        for (name, config) in &catalogue.pools {
            let queues = old.queues.get(name).cloned().unwrap_or_default();
            state.queues.insert(name.clone(), queues.clone());
            let kept = old.pools.get(name).filter(|_| old.catalogue.digest() == digest);
            let pool = match kept {
                Some(pool) => pool.clone(),
                None => {
                    let stats = state.stats.entry(name.clone()).or_default().clone();
                    let ledger = self.ledger.clone();
                    let names = self.names.clone();
                    let pool = Pool::open(config.clone(), &digest, ledger, names, stats, queues).await?;
                    Arc::new(pool.with_former(state.former_secrets.clone()))
                }
            };
            state.pools.insert(name.clone(), pool);
        }
        let known = old.former_pools.iter().chain(&old.pools);
        let gone = known.filter(|(name, _)| !state.pools.contains_key(*name));
        state.former_pools = gone.map(|(name, pool)| (name.clone(), pool.clone())).collect();
        let state = Arc::new(state);
        *self.state.write().expect("no holder of this lock panics") = state.clone();
        // Those who wait go on under the new catalogue, or are told that their pool is gone.
        state.pools.values().for_each(Pool::serve_waiters);
        let gone = old.queues.iter().filter(|(name, _)| !state.queues.contains_key(*name));
        gone.for_each(|(_, queues)| queues.close());
        Ok(())
    }

    /// Takes a lease from a pool; nothing if there is no such pool. Whoever waits while the catalogue
    /// changes goes on waiting for a key of the new one.
    pub async fn acquire(&self, pool: &str, wish: &Wish) -> Option<Result<Grant, AcquireError>> {
        Some(self.pool(pool)?.acquire(wish, self.drained()).await)
    }

    /// The pool with that name; the default pool if it is empty.
    pub fn pool(&self, name: &str) -> Option<Arc<Pool>> {
        self.state().pools.get(pool_name(name)).cloned()
    }

    /// The pool with that name, also if it is gone: leases of it can still be reported.
    pub fn pool_of_lease(&self, name: &str) -> Option<Arc<Pool>> {
        let state = self.state();
        state.pools.get(name).or_else(|| state.former_pools.get(name)).cloned()
    }

    /// The names of all pools.
    pub fn pool_names(&self) -> Vec<String> {
        self.state().pools.keys().cloned().collect()
    }

    /// The quota model that a model id counts under.
    pub fn quota_model(&self, model: &str) -> String {
        self.state().catalogue.quota_model(model).to_owned()
    }

    /// The digest of the catalogue in place.
    pub fn digest(&self) -> String {
        self.state().catalogue.digest()
    }

    /// From now on nothing more is leased; reports are still taken.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether it is draining.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Resolves when draining begins.
    pub fn drained(&self) -> impl Future<Output = ()> + use<> {
        let mut draining = self.draining.subscribe();
        async move {
            // The sender lives as long as the broker; if it is gone, so is what this waits for.
            let _ = draining.wait_for(|draining| *draining).await;
        }
    }

    /// Whether leases can be had: the ledger answers, and the broker is not draining.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub async fn readiness(&self) -> Result<(), String> {
        if self.is_draining() {
            return Err("the broker is shutting down".to_owned());
        }
        self.ledger.ping().await.map_err(|error| error.to_string())
    }

    fn state(&self) -> Arc<State> {
        self.state.read().expect("no holder of this lock panics").clone()
    }
}

/// Texts of keys that the new catalogue has no more.
fn former_secrets(old: &State, new: &Catalogue) -> Vec<Secret> {
    let standing: HashSet<&str> = new.keys().map(|(_, key)| key.fingerprint.as_str()).collect();
    let gone = old.catalogue.keys().filter(|(_, key)| !standing.contains(key.fingerprint.as_str()));
    let gone: Vec<Secret> = gone.map(|(_, key)| key.secret.clone()).collect();
    let known = old.former_secrets.iter().filter(|known| !gone.contains(known)).cloned();
    // The latest stand first: leases of theirs are the likeliest to be still out.
    gone.iter().cloned().chain(known).take(MOST_FORMER).collect()
}

/// The pool meant by a name that may be empty.
pub fn pool_name(name: &str) -> &str {
    if name.is_empty() { DEFAULT_POOL } else { name }
}
