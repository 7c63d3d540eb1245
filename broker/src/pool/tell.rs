//! What is said of leases, refusals and reports in traces and in the log.

use opentelemetry::{KeyValue, Value};

use super::{AcquireError, Grant, Pool, Wish};
use crate::{calls, gemini::Decision, lease_id::LeaseId};

fn text(name: &'static str, value: impl Into<String>) -> KeyValue {
    KeyValue::new(name, Value::from(value.into()))
}

impl Pool {
    /// What a call asks for.
    pub(super) fn describe_wish(&self, wish: &Wish) {
        calls::describe(|| {
            [
                KeyValue::new("keybroker.pool", Value::from(self.name.clone())),
                text("keybroker.quota_model", self.watch.redacted(&wish.quota_model).as_str()),
                text("keybroker.consumer", self.watch.redacted(&wish.consumer).as_str()),
            ]
        });
    }

    /// What it got.
    pub(super) fn describe_grant(&self, grant: &Grant) {
        calls::describe(|| {
            [
                KeyValue::new("keybroker.outcome", "granted"),
                text("keybroker.lease_id", &grant.lease_id),
                text("keybroker.key_id", &grant.key.id),
                text("keybroker.project", &grant.project),
            ]
        });
    }

    /// Why it got nothing.
    pub(super) fn tell_refusal(&self, wish: &Wish, error: &AcquireError) {
        let reason = error.name();
        calls::describe(|| {
            [KeyValue::new("keybroker.outcome", "refused"), KeyValue::new("keybroker.refusal_reason", reason)]
        });
        if !tracing::enabled!(target: "keybroker::refusals", tracing::Level::INFO) {
            return;
        }
        let Some(left_out) = self.refusals.choose(reason) else { return };
        let (model, consumer) = (self.watch.redacted(&wish.quota_model), self.watch.redacted(&wish.consumer));
        tracing::info!(
            target: "keybroker::refusals",
            pool = self.config.name,
            model = model.as_str(),
            consumer = consumer.as_str(),
            reason,
            left_out,
            "no lease: {error}"
        );
    }

    /// What came of a lease. A call that reports many is described by the last.
    pub(super) fn describe_report(&self, lease: &LeaseId<'_>, decision: &Decision, key_id: &str) {
        calls::describe(|| {
            let project = self.keys.get(key_id).map_or("", |(_, project)| project.id.as_str());
            [
                KeyValue::new("keybroker.pool", Value::from(self.name.clone())),
                text("keybroker.quota_model", self.watch.redacted(lease.quota_model()).as_str()),
                text("keybroker.lease_id", lease.to_string()),
                text("keybroker.key_id", key_id),
                text("keybroker.project", project),
                KeyValue::new("keybroker.report.outcome", decision.signal.as_str()),
            ]
        });
    }
}
