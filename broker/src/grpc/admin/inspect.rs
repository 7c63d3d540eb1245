//! How a pool stands, as wire types.

use std::sync::Arc;

use keybroker_proto::v1::{
    BrokerCounters, Cooldown, InspectPoolResponse, KeyStatus, LimitStatus, Tier as WireTier,
};

use super::super::convert::timestamp;
use crate::{
    catalogue::Tier,
    events::{Event, EventKind, Events},
    ledger::{FOREVER, Millis},
    pool::{CooldownView, KeyView, LimitView, PoolView},
};

/// A pool; of `events`, those of the broker, it takes since when keys cool down.
pub(super) fn pool(name: &str, view: PoolView, events: &Events) -> InspectPoolResponse {
    let events = events.last();
    InspectPoolResponse {
        pool: name.to_owned(),
        now: Some(timestamp(view.now)),
        keys: view.keys.into_iter().map(|key| of_key(name, key, &events)).collect(),
        limits: view.limits.into_iter().map(limit).collect(),
        cooldowns: view.cooldowns.into_iter().map(cooldown).collect(),
        counters: Some(BrokerCounters {
            granted: view.stats.granted,
            refused: view.stats.refused,
            settled: view.stats.settled,
            waiting: view.stats.waiting,
        }),
        last_key_id: view.last_key_id.unwrap_or_default(),
    }
}

/// When a cooldown began of which this is an event: of a key, its project, its billing account or a model.
fn began(pool: &str, view: &KeyView, events: &[Arc<Event>]) -> Option<Millis> {
    let concerns = |event: &&Arc<Event>| {
        let subject = &event.subject;
        matches!(event.kind, EventKind::CooldownBegun | EventKind::KeyDisabled)
            && subject.pool.as_str() == pool
            && (subject.key_id.as_str() == view.key_id || subject.project.as_str() == view.project)
    };
    events.iter().rev().find(concerns).map(|event| event.at)
}

fn of_key(pool: &str, view: KeyView, events: &[Arc<Event>]) -> KeyStatus {
    let tier = match view.tier {
        Tier::Free => WireTier::Free,
        Tier::Paid => WireTier::Paid,
        Tier::Unknown => WireTier::Unspecified,
    };
    let since = view.cooling_until.and_then(|_| began(pool, &view, events));
    KeyStatus {
        key_id: view.key_id,
        project: view.project,
        tier: tier.into(),
        available: view.available,
        health: i32::try_from(view.health).unwrap_or(0),
        cooling: view.cooling_until.is_some(),
        cooling_until: view.cooling_until.filter(|until| *until < FOREVER).map(timestamp),
        cooling_since: since.map(timestamp),
    }
}

fn limit(view: LimitView) -> LimitStatus {
    LimitStatus {
        subject: view.subject,
        project: view.project,
        quota_model: view.quota_model,
        limit_name: view.limit_name,
        used: view.used,
        limit: view.limit,
        left: view.limit.map(|limit| (limit - view.used).max(0)),
        configured_limit: view.configured,
        learned_limit: view.learned,
        next_free: view.next_free.map(timestamp),
        exhausted_at: view.exhausted_at.map(timestamp),
    }
}

fn cooldown(view: CooldownView) -> Cooldown {
    Cooldown {
        subject: view.subject,
        reason: view.reason,
        until: view.until.map(timestamp),
        probing: view.probing,
        ramp_until: view.ramp_until.map(timestamp),
    }
}
