//! What a lease remembers of its request beside its charges: the ledger returns it when the lease is settled,
//! to whichever broker settles it.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::catalogue::Hook;

/// The most bytes of labels that travel: every open lease holds its note.
const MOST_LABEL_BYTES: usize = 1024;

/// A note. Its text is empty for a request of which there is nothing to remember, which is most of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who asked.
    #[serde(rename = "c", default, skip_serializing_if = "String::is_empty")]
    pub consumer: String,
    /// The labels of the request, if some hook asks for such labels.
    #[serde(rename = "l", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Note {
    /// The note of a request. Its labels travel only if a hook names labels and the request has all of
    /// them: first those that hooks name, then the others as long as there is room.
    pub fn of(consumer: &str, labels: &HashMap<String, String>, hooks: &[Hook]) -> Self {
        let asked = || hooks.iter().filter(|hook| !hook.labels.is_empty());
        let has_all = |hook: &Hook| hook.labels.iter().all(|(name, value)| labels.get(name) == Some(value));
        let mut note = Self { consumer: consumer.to_owned(), labels: BTreeMap::new() };
        if labels.is_empty() || !asked().any(has_all) {
            return note;
        }
        let named = |name: &String| asked().any(|hook| hook.labels.contains_key(name));
        let mut sorted: Vec<_> = labels.iter().collect();
        sorted.sort_by_key(|(name, _)| (!named(name), name.as_str()));
        let mut room = MOST_LABEL_BYTES;
        for (name, value) in sorted {
            let bytes = name.len() + value.len();
            if bytes <= room {
                room -= bytes;
                note.labels.insert(name.clone(), value.clone());
            }
        }
        note
    }

    /// The note as a short text.
    pub fn encode(&self) -> String {
        if self.consumer.is_empty() && self.labels.is_empty() {
            return String::new();
        }
        serde_json::to_string(self).expect("texts can be written as JSON")
    }

    /// Reads a note. A text that another version wrote and this one cannot read remembers nothing.
    pub fn decode(text: &str) -> Self {
        if text.is_empty() { Self::default() } else { serde_json::from_str(text).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::catalogue::HookAction;

    fn hook(labels: &[(&str, &str)]) -> Hook {
        Hook {
            name: "relogin".to_owned(),
            events: BTreeSet::new(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            pools: BTreeSet::new(),
            action: HookAction::Run { command: Vec::new() },
            cooldown: Duration::ZERO,
            timeout: Duration::ZERO,
            attempts: 1,
        }
    }

    fn labels(labels: &[(&str, &str)]) -> HashMap<String, String> {
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_note_is_read_back_and_an_empty_one_is_no_text() {
        let note =
            Note::of("importer", &labels(&[("integration", "zalo")]), &[hook(&[("integration", "zalo")])]);
        assert_eq!(note.encode(), r#"{"c":"importer","l":{"integration":"zalo"}}"#);
        assert_eq!(Note::decode(&note.encode()), note);
        assert_eq!(Note::default().encode(), "");
        assert_eq!(Note::decode(""), Note::default());
        assert_eq!(Note::decode("{\"c\":5}"), Note::default());
    }

    #[test]
    fn labels_travel_only_if_a_hook_asks_for_this_request() {
        let of_request = labels(&[("integration", "zalo"), ("account", "7")]);
        let travel = |hooks: &[Hook]| Note::of("", &of_request, hooks).labels.len();
        assert_eq!(travel(&[]), 0);
        assert_eq!(travel(&[hook(&[])]), 0, "a hook that asks for no label needs none");
        assert_eq!(travel(&[hook(&[("integration", "other")])]), 0);
        assert_eq!(travel(&[hook(&[("integration", "zalo"), ("region", "x")])]), 0, "one is missing");
        assert_eq!(travel(&[hook(&[]), hook(&[("integration", "zalo")])]), 2);
    }

    #[test]
    fn labels_are_bounded_and_those_that_hooks_name_come_first() {
        let long = "x".repeat(256);
        let mut of_request = labels(&[("zone", "here")]);
        (0..15).for_each(|n| drop(of_request.insert(format!("a{n:02}"), long.clone())));
        let note = Note::of("", &of_request, &[hook(&[("zone", "here")])]);
        assert_eq!(note.labels["zone"], "here");
        assert_eq!(note.labels.len(), 4, "three long ones fit beside it");
    }
}
