//! All pools of a broker, and how a new configuration takes their place.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, RwLock},
    time::Duration,
};

use tokio::sync::{Mutex, watch};

use crate::{
    catalogue::{Catalogue, DEFAULT_POOL},
    claims::{Claims, FleetTurns},
    events::{Events, Redactor},
    hooks::Hooks,
    ledger::{EditAction, Ledger, LedgerError, LedgerState},
    pool::{Pool, Queues, Stats, Surroundings, note::Note},
    prober::{CannotProbe, Prober, Recovery, RecoveryError, RecoveryFuture},
    secret::Secret,
};

/// How many texts of keys that are leased no more are kept out of logs.
const MOST_FORMER: usize = 1000;

/// A broker: pools over one ledger.
pub struct Broker {
    surroundings: Surroundings,
    hooks: Hooks,
    current: watch::Sender<Arc<Catalogue>>,
    state: RwLock<Arc<State>>,
    changing: Mutex<()>,
    draining: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    catalogue: Arc<Catalogue>,
    pools: BTreeMap<String, Arc<Pool>>,
    stats: BTreeMap<String, Arc<Stats>>,
    // Pools that are gone: nothing is leased from them, and leases of them can still be reported.
    former_pools: BTreeMap<String, Arc<Pool>>,
    former_secrets: Vec<Secret>,
    queues: BTreeMap<String, Arc<Queues>>,
}

impl Broker {
    /// Opens the pools of a catalogue.
    ///
    /// # Errors
    /// If the ledger cannot be opened.
    pub async fn open(
        ledger: Arc<dyn Ledger>,
        claims: Arc<dyn Claims>,
        catalogue: Catalogue,
    ) -> Result<Self, LedgerError> {
        let (events, turns) = (Events::new(), FleetTurns::new(claims));
        let hooks = Hooks::start(&events, turns.clone());
        let hooks = hooks.map_err(|error| LedgerError::Unusable(error.to_string()))?;
        let broker = Self {
            surroundings: Surroundings {
                ledger,
                names: Arc::default(),
                events,
                turns,
                metrics: Arc::default(),
            },
            hooks,
            current: watch::Sender::default(),
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
        let catalogue = Arc::new(catalogue);
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
                Some(pool) => {
                    pool.set_catalogue(catalogue.clone());
                    pool.clone()
                }
                None => {
                    let stats = state.stats.entry(name.clone()).or_default().clone();
                    let around = self.surroundings.clone();
                    let pool =
                        Pool::open(config.clone(), catalogue.clone(), &digest, around, stats, queues).await?;
                    Arc::new(pool.with_former(state.former_secrets.clone()))
                }
            };
            state.pools.insert(name.clone(), pool);
        }
        let known = old.former_pools.iter().chain(&old.pools);
        let gone = known.filter(|(name, _)| !state.pools.contains_key(*name));
        state.former_pools = gone.map(|(name, pool)| (name.clone(), pool.clone())).collect();
        let keys = catalogue.keys().map(|(_, key)| key.secret.clone());
        self.hooks.replace(&catalogue.hooks, Redactor::new(keys));
        self.current.send_replace(catalogue);
        let state = Arc::new(state);
        *self.state.write().expect("no holder of this lock panics") = state.clone();
        // Those who wait go on under the new catalogue, or are told that their pool is gone.
        state.pools.values().for_each(Pool::serve_waiters);
        let gone = old.queues.iter().filter(|(name, _)| !state.queues.contains_key(*name));
        gone.for_each(|(_, queues)| queues.close());
        Ok(())
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

    /// The catalogue in place.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.state().catalogue.clone()
    }

    /// What happens.
    pub fn events(&self) -> &Events {
        &self.surroundings.events
    }

    /// Where all pools count.
    pub fn ledger(&self) -> &dyn Ledger {
        &*self.surroundings.ledger
    }

    /// Starts to probe disabled keys.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn probe(self: &Arc<Self>) -> Result<Prober, CannotProbe> {
        let Surroundings { ledger, turns, .. } = &self.surroundings;
        Prober::start(self.current.subscribe(), Arc::new(ledger.clone()), self.clone(), turns.clone())
    }

    /// What the ledger is to remember of a request.
    pub fn note(&self, consumer: &str, labels: &HashMap<String, String>) -> Note {
        Note::of(consumer, labels, &self.state().catalogue.hooks)
    }

    /// The digest of the catalogue in place.
    pub fn digest(&self) -> String {
        self.state().catalogue.digest()
    }

    /// From now on nothing more is leased; reports are still taken.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether more leases were handed out here than were reported. Of a fleet whose workers report to any
    /// broker this is an estimate.
    pub fn awaits_reports(&self) -> bool {
        let views = self.state().stats.values().map(|stats| stats.view()).collect::<Vec<_>>();
        views.iter().map(|view| view.granted - view.settled).sum::<i64>() > 0
    }

    /// Tells hooks what they were not told yet, for at most `grace`.
    pub async fn finish_hooks(&self, grace: Duration) {
        self.hooks.close(grace).await;
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
        self.ledger_answers().await
    }

    /// Whether the ledger answers.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub async fn ledger_answers(&self) -> Result<(), String> {
        self.surroundings.ledger.ping().await.map_err(|error| error.to_string())
    }

    /// How the ledger of a pool stands, if it answers.
    pub fn ledger_state(&self, pool: &str) -> LedgerState {
        self.surroundings.ledger.state(pool)
    }

    fn state(&self) -> Arc<State> {
        self.state.read().expect("no holder of this lock panics").clone()
    }
}

impl Recovery for Broker {
    fn recover<'a>(&'a self, pool: &'a str, account: &'a str) -> RecoveryFuture<'a> {
        Box::pin(async move {
            let pool = self.pool(pool).ok_or_else(|| RecoveryError("the pool is gone".to_owned()))?;
            let recovered = pool.edit(&[account.to_owned()], EditAction::Recover).await;
            recovered.map(drop).map_err(|error| RecoveryError(error.to_string()))
        })
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
