//! Keys at run time: what operators do with them.

use super::{
    Fleet, FleetError, KeyFields, KeyView, Obstacle, Origin, Placed,
    assembly::{Assembly, Misfit, elsewhere},
    fields::{Faults, check_id},
    merge::assemble_pools,
    view::key_resource,
};
use crate::{
    config::malformed,
    registry::{Action, Edit, Entry, EntryName, Mark, MarkState, RunTimeKey, Who},
    secret::{Secret, unknown_name},
};

const LONGEST_REASON: usize = 256;

/// How a key is to be drained.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// Why, in the operator's words.
    pub reason: String,
    /// Whether it is deleted once it is drained.
    pub remove_when_drained: bool,
}

impl Fleet {
    /// All keys, by pool and id; of one pool if one is named.
    ///
    /// # Errors
    /// If there is no such pool, or the registry gives no answer.
    pub async fn keys(&self, pool: Option<&str>) -> Result<Vec<KeyView>, FleetError> {
        self.refresh().await?;
        let placed = self.placed();
        if let Some(pool) = pool {
            placed.check_pool(pool)?;
        }
        let of_pool = |key: &KeyView| pool.is_none_or(|pool| key.pool == pool);
        let mut keys: Vec<KeyView> = placed.keys().into_iter().filter(of_pool).collect();
        keys.iter_mut().for_each(|key| key.former_previews = self.rotations.former(&key.id));
        Ok(keys)
    }

    /// One key.
    ///
    /// # Errors
    /// If there is no such key, or the registry gives no answer.
    pub async fn key(&self, pool: &str, id: &str) -> Result<KeyView, FleetError> {
        self.refresh().await?;
        self.known(pool, id)
    }

    /// Creates a key; without an id it is given one that is made from its text's fingerprint.
    ///
    /// # Errors
    /// If there is no master key, a field is wrong, or the id or the text are there already.
    pub async fn create_key(
        &self,
        pool: &str,
        id: &str,
        fields: &KeyFields,
        who: &Who,
    ) -> Result<KeyView, FleetError> {
        let mut faults = Faults::new();
        if !id.is_empty() {
            check_id("key_id", id, &mut faults);
        }
        fields.check(&mut faults);
        let secret = fields.secret.as_ref().filter(|secret| !secret.expose().is_empty());
        if secret.is_none() {
            faults.push(("key.api_key".to_owned(), "is empty; give the key's text".to_owned()));
        }
        if secret.is_some_and(|secret| secret.expose() == id) {
            faults.push(("key_id".to_owned(), "is the text of the key, but is printed in logs".to_owned()));
        }
        let Some(secret) = secret.filter(|_| faults.is_empty()) else {
            return Err(FleetError::Invalid(faults));
        };
        let id = if id.is_empty() { derived_id(secret) } else { id.to_owned() };
        let key = self.sealed_key(pool, &id, fields, secret)?;
        self.change(who, |placed| {
            placed.check_pool(pool)?;
            let mut assembly = placed.assembly_without("");
            add(&mut assembly, &key)?;
            Ok(vec![create(Action::CreateKey, &key)])
        })
        .await?;
        self.known(pool, &id)
    }

    fn known(&self, pool: &str, id: &str) -> Result<KeyView, FleetError> {
        let key = self.placed().known_key(pool, id)?;
        Ok(KeyView { former_previews: self.rotations.former(id), ..key })
    }

    /// A new key with its text sealed.
    pub(super) fn sealed_key(
        &self,
        pool: &str,
        id: &str,
        fields: &KeyFields,
        secret: &Secret,
    ) -> Result<RunTimeKey, FleetError> {
        let mut key = KeyFields::new_key(pool, id);
        fields.write_to(&mut key);
        self.seal_into(&mut key, secret)?;
        Ok(key)
    }

    fn seal_into(&self, key: &mut RunTimeKey, secret: &Secret) -> Result<(), FleetError> {
        let master_keys = self.master_keys.as_ref().ok_or(FleetError::NoMasterKey)?;
        key.sealed = master_keys.seal(&key.id, secret);
        key.fingerprint = secret.fingerprint();
        key.preview = secret.to_string();
        Ok(())
    }

    /// Changes a key that was created at run time.
    ///
    /// # Errors
    /// If there is no such key, it is configured, a field is wrong, or the etag is an old one.
    pub async fn update_key(
        &self,
        pool: &str,
        id: &str,
        etag: &str,
        fields: &KeyFields,
        who: &Who,
    ) -> Result<KeyView, FleetError> {
        self.change_key(Action::UpdateKey, pool, id, etag, fields, who).await
    }

    async fn change_key(
        &self,
        action: Action,
        pool: &str,
        id: &str,
        etag: &str,
        fields: &KeyFields,
        who: &Who,
    ) -> Result<KeyView, FleetError> {
        let mut faults = Faults::new();
        fields.check(&mut faults);
        if fields.secret.as_ref().is_some_and(|secret| secret.expose() == id) {
            faults.push(("key.api_key".to_owned(), "is the key's id, which is printed in logs".to_owned()));
        }
        // Sealed once: each sealing differs, and the decision may be made several times.
        let mut resealed = KeyFields::new_key(pool, id);
        if let Some(secret) = fields.secret.as_ref().filter(|_| faults.is_empty()) {
            self.seal_into(&mut resealed, secret)?;
        }
        self.change(who, |placed| {
            placed.run_time(pool, id, etag)?;
            if !faults.is_empty() {
                return Err(FleetError::Invalid(faults.clone()));
            }
            let stored = &placed.snapshot.keys[id].value;
            let mut key = stored.clone();
            fields.write_to(&mut key);
            // The same text again is sealed anew too: under the current master key.
            if !resealed.sealed.is_empty() {
                key.sealed.clone_from(&resealed.sealed);
                key.fingerprint.clone_from(&resealed.fingerprint);
                key.preview.clone_from(&resealed.preview);
            }
            add(&mut placed.assembly_without(id), &key)?;
            Ok(vec![Edit {
                action,
                resource: key_resource(pool, id),
                before: Some(stored.recorded()),
                after: Some(key.recorded()),
                puts: vec![Entry::Key(key)],
                removes: Vec::new(),
            }])
        })
        .await?;
        self.known(pool, id)
    }

    /// Puts another text in the place of a key's that was created at run time: from then on the new one is leased, and
    /// leases of the former one can still be reported.
    ///
    /// # Errors
    /// If there is no such key, it is configured, the text is none or the same, or the etag is an old one.
    pub async fn rotate_key(
        &self,
        pool: &str,
        id: &str,
        etag: &str,
        secret: Secret,
        who: &Who,
    ) -> Result<KeyView, FleetError> {
        let wrong = |text: &str| FleetError::Invalid(vec![("api_key".to_owned(), text.to_owned())]);
        if secret.expose().is_empty() {
            return Err(wrong("is empty; give the key's new text"));
        }
        if let Some(problem) = malformed(secret.expose()) {
            return Err(wrong(&format!("{problem}; give the key's text as Google shows it")));
        }
        if self
            .placed()
            .snapshot
            .keys
            .get(id)
            .filter(|key| key.value.pool == pool)
            .is_some_and(|key| key.value.fingerprint == secret.fingerprint())
        {
            return Err(wrong("is the text that the key has already; give the new one"));
        }
        let fields = KeyFields { secret: Some(secret), ..KeyFields::default() };
        self.change_key(Action::RotateKey, pool, id, etag, &fields, who).await
    }

    /// Deletes a key that was created at run time. Leases of it can still be reported.
    ///
    /// # Errors
    /// If there is no such key, it is configured, or the etag is an old one.
    pub async fn delete_key(&self, pool: &str, id: &str, etag: &str, who: &Who) -> Result<(), FleetError> {
        self.change(who, |placed| {
            placed.run_time(pool, id, etag)?;
            Ok(vec![delete(&placed.snapshot.keys[id].value)])
        })
        .await
    }

    /// Leases a key again.
    ///
    /// # Errors
    /// If there is no such key, or the etag is an old one.
    pub async fn enable_key(
        &self,
        pool: &str,
        id: &str,
        etag: &str,
        who: &Who,
    ) -> Result<KeyView, FleetError> {
        self.change(who, |placed| {
            let key = placed.known_key(pool, id)?;
            check_etag(&key, etag)?;
            let Some(mark) = placed.snapshot.marks.get(id) else { return Ok(Vec::new()) };
            Ok(vec![Edit {
                action: Action::EnableKey,
                resource: key.resource(),
                puts: Vec::new(),
                removes: vec![EntryName::Mark(id.to_owned())],
                before: Some(recorded(&mark.value)),
                after: Some(serde_json::json!({ "state": "active" })),
            }])
        })
        .await?;
        self.known(pool, id)
    }

    /// Leases a key no more until it is enabled.
    ///
    /// # Errors
    /// If there is no such key, a field is wrong, or the etag is an old one.
    pub async fn disable_key(
        &self,
        pool: &str,
        id: &str,
        etag: &str,
        reason: &str,
        who: &Who,
    ) -> Result<KeyView, FleetError> {
        let mark = Mark {
            key_id: id.to_owned(),
            state: MarkState::Disabled,
            reason: reason.to_owned(),
            remove_when_drained: false,
        };
        self.mark(Action::DisableKey, pool, etag, mark, who).await
    }

    /// Leases a key no more, and waits in the background until no lease of it is out.
    ///
    /// # Errors
    /// As [`Fleet::disable_key`]; also if a configured key is to be deleted.
    pub async fn drain_key(
        &self,
        pool: &str,
        id: &str,
        etag: &str,
        drain: &Drain,
        who: &Who,
    ) -> Result<KeyView, FleetError> {
        let mark = Mark {
            key_id: id.to_owned(),
            state: MarkState::Draining,
            reason: drain.reason.clone(),
            remove_when_drained: drain.remove_when_drained,
        };
        self.mark(Action::DrainKey, pool, etag, mark, who).await
    }

    async fn mark(
        &self,
        action: Action,
        pool: &str,
        etag: &str,
        mark: Mark,
        who: &Who,
    ) -> Result<KeyView, FleetError> {
        if mark.reason.chars().count() > LONGEST_REASON || mark.reason.chars().any(char::is_control) {
            let wrong = "is not a reason; use at most 256 printable characters".to_owned();
            return Err(FleetError::Invalid(vec![("reason".to_owned(), wrong)]));
        }
        self.change(who, |placed| {
            let key = placed.known_key(pool, &mark.key_id)?;
            if mark.remove_when_drained && key.origin == Origin::Configured {
                return Err(FleetError::Configured(key.resource()));
            }
            check_etag(&key, etag)?;
            let before = placed.snapshot.marks.get(&mark.key_id).map(|mark| recorded(&mark.value));
            Ok(vec![Edit {
                action,
                resource: key.resource(),
                puts: vec![Entry::Mark(mark.clone())],
                removes: Vec::new(),
                before: Some(before.unwrap_or_else(|| serde_json::json!({ "state": "active" }))),
                after: Some(recorded(&mark)),
            }])
        })
        .await?;
        self.placed().known_key(pool, &mark.key_id)
    }
}

impl Placed {
    /// Everything but one key of the registry, as the rules between entries see it. No text is opened:
    /// fingerprints stand for them.
    pub(super) fn assembly_without(&self, id: &str) -> Assembly {
        let mut assembly = assemble_pools(&self.configured, &self.snapshot);
        for key in self.snapshot.keys.values().map(|key| &key.value).filter(|key| key.id != id) {
            // One that does not fit is left out of the catalogue as well.
            let _ = assembly.add_key(key, Secret::from(""));
        }
        assembly
    }

    pub(super) fn check_pool(&self, name: &str) -> Result<(), FleetError> {
        let known: Vec<String> = self.pools().into_iter().map(|pool| pool.name).collect();
        if known.iter().any(|pool| pool == name) {
            Ok(())
        } else {
            Err(FleetError::UnknownPool { name: unknown_name(name), known })
        }
    }

    fn known_key(&self, pool: &str, id: &str) -> Result<KeyView, FleetError> {
        self.key(pool, id)
            .ok_or_else(|| FleetError::UnknownKey(key_resource(&unknown_name(pool), &unknown_name(id))))
    }

    /// Makes sure that a key was created at run time and is the one that the caller knows.
    fn run_time(&self, pool: &str, id: &str, etag: &str) -> Result<(), FleetError> {
        let key = self.known_key(pool, id)?;
        if key.origin == Origin::Configured {
            return Err(FleetError::Configured(key.resource()));
        }
        check_etag(&key, etag)
    }
}

fn check_etag(key: &KeyView, etag: &str) -> Result<(), FleetError> {
    if etag.is_empty() || etag == key.etag { Ok(()) } else { Err(FleetError::EtagMismatch(key.resource())) }
}

/// Adds a key that is new or changed.
fn add(assembly: &mut Assembly, key: &RunTimeKey) -> Result<(), FleetError> {
    assembly.add_key(key, Secret::from("")).map_err(|misfit| match misfit {
        Misfit::IdTaken(pool) => FleetError::AlreadyThere(Obstacle::in_pool(
            &pool,
            format!("the key id {} is taken; key ids are unique among all pools", key.id),
            format!("the key id {} is taken", key.id),
        )),
        Misfit::SameText { key: other, pool } => FleetError::AlreadyThere(Obstacle::in_pool(
            &pool,
            format!("the text {} is that of the key {other} already", key.preview),
            format!("the text {} is that of another key already", key.preview),
        )),
        Misfit::Elsewhere { field, noun, pool } => {
            let [text, without_names] = elsewhere(noun, &pool);
            FleetError::Elsewhere(field, Obstacle::in_pool(&pool, text, without_names))
        }
        Misfit::Field(field, wrong) => FleetError::Invalid(vec![(field.to_owned(), wrong)]),
    })
}

/// The id of a key that is given none. The whole fingerprint: a part of it may be taken already.
pub(super) fn derived_id(secret: &Secret) -> String {
    format!("key-{}", secret.fingerprint())
}

/// Writes a new key.
pub(super) fn create(action: Action, key: &RunTimeKey) -> Edit {
    Edit {
        action,
        resource: key_resource(&key.pool, &key.id),
        puts: vec![Entry::Key(key.clone())],
        // A mark of an earlier key of that id is not its own.
        removes: vec![EntryName::Mark(key.id.clone())],
        before: None,
        after: Some(key.recorded()),
    }
}

/// Removes a key and its mark.
pub(super) fn delete(key: &RunTimeKey) -> Edit {
    Edit {
        action: Action::DeleteKey,
        resource: key_resource(&key.pool, &key.id),
        puts: Vec::new(),
        removes: vec![EntryName::Key(key.id.clone()), EntryName::Mark(key.id.clone())],
        before: Some(key.recorded()),
        after: None,
    }
}

pub(super) fn recorded(mark: &Mark) -> serde_json::Value {
    let mut value = serde_json::to_value(mark).expect("entries are plain data with text for names");
    if let Some(fields) = value.as_object_mut() {
        fields.remove("key_id");
    }
    value
}
