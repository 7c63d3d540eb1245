//! The configuration and the registry, made into one catalogue.

use std::collections::BTreeMap;

use super::{
    Obstacle,
    assembly::{Assembly, Misfit},
};
use crate::{
    catalogue::Catalogue,
    registry::{
        RunTimeKey, Snapshot,
        seal::{MasterKeys, OpenError},
    },
    secret::Secret,
};

/// What comes of it.
pub(super) struct Merged {
    /// What may be leased.
    pub(super) catalogue: Catalogue,
    /// Keys of the registry that are left out, and why.
    pub(super) left_out: BTreeMap<String, Obstacle>,
}

/// What is configured stands first: of two that cannot both be, the one of the registry is left out.
/// One that is left out takes nothing else with it.
pub(super) fn merge(configured: &Catalogue, snapshot: &Snapshot, master_keys: Option<&MasterKeys>) -> Merged {
    let mut assembly = assemble_pools(configured, snapshot);
    let mut left_out = BTreeMap::new();
    for key in snapshot.keys.values().map(|key| &key.value) {
        let added = open(key, master_keys)
            .map_err(|error| Obstacle::open(error.to_string()))
            .and_then(|secret| assembly.add_key(key, secret).map_err(Misfit::obstacle));
        if let Err(why) = added {
            left_out.insert(key.id.clone(), why);
        }
    }
    let mut catalogue = assembly.catalogue;
    for pool in catalogue.pools.values_mut() {
        for project in &mut pool.projects {
            project.keys.retain(|key| !snapshot.marks.contains_key(&key.id));
        }
    }
    for (model, quota_model) in &snapshot.aliases {
        catalogue.model_aliases.entry(model.clone()).or_insert_with(|| quota_model.clone());
    }
    Merged { catalogue, left_out }
}

/// What is configured, with the pools of the registry.
pub(super) fn assemble_pools(configured: &Catalogue, snapshot: &Snapshot) -> Assembly {
    let mut assembly = Assembly::of(configured);
    for pool in snapshot.pools.values().map(|pool| &pool.value) {
        match assembly.add_pool(pool) {
            Ok(()) => {}
            // The configuration made one of that name meanwhile, and stands.
            Err(Misfit::IdTaken(_)) => {}
            Err(misfit) => {
                let why = misfit.obstacle();
                tracing::error!(pool = pool.name, %why, "a pool of the registry is left out");
            }
        }
    }
    assembly
}

fn open(key: &RunTimeKey, master_keys: Option<&MasterKeys>) -> Result<Secret, OpenError> {
    master_keys.ok_or(OpenError::NoMasterKey)?.open(&key.id, &key.sealed)
}
