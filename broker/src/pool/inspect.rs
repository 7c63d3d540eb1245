//! How a pool stands.

use std::collections::BTreeSet;

use super::{
    Pool, StatsView,
    accounts::{AccountOf, account_name, limit_name},
};
use crate::{
    catalogue::Tier,
    ledger::{FOREVER, LedgerError, Millis, UNLIMITED, account::Account},
};

/// A pool at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolView {
    /// The ledger's clock.
    pub now: Millis,
    /// The keys.
    pub keys: Vec<KeyView>,
    /// What is used of each limit.
    pub limits: Vec<LimitView>,
    /// What is cooling down.
    pub cooldowns: Vec<CooldownView>,
    /// What this broker did.
    pub stats: StatsView,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// Its id.
    pub key_id: String,
    /// Its project.
    pub project: String,
    /// Its tier.
    pub tier: Tier,
    /// Whether neither it nor its project is blocked.
    pub available: bool,
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitView {
    /// What is limited.
    pub subject: String,
    /// The project, empty for a key's own limit.
    pub project: String,
    /// The quota model.
    pub quota_model: String,
    /// What is counted, and for how long.
    pub limit_name: String,
    /// How much is used.
    pub used: i64,
    /// Of how much; none if it is counted and not limited.
    pub limit: Option<i64>,
}

/// A cooldown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CooldownView {
    /// What is cooling down.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// Until when; none if until an operator acts.
    pub until: Option<Millis>,
    /// Whether a lease is out alone, to find out whether it is over.
    pub probing: bool,
}

impl Pool {
    /// How the pool stands.
    ///
    /// # Errors
    /// If the ledger gave no answer.
    pub async fn inspect(&self) -> Result<PoolView, LedgerError> {
        let ids = self.account_ids();
        let inspection = self.ledger.inspect(&self.config.name, &ids).await?;
        let now = inspection.now;
        let known = || ids.iter().zip(&inspection.accounts).filter_map(|(id, row)| Some((id, row.as_ref()?)));
        let blocked: BTreeSet<&str> =
            known().filter(|(_, account)| account.blocked_until > now).map(|(id, _)| id.as_str()).collect();
        let is_blocked = |account: AccountOf<'_>| blocked.contains(account.id().as_str());
        let key_view = |(key, project): &(crate::catalogue::Key, crate::catalogue::Project)| KeyView {
            key_id: key.id.clone(),
            project: project.id.clone(),
            tier: project.tier,
            available: !is_blocked(AccountOf::Key(&key.fingerprint))
                && !is_blocked(AccountOf::Project(&project.id))
                && !is_blocked(AccountOf::billing_of(project)),
        };
        let mut keys: Vec<KeyView> = self.keys.values().map(key_view).collect();
        keys.sort_by(|a, b| a.key_id.cmp(&b.key_id));
        Ok(PoolView {
            now,
            keys,
            limits: known().flat_map(|(id, account)| self.limits_of(id, account, now)).collect(),
            cooldowns: known().filter_map(|(id, account)| self.cooldown_of(id, account, now)).collect(),
            stats: self.stats.view(),
        })
    }

    fn account_ids(&self) -> Vec<String> {
        let models: BTreeSet<String> =
            self.models.read().expect("no holder of this lock panics").iter().cloned().collect();
        let mut ids = BTreeSet::new();
        for (key, project) in self.keys.values() {
            ids.insert(AccountOf::Key(&key.fingerprint).id());
            ids.insert(AccountOf::Project(&project.id).id());
            ids.insert(AccountOf::billing_of(project).id());
            for model in &models {
                ids.insert(AccountOf::ProjectModel(&project.id, model).id());
                if !self.config.key_limits_for(project, key, model).is_empty() {
                    ids.insert(AccountOf::KeyModel(&key.fingerprint, model).id());
                }
            }
        }
        ids.extend(models.iter().map(|model| AccountOf::Model(model).id()));
        ids.into_iter().collect()
    }

    fn limits_of(&self, id: &str, account: &Account, now: Millis) -> Vec<LimitView> {
        let (project, quota_model) = match AccountOf::parse(id) {
            Some(AccountOf::ProjectModel(project, model)) => (project, model),
            Some(AccountOf::KeyModel(_, model)) => ("", model),
            _ => ("", ""),
        };
        let view = |window: &crate::ledger::window::Window| LimitView {
            subject: account_name(&self.config, id),
            project: project.to_owned(),
            quota_model: quota_model.to_owned(),
            limit_name: limit_name(window.dimension, window.span),
            used: window.used(now),
            limit: (window.limit < UNLIMITED).then_some(window.limit),
        };
        account.windows.iter().map(view).collect()
    }

    fn cooldown_of(&self, id: &str, account: &Account, now: Millis) -> Option<CooldownView> {
        let probing = account.probing && account.blocked_until <= now;
        (account.blocked_until > now || probing).then(|| CooldownView {
            subject: account_name(&self.config, id),
            reason: account.reason.clone(),
            until: (account.blocked_until < FOREVER).then_some(account.blocked_until),
            probing,
        })
    }
}
