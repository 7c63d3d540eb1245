//! How a pool stands, as wire types.

use keybroker_proto::v1::{
    BrokerCounters, Cooldown, InspectPoolResponse, KeyStatus, LimitStatus, Tier as WireTier,
};

use super::super::convert::timestamp;
use crate::{
    catalogue::Tier,
    pool::{CooldownView, KeyView, LimitView, PoolView},
};

pub(super) fn pool(name: &str, view: PoolView) -> InspectPoolResponse {
    InspectPoolResponse {
        pool: name.to_owned(),
        now: Some(timestamp(view.now)),
        keys: view.keys.into_iter().map(key).collect(),
        limits: view.limits.into_iter().map(limit).collect(),
        cooldowns: view.cooldowns.into_iter().map(cooldown).collect(),
        counters: Some(BrokerCounters {
            granted: view.stats.granted,
            refused: view.stats.refused,
            settled: view.stats.settled,
            waiting: view.stats.waiting,
        }),
    }
}

fn key(view: KeyView) -> KeyStatus {
    let tier = match view.tier {
        Tier::Free => WireTier::Free,
        Tier::Paid => WireTier::Paid,
        Tier::Unknown => WireTier::Unspecified,
    };
    KeyStatus {
        key_id: view.key_id,
        project: view.project,
        tier: tier.into(),
        available: view.available,
        health: i32::try_from(view.health).unwrap_or(0),
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
