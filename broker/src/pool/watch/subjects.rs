//! Keys and accounts of a pool as the subjects of events.

use std::collections::HashMap;

use super::Settled;
use crate::{
    catalogue,
    events::{Redactor, Subject},
    gemini::Scope,
    pool::accounts::{AccountOf, account_name},
};

/// A pool, as far as events speak of it.
#[derive(Debug)]
pub(super) struct Subjects {
    pub(super) pool: catalogue::Pool,
    redactor: Redactor,
    // Key id to fingerprint, project and billing account.
    keys: HashMap<String, KeyOf>,
}

#[derive(Debug, Clone)]
struct KeyOf {
    fingerprint: String,
    project: String,
    billing_account: Option<String>,
}

impl Subjects {
    pub(super) fn new(pool: catalogue::Pool, redactor: Redactor) -> Self {
        let mut keys = HashMap::new();
        for project in &pool.projects {
            for key in &project.keys {
                let of = KeyOf {
                    fingerprint: key.fingerprint.clone(),
                    project: project.id.clone(),
                    billing_account: project.billing_account.clone(),
                };
                keys.insert(key.id.clone(), of);
            }
        }
        Self { pool, redactor, keys }
    }

    pub(super) fn text(&self, text: &str) -> crate::events::Redacted {
        self.redactor.text(text)
    }

    /// The ledger's account that a block of this lease falls on; none if the key is gone or has no such.
    pub(super) fn account(&self, settled: &Settled, scope: Scope) -> Option<String> {
        let key = self.keys.get(&settled.key_id)?;
        Some(match scope {
            Scope::Key => AccountOf::Key(&key.fingerprint).id(),
            Scope::ProjectModel => AccountOf::ProjectModel(&key.project, &settled.quota_model).id(),
            Scope::Project => AccountOf::Project(&key.project).id(),
            Scope::BillingAccount => AccountOf::billing_of(self.project(&settled.key_id)?).id(),
            Scope::Model => AccountOf::Model(&settled.quota_model).id(),
        })
    }

    /// The project of a key and its catalogue entry.
    pub(super) fn project(&self, key_id: &str) -> Option<&catalogue::Project> {
        let key = self.keys.get(key_id)?;
        self.pool.projects.iter().find(|project| project.id == key.project)
    }

    /// An account as a subject, without a request.
    pub(super) fn of_account(&self, account: &str) -> Subject {
        let mut subject = Subject {
            pool: self.text(&self.pool.name),
            name: self.text(&account_name(&self.pool, account)),
            ..Subject::default()
        };
        let of_key = |fingerprint: &str| {
            self.keys
                .iter()
                .find(|(_, key)| key.fingerprint == fingerprint)
                .map(|(id, key)| (id, key.clone()))
        };
        match AccountOf::parse(account) {
            Some(AccountOf::Key(fingerprint) | AccountOf::KeyModel(fingerprint, _)) => {
                if let Some((id, key)) = of_key(fingerprint) {
                    subject.key_id = self.text(id);
                    subject.project = self.text(&key.project);
                    subject.billing_account = self.text(key.billing_account.as_deref().unwrap_or_default());
                }
            }
            Some(AccountOf::Project(project) | AccountOf::OwnBilling(project)) => {
                subject.project = self.text(project)
            }
            Some(AccountOf::ProjectModel(project, model)) => {
                (subject.project, subject.quota_model) = (self.text(project), self.text(model));
            }
            Some(AccountOf::Model(model)) => subject.quota_model = self.text(model),
            Some(AccountOf::Billing(account)) => subject.billing_account = self.text(account),
            // Accounts of other roles name nothing of a key.
            _ => {}
        }
        subject
    }

    /// An account as a subject, with the request that an answer about it was given to.
    pub(super) fn of_settled(&self, account: &str, settled: &Settled) -> Subject {
        let mut subject = self.of_account(account);
        subject.key_id = self.text(&settled.key_id);
        subject.quota_model = self.text(&settled.quota_model);
        if let Some(key) = self.keys.get(&settled.key_id) {
            subject.project = self.text(&key.project);
            subject.billing_account = self.text(key.billing_account.as_deref().unwrap_or_default());
        }
        subject.consumer = self.text(&settled.note.consumer);
        let labels = settled.note.labels.iter();
        subject.labels = labels.map(|(name, value)| (self.text(name), self.text(value))).collect();
        subject
    }

    /// A quota model of the pool as a subject.
    pub(super) fn of_model(&self, quota_model: &str) -> Subject {
        Subject {
            pool: self.text(&self.pool.name),
            name: self.text(&format!("pool {}, model {quota_model}", self.pool.name)),
            quota_model: self.text(quota_model),
            ..Subject::default()
        }
    }
}
