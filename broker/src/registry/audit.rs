//! Records of changes: who did what to which resource, and when.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Edit, RegistryError, Who};
use crate::ledger::Millis;

/// Names a record, and says when it was made: milliseconds since the Unix epoch by the registry's
/// clock, and a number that tells the records of one millisecond apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditId(pub u64, pub u64);

/// A record of one change.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// Its name.
    pub id: AuditId,
    /// Who made the change.
    pub actor: String,
    /// From where; empty if it was a broker by itself.
    pub peer: String,
    /// What was done, such as `CreateKey`.
    pub action: String,
    /// To what.
    pub resource: String,
    /// How the resource stood, without secrets.
    pub before: Option<Value>,
    /// How it stood afterwards, without secrets.
    pub after: Option<Value>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    actor: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    peer: String,
    action: String,
    resource: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

/// The record of an edit, as the stores keep it.
pub(super) fn body(edit: &Edit, who: &Who) -> String {
    let body = Body {
        actor: who.actor.clone(),
        peer: who.peer.clone(),
        action: format!("{:?}", edit.action),
        resource: edit.resource.clone(),
        before: edit.before.clone(),
        after: edit.after.clone(),
    };
    serde_json::to_string(&body).expect("a record is plain data with text for names")
}

impl AuditRecord {
    /// When the change was made.
    pub fn at(&self) -> Millis {
        i64::try_from(self.id.0).unwrap_or(i64::MAX)
    }

    pub(super) fn read(id: AuditId, body: &str) -> Result<Self, RegistryError> {
        let Body { actor, peer, action, resource, before, after } = serde_json::from_str(body)
            .map_err(|error| RegistryError::Unusable(format!("the record {id} cannot be read: {error}")))?;
        Ok(Self { id, actor, peer, action, resource, before, after })
    }
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// A text that names no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the name of a record")]
pub struct NotAnAuditId;

impl FromStr for AuditId {
    type Err = NotAnAuditId;

    fn from_str(text: &str) -> Result<Self, NotAnAuditId> {
        let (at, number) = text.split_once('-').ok_or(NotAnAuditId)?;
        let parse = |text: &str| text.parse().map_err(|_| NotAnAuditId);
        Ok(Self(parse(at)?, parse(number)?))
    }
}
