//! Keys, pools and records as wire types.

use keybroker_proto::v1::{
    self, ImportKeysResponse, KeyState as WireState, LimitRule, Origin as WireOrigin, Tier as WireTier,
    imported_line::Outcome,
};

use super::super::convert::{duration, timestamp};
use crate::{
    access::Caller,
    catalogue::Tier,
    fleet::{ImportOutcome, ImportedLine, KeyState, KeyView, Obstacle, Origin, PoolView},
    registry::{AuditRecord, WrittenRule},
};

/// A key as the caller may know it.
pub(super) fn key(view: KeyView, caller: &Caller) -> v1::Key {
    let tier = match view.tier {
        Tier::Free => WireTier::Free,
        Tier::Paid => WireTier::Paid,
        Tier::Unknown => WireTier::Unspecified,
    };
    let state = match view.state {
        KeyState::Active => WireState::Active,
        KeyState::Disabled => WireState::Disabled,
        KeyState::Draining => WireState::Draining,
        KeyState::Drained => WireState::Drained,
    };
    v1::Key {
        name: view.resource(),
        api_key: String::new(),
        key_preview: view.preview,
        former_key_previews: view.former_previews,
        project: view.project,
        tier: tier.into(),
        billing_account: view.billing_account.unwrap_or_default(),
        weight: i32::try_from(view.weight).ok(),
        priority: view.priority.map(i32::from),
        labels: view.labels.into_iter().collect(),
        limits: rules(view.limits),
        state: state.into(),
        state_reason: view.reason,
        remove_when_drained: view.remove_when_drained,
        origin: origin(view.origin).into(),
        problem: view.problem.map(|problem| told(&problem, caller)).unwrap_or_default(),
        etag: view.etag,
        create_time: view.times.map(|(created, _)| timestamp(created)),
        update_time: view.times.map(|(_, updated)| timestamp(updated)),
    }
}

pub(super) fn pool(view: PoolView) -> v1::Pool {
    v1::Pool {
        name: format!("pools/{}", view.name),
        strategy: view.strategy,
        send_within: Some(duration(view.send_within)),
        lease_ttl: Some(duration(view.lease_ttl)),
        limits: rules(view.limits),
        key_count: count(view.keys),
        origin: origin(view.origin).into(),
        etag: view.etag,
        create_time: view.times.map(|(created, _)| timestamp(created)),
        update_time: view.times.map(|(_, updated)| timestamp(updated)),
    }
}

fn origin(origin: Origin) -> WireOrigin {
    match origin {
        Origin::Configured => WireOrigin::Configured,
        Origin::RunTime => WireOrigin::RunTime,
    }
}

fn rules(rules: Vec<WrittenRule>) -> Vec<LimitRule> {
    let amount = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    let rule = |rule: WrittenRule| LimitRule {
        model: rule.model,
        limits: rule.limits.into_iter().map(|(name, limit)| (name, amount(limit))).collect(),
    };
    rules.into_iter().map(rule).collect()
}

/// What came of an import, as the caller may know it.
pub(super) fn imported(lines: Vec<ImportedLine>, caller: &Caller) -> ImportKeysResponse {
    let line = |line: ImportedLine| {
        let (outcome, name, message) = match line.outcome {
            ImportOutcome::Created(name) => (Outcome::Created, name, String::new()),
            ImportOutcome::Duplicate(why) => (Outcome::Duplicate, String::new(), told(&why, caller)),
            ImportOutcome::Invalid(why) => (Outcome::Invalid, String::new(), told(&why, caller)),
        };
        v1::ImportedLine {
            line: count(line.line),
            outcome: outcome.into(),
            name,
            key_preview: line.preview,
            message,
        }
    };
    let lines: Vec<v1::ImportedLine> = lines.into_iter().map(line).collect();
    let created = lines.iter().filter(|line| line.outcome() == Outcome::Created).count();
    ImportKeysResponse { lines, created_count: count(created) }
}

fn told(why: &Obstacle, caller: &Caller) -> String {
    why.told(|pool| caller.uses_pool(pool)).to_owned()
}

pub(super) fn audit_record(record: AuditRecord) -> v1::AuditRecord {
    let json = |value: Option<serde_json::Value>| value.map(|value| value.to_string()).unwrap_or_default();
    v1::AuditRecord {
        name: format!("auditRecords/{}", record.id),
        time: Some(timestamp(record.at())),
        actor: record.actor,
        peer: record.peer,
        action: record.action,
        resource: record.resource,
        before_json: json(record.before),
        after_json: json(record.after),
    }
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
