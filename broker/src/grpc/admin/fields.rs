//! Fields of keys and pools as they come over the wire.

use std::time::Duration;

use keybroker_proto::v1::{self, ImportFormat as WireFormat, Key, Pool, Tier as WireTier};
use prost_types::FieldMask;

use super::super::check::{Faults, duration};
use crate::{
    catalogue::{DEFAULT_LEASE_TTL, DEFAULT_SEND_WITHIN, Tier},
    fleet::{ImportFormat, KeyFields, NO_CLASS, PoolFields},
    registry::WrittenRule,
    secret::Secret,
};

const KEY_FIELDS: [&str; 8] =
    ["api_key", "project", "tier", "billing_account", "weight", "priority", "labels", "limits"];
const POOL_FIELDS: [&str; 4] = ["strategy", "send_within", "lease_ttl", "limits"];

/// The fields of a key that are set; `field` says where the key stands in the request.
pub(super) fn that_are_set(key: Key, field: &str, faults: &mut Faults) -> KeyFields {
    let set = set_fields(&key);
    written(key, field, &set, faults)
}

/// The fields of a key that a mask names; those that are set if there is no mask.
pub(super) fn of_mask(key: Key, mask: Option<&FieldMask>, faults: &mut Faults) -> KeyFields {
    let named = named(mask, &KEY_FIELDS, faults).unwrap_or_else(|| set_fields(&key));
    if named.contains(&"api_key") && key.api_key.trim().is_empty() {
        faults.add("key.api_key", "is empty; give the key's text, or leave it out of the mask");
    }
    written(key, "key", &named, faults)
}

/// The fields that a mask names; nothing if there is no mask.
fn named(mask: Option<&FieldMask>, known: &[&'static str], faults: &mut Faults) -> Option<Vec<&'static str>> {
    let paths = mask.map(|mask| mask.paths.as_slice()).filter(|paths| !paths.is_empty())?;
    if paths == ["*"] {
        return Some(known.to_vec());
    }
    let mut named = Vec::new();
    for path in paths {
        match known.iter().find(|known| *known == path) {
            Some(field) => named.push(*field),
            None => {
                let text = format!("names a field that cannot be written; those are: {}", known.join(", "));
                faults.add("update_mask", text);
            }
        }
    }
    Some(named)
}

fn set_fields(key: &Key) -> Vec<&'static str> {
    let set = [
        !key.api_key.trim().is_empty(),
        !key.project.is_empty(),
        key.tier != i32::from(WireTier::Unspecified),
        !key.billing_account.is_empty(),
        key.weight.is_some(),
        key.priority.is_some(),
        !key.labels.is_empty(),
        !key.limits.is_empty(),
    ];
    KEY_FIELDS.into_iter().zip(set).filter(|(_, set)| *set).map(|(field, _)| field).collect()
}

fn written(key: Key, field: &str, named: &[&str], faults: &mut Faults) -> KeyFields {
    let is_named = |field: &str| named.contains(&field);
    let text = secrecy::zeroize::Zeroizing::new(key.api_key);
    let tier = match WireTier::try_from(key.tier) {
        Ok(WireTier::Free) => Tier::Free,
        Ok(WireTier::Paid) => Tier::Paid,
        Ok(WireTier::Unspecified) => Tier::Unknown,
        Err(_) => {
            faults
                .add(format!("{field}.tier"), "is not a tier; write TIER_FREE or TIER_PAID, or leave it out");
            Tier::Unknown
        }
    };
    KeyFields {
        secret: is_named("api_key").then(|| Secret::from(text.trim())),
        project: is_named("project").then_some(key.project),
        tier: is_named("tier").then_some(tier),
        billing_account: is_named("billing_account").then_some(key.billing_account),
        weight: is_named("weight").then(|| i64::from(key.weight.unwrap_or(1))),
        priority: is_named("priority").then(|| key.priority.map_or(NO_CLASS, i64::from)),
        labels: is_named("labels").then(|| key.labels.into_iter().collect()),
        limits: is_named("limits").then(|| rules(&key.limits)),
    }
}

/// Amounts below nought come out as nought, which is refused as well.
fn rules(rules: &[v1::LimitRule]) -> Vec<WrittenRule> {
    let amount = |amount: i64| u64::try_from(amount).unwrap_or(0);
    let rule = |rule: &v1::LimitRule| WrittenRule {
        model: if rule.model.is_empty() { "*".to_owned() } else { rule.model.clone() },
        limits: rule.limits.iter().map(|(name, limit)| (name.clone(), amount(*limit))).collect(),
    };
    rules.iter().map(rule).collect()
}

/// The fields of a pool that a mask names; those that are set if there is no mask.
pub(super) fn of_pool(pool: &Pool, mask: Option<&FieldMask>, faults: &mut Faults) -> PoolFields {
    let set = [
        !pool.strategy.is_empty(),
        pool.send_within.is_some(),
        pool.lease_ttl.is_some(),
        !pool.limits.is_empty(),
    ];
    let set = || POOL_FIELDS.into_iter().zip(set).filter(|(_, set)| *set).map(|(field, _)| field).collect();
    let named: Vec<&str> = named(mask, &POOL_FIELDS, faults).unwrap_or_else(set);
    // What is no duration comes out as none at all, which is refused as out of range.
    let span = |field: &str, span: Option<&prost_types::Duration>, default: Duration| {
        let read = |span: Option<&prost_types::Duration>| match span {
            None => default,
            Some(span) => duration(span).unwrap_or_default(),
        };
        named.contains(&field).then(|| read(span))
    };
    PoolFields {
        strategy: named.contains(&"strategy").then(|| pool.strategy.clone()),
        send_within: span("send_within", pool.send_within.as_ref(), DEFAULT_SEND_WITHIN),
        lease_ttl: span("lease_ttl", pool.lease_ttl.as_ref(), DEFAULT_LEASE_TTL),
        limits: named.contains(&"limits").then(|| rules(&pool.limits)),
    }
}

/// How an import is written.
pub(super) fn import_format(format: i32, faults: &mut Faults) -> ImportFormat {
    match WireFormat::try_from(format) {
        Ok(WireFormat::Unspecified) => ImportFormat::Guess,
        Ok(WireFormat::Lines) => ImportFormat::Lines,
        Ok(WireFormat::Csv) => ImportFormat::Csv,
        Err(_) => {
            faults.add(
                "format",
                "is not a format; write IMPORT_FORMAT_LINES or IMPORT_FORMAT_CSV, or leave it out",
            );
            ImportFormat::Guess
        }
    }
}
