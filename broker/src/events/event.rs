//! An event.

use std::collections::BTreeMap;

use super::{EventKind, Redacted};
use crate::ledger::{FOREVER, Millis};

/// Something that happened. Every text in it is [`Redacted`] or chosen here, so it can hold no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Unlike that of every other event, so that a receiver can tell a repeated delivery.
    pub id: String,
    /// What happened.
    pub kind: EventKind,
    /// When, by the ledger's clock as far as it could be asked.
    pub at: Millis,
    /// To what.
    pub subject: Subject,
    /// Why, in one word; empty if there is nothing to say.
    pub reason: Redacted,
    /// Until when it lasts; [`FOREVER`] is until somebody acts, none where nothing lasts.
    pub until: Option<Millis>,
    /// How much.
    pub numbers: Numbers,
}

/// What an event is about, and the request that brought it to light. Empty is not known, or does not apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The pool.
    pub pool: Redacted,
    /// What it is about in words, such as `project team-a, model gemini-2.5-flash`.
    pub name: Redacted,
    /// The key.
    pub key_id: Redacted,
    /// The key's project.
    pub project: Redacted,
    /// The project's billing account.
    pub billing_account: Redacted,
    /// The quota model.
    pub quota_model: Redacted,
    /// Who asked for the lease.
    pub consumer: Redacted,
    /// The labels of the request; there are some only if a hook asks for labels of this request.
    pub labels: BTreeMap<Redacted, Redacted>,
}

/// The numbers of an event, where it has any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// What is limited, such as `requests per minute`.
    pub limit_name: String,
    /// To how much.
    pub limit: Option<i64>,
    /// How much of it was used by the ledger's count.
    pub used: Option<i64>,
    /// How many keys can serve now.
    pub keys_able: Option<i64>,
    /// Of how many.
    pub keys: Option<i64>,
}

impl Event {
    /// An event that lasts for no time and has no numbers.
    pub fn new(kind: EventKind, at: Millis, subject: Subject) -> Self {
        Self {
            id: format!("{:032x}", rand::random::<u128>()),
            kind,
            at,
            subject,
            reason: Redacted::default(),
            until: None,
            numbers: Numbers::default(),
        }
    }

    /// One sentence for people.
    pub fn message(&self) -> String {
        let Subject { pool, name, quota_model, .. } = &self.subject;
        let reason =
            if self.reason.is_empty() { String::new() } else { format!(" ({})", self.reason.as_str()) };
        let until = match self.until {
            Some(FOREVER..) => " until somebody acts or a check finds it well again".to_owned(),
            Some(until) => format!(" until {}", instant(until)),
            None => String::new(),
        };
        let Numbers { limit_name, limit, used, keys_able, keys } = &self.numbers;
        let (limit, used) = (limit.unwrap_or_default(), used.unwrap_or_default());
        let (keys_able, keys) = (keys_able.unwrap_or_default(), keys.unwrap_or_default());
        match self.kind {
            EventKind::KeyDisabled => format!("pool {pool}: {name} is disabled{reason}{until}"),
            EventKind::KeyRecovered => format!("pool {pool}: {name} works again"),
            EventKind::CooldownBegun => format!("pool {pool}: {name} cools down{reason}{until}"),
            EventKind::CooldownEnded => format!("pool {pool}: the cooldown of {name} is over{reason}"),
            EventKind::PoolNearlyExhausted | EventKind::PoolExhausted => {
                format!("pool {pool}: {keys_able} of {keys} keys can serve {quota_model} now")
            }
            EventKind::LimitLearned => {
                format!("pool {pool}: Google limits {name} to {limit} {limit_name}")
            }
            EventKind::OutsideUsageSuspected => format!(
                "pool {pool}: Google refused {name} at {used} of {limit} {limit_name}; something else uses this quota"
            ),
            EventKind::KeyRotated => {
                format!("pool {pool}: {name} has a new text; leases of the former one may still be out")
            }
            EventKind::KeyRotationDone => {
                format!("pool {pool}: no lease of the former text of {name} is out any more")
            }
            EventKind::SecretSourceFailed => {
                let reason = self.reason.as_str();
                format!("the secret at {name} cannot be had anew: {reason}; what it was before stands")
            }
            EventKind::SecretSourceRecovered => format!("the secret at {name} can be had again"),
            EventKind::LedgerUnavailable => {
                format!("pool {pool}: the ledger gives no answer{reason}; nothing is leased until it does")
            }
        }
    }
}

/// An instant as RFC 3339, in UTC.
pub(crate) fn instant(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Redactor;

    fn event(kind: EventKind) -> Event {
        let text = |text: &str| Redactor::default().text(text);
        let subject = Subject {
            pool: text("default"),
            name: text("project team-a, model flash"),
            quota_model: text("flash"),
            ..Subject::default()
        };
        Event { reason: text("minute_quota"), ..Event::new(kind, 1_784_044_800_000, subject) }
    }

    #[test]
    fn a_message_says_what_why_and_until_when() {
        let begun = Event { until: Some(1_784_044_860_250), ..event(EventKind::CooldownBegun) };
        assert_eq!(
            begun.message(),
            "pool default: project team-a, model flash cools down (minute_quota) until 2026-07-14T16:01:00.25Z"
        );
        let for_good = Event { until: Some(FOREVER), ..event(EventKind::KeyDisabled) };
        assert!(for_good.message().ends_with("until somebody acts or a check finds it well again"));
    }

    #[test]
    fn a_message_gives_the_numbers() {
        let numbers = Numbers {
            limit_name: "requests per minute".to_owned(),
            limit: Some(15),
            used: Some(3),
            keys_able: Some(1),
            keys: Some(5),
        };
        let told = |kind| Event { numbers: numbers.clone(), ..event(kind) }.message();
        assert!(told(EventKind::OutsideUsageSuspected).contains("at 3 of 15 requests per minute;"));
        assert!(told(EventKind::LimitLearned).ends_with("to 15 requests per minute"));
        assert!(told(EventKind::PoolNearlyExhausted).ends_with("1 of 5 keys can serve flash now"));
    }

    #[test]
    fn no_two_events_share_an_id() {
        assert_ne!(event(EventKind::KeyDisabled).id, event(EventKind::KeyDisabled).id);
    }
}
