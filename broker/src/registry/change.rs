//! Changes of the registry, and who makes them.

use serde_json::{Value, json};

use super::{Entry, EntryName, Version};

/// A change, made as one atomic step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The version it was decided by; if there is none, it holds for every version.
    pub decided_at: Option<Version>,
    /// What is changed, with one audit record each. One whose writes change nothing is not recorded; one
    /// that writes nothing was done elsewhere, and is.
    pub edits: Vec<Edit>,
}

/// One thing that is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What is done.
    pub action: Action,
    /// To what: a resource's name, such as `pools/default/keys/a1`.
    pub resource: String,
    /// Entries that are written.
    pub puts: Vec<Entry>,
    /// Entries that are removed.
    pub removes: Vec<EntryName>,
    /// How the resource stood, without secrets.
    pub before: Option<Value>,
    /// How it stands afterwards, without secrets.
    pub after: Option<Value>,
}

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A key is created.
    CreateKey,
    /// A key is created by an import.
    ImportKey,
    /// A key is changed.
    UpdateKey,
    /// Another text takes the place of a key's.
    RotateKey,
    /// A key is deleted.
    DeleteKey,
    /// A key is leased again.
    EnableKey,
    /// A key is no longer leased.
    DisableKey,
    /// A key is no longer leased, and its leases are waited for.
    DrainKey,
    /// No lease of a draining key is held any more.
    FinishDrain,
    /// A pool is created.
    CreatePool,
    /// A pool is changed.
    UpdatePool,
    /// A pool is deleted.
    DeletePool,
    /// Cooldowns are ended, in the ledger.
    ResetCooldowns,
    /// Lost counts of days and months are accepted, in the ledger.
    AcceptLoss,
    /// Google named the quota model of a model.
    LearnAlias,
}

/// Who makes a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The name they gave, or their address if they gave none.
    pub actor: String,
    /// The address they called from; empty for the broker itself.
    pub peer: String,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It was made, and the registry stands at this version.
    Made(Version),
    /// Nothing was changed: the registry stands at another version than the change was decided by.
    Stale,
}

impl Who {
    /// A broker, by itself.
    pub fn broker() -> Self {
        Self { actor: "keybroker".to_owned(), peer: String::new() }
    }
}

impl Edit {
    /// Remembers the quota model of a model.
    pub fn learn_alias(model: &str, quota_model: &str) -> Self {
        Self {
            action: Action::LearnAlias,
            resource: format!("models/{model}"),
            puts: vec![Entry::Alias(model.to_owned(), quota_model.to_owned())],
            removes: Vec::new(),
            before: None,
            after: Some(json!({ "quota_model": quota_model })),
        }
    }

    /// Records that an operator ended cooldowns of a key or a pool; of one quota model alone if it is not empty.
    pub fn reset_cooldowns(resource: &str, quota_model: &str, ended: usize) -> Self {
        Self {
            action: Action::ResetCooldowns,
            resource: resource.to_owned(),
            puts: Vec::new(),
            removes: Vec::new(),
            before: None,
            after: Some(json!({ "cooldowns_ended": ended, "quota_model": quota_model })),
        }
    }

    /// Records that an operator accepted that counts of a pool are lost.
    pub fn accept_loss(resource: &str) -> Self {
        Self {
            action: Action::AcceptLoss,
            resource: resource.to_owned(),
            puts: Vec::new(),
            removes: Vec::new(),
            before: None,
            after: None,
        }
    }

    /// The writes as the stores take them: names and bodies; an empty body removes.
    pub(super) fn writes(&self) -> Vec<(String, String)> {
        let puts = self.puts.iter().map(|entry| (entry.name().to_string(), entry.body()));
        let removes = self.removes.iter().map(|name| (name.to_string(), String::new()));
        puts.chain(removes).collect()
    }
}
