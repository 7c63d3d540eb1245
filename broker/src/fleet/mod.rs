//! The catalogue of a fleet: what is configured, and what the registry adds to it and takes from it.
//!
//! A changed configuration and a changed registry go the same way: both are merged, and what comes of
//! it takes the place of the old catalogue.

mod assembly;
mod drain;
mod error;
mod fields;
mod import;
mod keys;
mod merge;
mod obstacle;
mod pools;
mod rotation;
mod rules;
mod view;

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
    time::Duration,
};

use tokio::sync::Mutex;

use crate::{
    broker::Broker,
    catalogue::Catalogue,
    ledger::{Ledger, LedgerError},
    registry::{AuditId, AuditRecord, Change, Changed, Edit, Registry, Snapshot, Who, seal::MasterKeys},
};

pub use error::FleetError;
pub use fields::{KeyFields, NO_CLASS, PoolFields};
pub use import::{Import, ImportFormat, ImportOutcome, ImportedLine, MOST_LINES};
pub use keys::Drain;
pub use obstacle::Obstacle;
pub use view::{KeyState, KeyView, Origin, PoolView};

/// How often the registry is asked whether it changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a change is decided anew when others change the registry at the same time.
const MOST_TRIES: usize = 20;
/// How many records of changes are read at once where not all are wanted, and how often for one answer.
const READ_AT_ONCE: usize = 1000;
const MOST_READS: usize = 10;
/// How many model aliases are learned at most: whoever reports bodies must not fill the registry.
const MOST_LEARNED: usize = 500;

/// A broker's part of a fleet.
pub struct Fleet {
    broker: Arc<Broker>,
    ledger: Arc<dyn Ledger>,
    registry: Arc<dyn Registry>,
    master_keys: Option<MasterKeys>,
    placed: RwLock<Arc<Placed>>,
    placing: Mutex<()>,
    rotations: rotation::Rotations,
}

/// What is in place.
#[derive(Default)]
struct Placed {
    configured: Catalogue,
    snapshot: Snapshot,
    /// Keys of the registry that this broker leaves out, and why.
    left_out: BTreeMap<String, Obstacle>,
}

impl Fleet {
    /// Opens a broker with the configuration and the registry as they stand.
    ///
    /// # Errors
    /// If the registry or the ledger cannot be read.
    pub async fn open(
        ledger: Arc<dyn Ledger>,
        registry: Arc<dyn Registry>,
        master_keys: Option<MasterKeys>,
        configured: Catalogue,
    ) -> Result<Self, FleetError> {
        let snapshot = registry.snapshot(None).await?.unwrap_or_default();
        let merged = merge::merge(&configured, &snapshot, master_keys.as_ref());
        say_what_is_left_out(&BTreeMap::new(), &merged.left_out);
        let broker = Broker::open(ledger.clone(), Arc::new(registry.clone()), merged.catalogue).await?;
        let placed = Placed { configured, snapshot, left_out: merged.left_out };
        Ok(Self {
            broker: Arc::new(broker),
            ledger,
            registry,
            master_keys,
            placed: RwLock::new(Arc::new(placed)),
            placing: Mutex::default(),
            rotations: rotation::Rotations::default(),
        })
    }

    /// The broker.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// What the fleet shares beside the ledger.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// Whether that is the configuration in place, without what the registry says.
    pub fn stands(&self, configured: &Catalogue) -> bool {
        self.placed().configured == *configured
    }

    /// Puts a new configuration in place; on an error the old one stays.
    ///
    /// # Errors
    /// If the ledger cannot be opened with it.
    pub async fn configure(&self, configured: Catalogue) -> Result<(), LedgerError> {
        let _placing = self.placing.lock().await;
        let snapshot = self.placed().snapshot.clone();
        self.place(configured, snapshot).await
    }

    /// Takes up what changed in the registry.
    ///
    /// # Errors
    /// If the registry or the ledger cannot be read; the catalogue stays as it was.
    pub async fn refresh(&self) -> Result<(), FleetError> {
        let _placing = self.placing.lock().await;
        let placed = self.placed();
        if let Some(snapshot) = self.registry.snapshot(Some(&placed.snapshot.version)).await? {
            self.place(placed.configured.clone(), snapshot).await?;
        }
        Ok(())
    }

    async fn place(&self, configured: Catalogue, snapshot: Snapshot) -> Result<(), LedgerError> {
        let merged = merge::merge(&configured, &snapshot, self.master_keys.as_ref());
        say_what_is_left_out(&self.placed().left_out, &merged.left_out);
        if merged.catalogue.digest() != self.broker.digest() {
            tracing::info!(registry = %snapshot.version, "the catalogue changed");
        }
        let old = self.broker.catalogue();
        self.broker.change(merged.catalogue).await?;
        self.note_rotations(&old, &self.broker.catalogue());
        let placed = Placed { configured, snapshot, left_out: merged.left_out };
        *self.placed.write().expect("no holder of this lock panics") = Arc::new(placed);
        Ok(())
    }

    fn placed(&self) -> Arc<Placed> {
        self.placed.read().expect("no holder of this lock panics").clone()
    }

    /// Follows the registry, and finishes drains and rotations, until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut drains = drain::Drains::default();
        let mut failing = false;
        loop {
            look.tick().await;
            let looked = match self.refresh().await {
                Ok(()) => self.finish_drains(&mut drains).await,
                Err(error) => Err(error),
            };
            let looked = match looked {
                Ok(()) => self.finish_rotations().await,
                Err(error) => Err(error),
            };
            match &looked {
                Ok(()) if failing => tracing::info!("the registry is followed again"),
                // Said once: it is asked again twice a second.
                Err(error) if !failing => tracing::warn!(%error, "changes made at run time are not seen"),
                Ok(()) | Err(_) => {}
            }
            failing = looked.is_err();
        }
    }

    /// Remembers, for the whole fleet, which quota model Google counts a model under. What the
    /// configuration says stands.
    ///
    /// # Errors
    /// If the registry cannot be written.
    pub async fn learn_alias(&self, model: &str, quota_model: &str) -> Result<(), FleetError> {
        let placed = self.placed();
        let known = &placed.snapshot.aliases;
        let settled = model == quota_model
            || placed.configured.model_aliases.contains_key(model)
            || known.get(model).is_some_and(|known| known == quota_model);
        if settled {
            return Ok(());
        }
        if known.len() >= MOST_LEARNED && !known.contains_key(model) {
            tracing::warn!(model, quota_model, "not learned: {MOST_LEARNED} aliases were learned already");
            return Ok(());
        }
        self.registry.learn_alias(model, quota_model).await?;
        tracing::info!(model, quota_model, "learned what a model counts as");
        self.refresh().await
    }

    /// Records that somebody ended cooldowns of a key or a pool, perhaps of one quota model alone.
    ///
    /// # Errors
    /// If the registry cannot be written.
    pub async fn record_reset(
        &self,
        who: &Who,
        resource: &str,
        quota_model: &str,
        ended: usize,
    ) -> Result<(), FleetError> {
        self.record(who, Edit::reset_cooldowns(resource, quota_model, ended)).await
    }

    /// Records that somebody accepted that counts of a pool are lost.
    ///
    /// # Errors
    /// If the registry cannot be written.
    pub async fn record_loss(&self, who: &Who, resource: &str) -> Result<(), FleetError> {
        self.record(who, Edit::accept_loss(resource)).await
    }

    async fn record(&self, who: &Who, edit: Edit) -> Result<(), FleetError> {
        let change = Change { decided_at: None, edits: vec![edit] };
        self.registry.change(&change, who).await?;
        Ok(())
    }

    /// Records of changes that are wanted, the newest first, and after which record to go on if there may be more.
    /// Where few are wanted, there may be more though fewer than asked for are found.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn audit(
        &self,
        before: Option<AuditId>,
        most: usize,
        wanted: impl Fn(&AuditRecord) -> bool + Send,
    ) -> Result<(Vec<AuditRecord>, Option<AuditId>), FleetError> {
        let (mut found, mut after, mut at_once) = (Vec::new(), before, most);
        for _ in 0..MOST_READS {
            let records = self.registry.audit(after, at_once).await?;
            let are_all = records.len() < at_once;
            for record in records {
                after = Some(record.id);
                if wanted(&record) {
                    found.push(record);
                }
                if found.len() == most {
                    return Ok((found, after));
                }
            }
            if are_all {
                return Ok((found, None));
            }
            at_once = READ_AT_ONCE;
        }
        Ok((found, after))
    }

    /// Decides a change by the newest state and makes it; decides anew if that is no longer the newest.
    async fn change(
        &self,
        who: &Who,
        decide: impl Fn(&Placed) -> Result<Vec<Edit>, FleetError>,
    ) -> Result<(), FleetError> {
        for _ in 0..MOST_TRIES {
            self.refresh().await?;
            let placed = self.placed();
            let edits = decide(&placed)?;
            if edits.is_empty() {
                return Ok(());
            }
            let resources: Vec<_> = edits.iter().map(|edit| (edit.action, edit.resource.clone())).collect();
            let change = Change { decided_at: Some(placed.snapshot.version.clone()), edits };
            if let Changed::Made(_) = self.registry.change(&change, who).await? {
                for (action, resource) in resources {
                    tracing::info!(actor = who.actor, ?action, resource, "changed");
                }
                return self.refresh().await;
            }
        }
        Err(FleetError::Busy)
    }
}

/// Names what is left out, once.
fn say_what_is_left_out(known: &BTreeMap<String, Obstacle>, left_out: &BTreeMap<String, Obstacle>) {
    for (key_id, why) in left_out.iter().filter(|(key_id, why)| known.get(*key_id) != Some(*why)) {
        tracing::error!(key_id, %why, "a key that was created at run time is left out");
    }
}
