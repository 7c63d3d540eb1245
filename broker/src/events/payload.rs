//! An event as JSON: the schema that hooks receive, described in `docs/hooks.md`.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::{Event, Redacted, event::instant};
use crate::ledger::{FOREVER, Millis};

/// Fields that say nothing are left out, all but those that every event has.
#[derive(Serialize)]
struct Payload<'a> {
    id: &'a str,
    kind: &'static str,
    at: String,
    pool: &'a Redacted,
    message: String,
    #[serde(skip_serializing_if = "Redacted::is_empty")]
    subject: &'a Redacted,
    #[serde(skip_serializing_if = "Redacted::is_empty")]
    reason: &'a Redacted,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Redacted::is_empty")]
    key_id: &'a Redacted,
    #[serde(skip_serializing_if = "Redacted::is_empty")]
    project: &'a Redacted,
    #[serde(skip_serializing_if = "Redacted::is_empty")]
    billing_account: &'a Redacted,
    #[serde(skip_serializing_if = "Redacted::is_empty")]
    quota_model: &'a Redacted,
    #[serde(skip_serializing_if = "Redacted::is_empty")]
    consumer: &'a Redacted,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<Redacted, Redacted>,
    #[serde(skip_serializing_if = "str::is_empty")]
    limit_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_able: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<i64>,
}

impl Event {
    /// The end of what the event tells of, as RFC 3339; `forever` until somebody acts.
    pub fn until_text(&self) -> Option<String> {
        self.until.map(|until: Millis| if until >= FOREVER { "forever".to_owned() } else { instant(until) })
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Payload {
            id: &self.id,
            kind: self.kind.as_str(),
            at: instant(self.at),
            pool: &self.subject.pool,
            message: self.message(),
            subject: &self.subject.name,
            reason: &self.reason,
            until: self.until_text(),
            key_id: &self.subject.key_id,
            project: &self.subject.project,
            billing_account: &self.subject.billing_account,
            quota_model: &self.subject.quota_model,
            consumer: &self.subject.consumer,
            labels: &self.subject.labels,
            limit_name: &self.numbers.limit_name,
            limit: self.numbers.limit,
            used: self.numbers.used,
            keys_able: self.numbers.keys_able,
            keys: self.numbers.keys,
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::events::{EventKind, Numbers, Redactor, Subject};

    #[test]
    fn every_field_has_its_documented_name() {
        let text = |text: &str| Redactor::default().text(text);
        let subject = Subject {
            pool: text("default"),
            name: text("project team-a, model flash"),
            key_id: text("a1"),
            project: text("team-a"),
            billing_account: text("billing-1"),
            quota_model: text("flash"),
            consumer: text("importer"),
            labels: BTreeMap::from([(text("integration"), text("zalo"))]),
        };
        let numbers = Numbers {
            limit_name: "requests per minute".to_owned(),
            limit: Some(15),
            used: Some(3),
            keys_able: Some(1),
            keys: Some(5),
        };
        let mut event = Event::new(EventKind::CooldownBegun, 1_784_044_800_000, subject);
        (event.id, event.reason) = ("fixed".to_owned(), text("minute_quota"));
        (event.until, event.numbers) = (Some(FOREVER), numbers);
        assert_eq!(
            serde_json::to_value(&event).unwrap(),
            json!({
                "id": "fixed", "kind": "cooldown_begun", "at": "2026-07-14T16:00:00Z", "pool": "default",
                "message": event.message(), "subject": "project team-a, model flash",
                "reason": "minute_quota", "until": "forever", "key_id": "a1", "project": "team-a",
                "billing_account": "billing-1", "quota_model": "flash", "consumer": "importer",
                "labels": {"integration": "zalo"}, "limit_name": "requests per minute", "limit": 15, "used": 3,
                "keys_able": 1, "keys": 5,
            })
        );
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let event = Event::new(EventKind::LedgerUnavailable, 0, Subject::default());
        let value = serde_json::to_value(&event).unwrap();
        let names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["at", "id", "kind", "message", "pool"]);
    }
}
