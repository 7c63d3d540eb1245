//! What a hook's cooldown is kept for.
//!
//! A hook that names labels is about whom the requests served: which key or project ran into a limit does
//! not matter to it (a re-login helps once, whatever key it was), so all events of a kind share its
//! cooldown. A hook without labels is about the pools and keys themselves: there each disabled key is news of
//! its own, while cooldowns, which come in swarms, are told once a pool.

use crate::{
    catalogue::{EventKind, Hook},
    events::Event,
};

/// The name of the claim: hook, kind and what the cooldown is kept for.
pub(super) fn claim_name(hook: &Hook, event: &Event) -> String {
    let mut name = format!("hook/{}/{}", hook.name, event.kind);
    if !hook.labels.is_empty() {
        return name;
    }
    let subject = &event.subject;
    let kept_for = match event.kind {
        EventKind::KeyDisabled | EventKind::KeyRecovered => vec![&subject.pool, &subject.key_id],
        EventKind::KeyRotated | EventKind::KeyRotationDone => vec![&subject.pool, &subject.name],
        EventKind::SecretSourceFailed | EventKind::SecretSourceRecovered => vec![&subject.name],
        EventKind::LimitLearned | EventKind::OutsideUsageSuspected => vec![&subject.pool, &subject.name],
        EventKind::PoolNearlyExhausted | EventKind::PoolExhausted => {
            vec![&subject.pool, &subject.quota_model]
        }
        EventKind::CooldownBegun | EventKind::CooldownEnded => vec![&subject.pool],
        // There is one ledger for all pools.
        EventKind::LedgerUnavailable => vec![],
    };
    for part in kept_for {
        name.push('/');
        name.push_str(part.as_str());
    }
    if event.kind == EventKind::LimitLearned {
        name.push('/');
        name.push_str(&event.numbers.limit_name);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::super::tests::{event, hook};
    use super::*;

    #[test]
    fn a_hook_with_labels_has_one_cooldown_for_a_kind_whatever_key_it_was() {
        let relogin = hook("relogin", &[("integration", "zalo")]);
        let mut other = event(EventKind::CooldownBegun);
        other.subject.pool = crate::events::Redactor::default().text("another");
        other.subject.name = crate::events::Redactor::default().text("project other");
        assert_eq!(claim_name(&relogin, &event(EventKind::CooldownBegun)), claim_name(&relogin, &other),);
        assert_ne!(claim_name(&relogin, &other), claim_name(&relogin, &event(EventKind::KeyDisabled)));
        assert_ne!(claim_name(&relogin, &other), claim_name(&hook("else", &[("a", "b")]), &other));
    }

    #[test]
    fn a_hook_without_labels_tells_of_each_key_and_once_of_the_cooldowns_of_a_pool() {
        let chat = hook("chat", &[]);
        let name = |kind| claim_name(&chat, &event(kind));
        assert_eq!(name(EventKind::KeyDisabled), "hook/chat/key_disabled/default/a1");
        assert_eq!(name(EventKind::CooldownBegun), "hook/chat/cooldown_begun/default");
        assert_eq!(name(EventKind::PoolExhausted), "hook/chat/pool_exhausted/default/flash");
        assert_eq!(name(EventKind::LedgerUnavailable), "hook/chat/ledger_unavailable");
        assert_eq!(
            name(EventKind::LimitLearned),
            "hook/chat/limit_learned/default/project team-a, model flash/requests per minute"
        );
    }
}
