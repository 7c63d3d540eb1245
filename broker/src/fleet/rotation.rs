//! Rotating keys: another text takes the place of a key's, in the configuration or at run time. The former one is leased no
//! more at once, and its leases are followed until none is out.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::{Fleet, FleetError, drain::SEEN_BY_ALL};
use crate::{
    catalogue::{Catalogue, EventKind},
    events::{Event, Redactor, Subject},
    ledger::{Millis, calendar::wall_clock},
};

/// How often it is looked whether leases of a former text are out: that looks at all leases of a pool.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// The former texts of a key that are told of; a key that is rotated all the time is told of as one.
const MOST_FORMER: usize = 8;

/// The keys of which leases with a former text may be out, by id, as far as this broker saw it.
#[derive(Default)]
pub(super) struct Rotations(Mutex<BTreeMap<String, Rotation>>);

struct Rotation {
    pool: String,
    project: String,
    /// The former texts, masked.
    former: Vec<String>,
    /// When the last of them was replaced here.
    since: Instant,
    /// When every broker had seen that, by the ledger's clock; every lease of a former text was granted before.
    seen_by_all: Option<Millis>,
    looked: Option<Instant>,
}

impl Rotations {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Rotation>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// The former texts of a key, masked, of which leases may be out.
    pub(super) fn former(&self, key_id: &str) -> Vec<String> {
        self.entries().get(key_id).map(|rotation| rotation.former.clone()).unwrap_or_default()
    }
}

impl Fleet {
    /// Takes note of the keys whose texts differ between two catalogues.
    pub(super) fn note_rotations(&self, old: &Catalogue, new: &Catalogue) {
        let texts: BTreeMap<&str, _> = old.keys().map(|(_, key)| (key.id.as_str(), key)).collect();
        for (pool, project) in new.projects() {
            for key in &project.keys {
                let Some(former) = texts.get(key.id.as_str()) else { continue };
                if former.fingerprint == key.fingerprint {
                    continue;
                }
                let mut entries = self.rotations.entries();
                let rotation = entries.entry(key.id.clone()).or_insert_with(|| Rotation {
                    pool: pool.name.clone(),
                    project: project.id.clone(),
                    former: Vec::new(),
                    since: Instant::now(),
                    seen_by_all: None,
                    looked: None,
                });
                if rotation.former.len() == MOST_FORMER {
                    rotation.former.remove(0);
                }
                rotation.former.push(former.secret.to_string());
                (rotation.since, rotation.seen_by_all) = (Instant::now(), None);
                drop(entries);
                let name = format!("key {} (before: {})", key.id, former.secret);
                self.tell(EventKind::KeyRotated, &pool.name, &project.id, &key.id, &name);
            }
        }
    }

    /// Looks whether leases of former texts are still out, and tells where none is.
    pub(super) async fn finish_rotations(&self) -> Result<(), FleetError> {
        let due: Vec<(String, String, Option<Millis>)> = self
            .rotations
            .entries()
            .iter_mut()
            .filter(|(_, rotation)| {
                rotation.since.elapsed() >= SEEN_BY_ALL
                    && rotation.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY)
            })
            .map(|(id, rotation)| {
                rotation.looked = Some(Instant::now());
                (id.clone(), rotation.pool.clone(), rotation.seen_by_all)
            })
            .collect();
        for (key_id, pool, seen_by_all) in due {
            let granted_before = match seen_by_all {
                Some(at) => at,
                None => self.ledger.inspect(&pool, &[]).await?.now,
            };
            let held = self.ledger.held(&pool, &key_id, granted_before).await?;
            let mut entries = self.rotations.entries();
            let Some(rotation) = entries.get_mut(&key_id) else { continue };
            // It may have been rotated once more meanwhile.
            if rotation.since.elapsed() < SEEN_BY_ALL {
                continue;
            }
            rotation.seen_by_all = Some(granted_before);
            if held > 0 {
                tracing::debug!(key_id, held, "leases of a former text are out");
                continue;
            }
            let Some(rotation) = entries.remove(&key_id) else { continue };
            drop(entries);
            self.tell_done(&key_id, &rotation);
        }
        Ok(())
    }

    fn tell_done(&self, key_id: &str, rotation: &Rotation) {
        for former in &rotation.former {
            let name = format!("key {key_id} ({former})");
            self.tell(EventKind::KeyRotationDone, &rotation.pool, &rotation.project, key_id, &name);
        }
    }

    fn tell(&self, kind: EventKind, pool: &str, project: &str, key_id: &str, name: &str) {
        let redactor = Redactor::default();
        let subject = Subject {
            pool: redactor.text(pool),
            name: redactor.text(name),
            key_id: redactor.text(key_id),
            project: redactor.text(project),
            ..Subject::default()
        };
        self.broker.events().emit(Event::new(kind, wall_clock(), subject));
    }
}
