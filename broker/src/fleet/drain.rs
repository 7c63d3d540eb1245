//! Draining keys: when no lease of one is out any more, it is drained, or deleted.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Fleet, FleetError, Placed,
    keys::{delete, recorded},
    view::key_resource,
};
use crate::{
    ledger::FOREVER,
    registry::{Action, Change, Changed, Edit, Entry, Mark, MarkState, Who},
};

/// How often the fleet looks: one broker of it each time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For how long a key must have been draining before it can be drained: by then every broker has seen
/// it, and none hands out leases of it.
pub(super) const SEEN_BY_ALL: Duration = Duration::from_secs(2);
/// The claim by which one broker looks.
const CLAIM: &str = "drains";

/// Since when this broker has seen keys draining.
#[derive(Default)]
pub(super) struct Drains(HashMap<String, Instant>);

impl Fleet {
    /// Looks whether draining keys are drained, if it is this broker's turn.
    pub(super) async fn finish_drains(&self, drains: &mut Drains) -> Result<(), FleetError> {
        let placed = self.placed();
        let draining: HashSet<&str> = placed.draining().map(|mark| mark.key_id.as_str()).collect();
        drains.0.retain(|id, _| draining.contains(id.as_str()));
        for id in &draining {
            drains.0.entry((*id).to_owned()).or_insert_with(Instant::now);
        }
        let ready = |mark: &&Mark| drains.0[&mark.key_id].elapsed() >= SEEN_BY_ALL;
        if placed.draining().find(ready).is_none() || !self.registry.claim(CLAIM, LOOK_EVERY).await? {
            return Ok(());
        }
        for mark in placed.draining().filter(ready) {
            // A key that is nowhere any more has no pool to look at.
            let Some(pool) = placed.pool_of(&mark.key_id) else { continue };
            let held = self.ledger.held(&pool, &mark.key_id, FOREVER).await?;
            if held > 0 {
                tracing::debug!(key_id = mark.key_id, held, "still draining");
                continue;
            }
            let change = Change {
                decided_at: Some(placed.snapshot.version.clone()),
                edits: vec![placed.drained(&pool, mark)],
            };
            // If others changed something meanwhile, it is looked at again in a moment.
            if let Changed::Made(_) = self.registry.change(&change, &Who::broker()).await? {
                tracing::info!(key_id = mark.key_id, removed = mark.remove_when_drained, "drained");
            }
            return self.refresh().await;
        }
        Ok(())
    }
}

impl Placed {
    fn draining(&self) -> impl Iterator<Item = &Mark> {
        self.snapshot.marks.values().map(|mark| &mark.value).filter(|mark| mark.state == MarkState::Draining)
    }

    fn pool_of(&self, key_id: &str) -> Option<String> {
        let configured =
            self.configured.projects().find(|(_, project)| project.keys.iter().any(|key| key.id == key_id));
        let configured = configured.map(|(pool, _)| pool.name.clone());
        configured.or_else(|| self.snapshot.keys.get(key_id).map(|key| key.value.pool.clone()))
    }

    fn drained(&self, pool: &str, mark: &Mark) -> Edit {
        match self.snapshot.keys.get(&mark.key_id) {
            Some(key) if mark.remove_when_drained => delete(&key.value),
            _ => {
                let drained = Mark { state: MarkState::Drained, ..mark.clone() };
                Edit {
                    action: Action::FinishDrain,
                    resource: key_resource(pool, &mark.key_id),
                    before: Some(recorded(mark)),
                    after: Some(recorded(&drained)),
                    puts: vec![Entry::Mark(drained)],
                    removes: Vec::new(),
                }
            }
        }
    }
}
