//! Pools at run time.

use super::{
    Fleet, FleetError, Obstacle, Origin, Placed, PoolFields, PoolView,
    fields::{Faults, check_id},
    keys::delete,
};
use crate::{
    registry::{Action, Edit, Entry, EntryName, RunTimePool, Who},
    secret::unknown_name,
};

impl Fleet {
    /// All pools, by name.
    ///
    /// # Errors
    /// If the registry gives no answer.
    pub async fn pools(&self) -> Result<Vec<PoolView>, FleetError> {
        self.refresh().await?;
        Ok(self.placed().pools())
    }

    /// One pool.
    ///
    /// # Errors
    /// If there is no such pool, or the registry gives no answer.
    pub async fn pool(&self, name: &str) -> Result<PoolView, FleetError> {
        self.refresh().await?;
        self.placed().known_pool(name)
    }

    /// Creates a pool.
    ///
    /// # Errors
    /// If a field is wrong or the name is taken.
    pub async fn create_pool(
        &self,
        name: &str,
        fields: &PoolFields,
        who: &Who,
    ) -> Result<PoolView, FleetError> {
        let mut faults = Faults::new();
        check_id("pool_id", name, &mut faults);
        fields.check(&mut faults);
        if !faults.is_empty() {
            return Err(FleetError::Invalid(faults));
        }
        let mut pool = PoolFields::new_pool(name);
        fields.write_to(&mut pool);
        self.change(who, |placed| {
            if placed.known_pool(name).is_ok() {
                let why = Obstacle::open(format!("there is a pool {name} already"));
                return Err(FleetError::AlreadyThere(why));
            }
            Ok(vec![edit(Action::CreatePool, None, Some(&pool))])
        })
        .await?;
        self.placed().known_pool(name)
    }

    /// Changes a pool that was created at run time.
    ///
    /// # Errors
    /// If there is no such pool, it is configured, a field is wrong, or the etag is an old one.
    pub async fn update_pool(
        &self,
        name: &str,
        etag: &str,
        fields: &PoolFields,
        who: &Who,
    ) -> Result<PoolView, FleetError> {
        let mut faults = Faults::new();
        fields.check(&mut faults);
        self.change(who, |placed| {
            placed.run_time_pool(name, etag)?;
            if !faults.is_empty() {
                return Err(FleetError::Invalid(faults.clone()));
            }
            let stored = &placed.snapshot.pools[name].value;
            let mut pool = stored.clone();
            fields.write_to(&mut pool);
            Ok(vec![edit(Action::UpdatePool, Some(stored), Some(&pool))])
        })
        .await?;
        self.placed().known_pool(name)
    }

    /// Deletes a pool that was created at run time, with its keys if it is forced.
    ///
    /// # Errors
    /// If there is no such pool, it is configured, it has keys, or the etag is an old one.
    pub async fn delete_pool(
        &self,
        name: &str,
        etag: &str,
        force: bool,
        who: &Who,
    ) -> Result<(), FleetError> {
        self.change(who, |placed| {
            placed.run_time_pool(name, etag)?;
            let keys = placed.snapshot.keys.values().map(|key| &key.value).filter(|key| key.pool == name);
            let mut edits: Vec<Edit> = keys.map(delete).collect();
            if !edits.is_empty() && !force {
                return Err(FleetError::PoolNotEmpty { pool: name.to_owned(), keys: edits.len() });
            }
            edits.push(edit(Action::DeletePool, Some(&placed.snapshot.pools[name].value), None));
            Ok(edits)
        })
        .await
    }
}

impl Placed {
    fn known_pool(&self, name: &str) -> Result<PoolView, FleetError> {
        self.check_pool(name)?;
        let found = self.pools().into_iter().find(|pool| pool.name == name);
        found.ok_or_else(|| FleetError::UnknownPool { name: unknown_name(name), known: Vec::new() })
    }

    /// Makes sure that a pool was created at run time and is the one that the caller knows.
    fn run_time_pool(&self, name: &str, etag: &str) -> Result<(), FleetError> {
        let pool = self.known_pool(name)?;
        if pool.origin == Origin::Configured {
            return Err(FleetError::Configured(format!("pools/{name}")));
        }
        if !etag.is_empty() && etag != pool.etag {
            return Err(FleetError::EtagMismatch(format!("pools/{name}")));
        }
        Ok(())
    }
}

fn edit(action: Action, before: Option<&RunTimePool>, after: Option<&RunTimePool>) -> Edit {
    let name = before.or(after).map(|pool| pool.name.clone()).unwrap_or_default();
    let recorded =
        |pool: &RunTimePool| serde_json::to_value(pool).expect("entries are plain data with text for names");
    Edit {
        action,
        resource: format!("pools/{name}"),
        puts: after.map(|pool| Entry::Pool(pool.clone())).into_iter().collect(),
        removes: if after.is_none() { vec![EntryName::Pool(name)] } else { Vec::new() },
        before: before.map(recorded),
        after: after.map(recorded),
    }
}
