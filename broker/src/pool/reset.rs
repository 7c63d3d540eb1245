//! An operator ends cooldowns, or accepts that counts are lost.

use std::{collections::BTreeSet, sync::Arc};

use super::{AcquireError, Pool, accounts::AccountOf};
use crate::{
    catalogue::{Key, Project},
    ledger::{EditAction, LedgerError, USAGE_MARK, account::Account, calendar::Calendar},
};

/// Longer than any cooldown of a quota model lasts, in milliseconds.
const LONGEST: i64 = 8 * 24 * HOUR;
const HOUR: i64 = 3_600_000;

impl Pool {
    /// Ends the cooldowns of the pool, or those that hold one key back; of one quota model alone if it is
    /// named. What was counted stays. How many were ended; none if there is no such key.
    ///
    /// # Errors
    /// If the ledger gave no answer; doing it again is safe.
    pub async fn reset_cooldowns(
        &self,
        key_id: Option<&str>,
        quota_model: &str,
    ) -> Result<Option<usize>, AcquireError> {
        let key = key_id.map(|id| self.keys.get(id));
        if key == Some(None) {
            return Ok(None);
        }
        let models = if quota_model.is_empty() {
            self.models_of_the_fleet().await?
        } else {
            BTreeSet::from([quota_model.to_owned()])
        };
        let mut accounts = self.account_ids(&models);
        accounts.retain(|id| {
            AccountOf::parse(id).is_some_and(|account| {
                key.flatten().is_none_or(|key| holds_back(account, key))
                    && (quota_model.is_empty() || is_of_model(account, quota_model))
            })
        });
        let inspection = self.ledger.inspect(&self.config.name, &accounts).await?;
        let stands_blocked = |account: &Account| !account.is_free(inspection.now);
        let blocked: Vec<String> = accounts
            .into_iter()
            .zip(&inspection.accounts)
            .filter(|(_, account)| account.as_ref().is_some_and(stands_blocked))
            .map(|(id, _)| id)
            .collect();
        self.edit(&blocked, EditAction::Reset).await.map(Some)
    }

    /// Goes on though counts of days or months are lost; whether anything waited for them.
    ///
    /// # Errors
    /// If the ledger gave no answer; doing it again is safe.
    pub async fn accept_loss(&self) -> Result<bool, LedgerError> {
        self.ledger.accept_loss(&self.config.name).await
    }

    /// The quota models that may be cooling down: other brokers, or this one before it was restarted, may
    /// have leased for models that it was not asked for. A cooldown comes of a report, and that of usage.
    async fn models_of_the_fleet(&self) -> Result<BTreeSet<String>, LedgerError> {
        let mut models = self.models_asked_for();
        models.extend(self.catalogue().model_aliases.values().cloned());
        let now = self.ledger.inspect(&self.config.name, &[]).await?.now;
        // In half days, since a day may have 23 hours.
        let instants = (0..=LONGEST / (12 * HOUR)).map(|half_days| now - half_days * 12 * HOUR);
        let day_ends: BTreeSet<i64> = instants.map(|at| Calendar::around(at).day_end(at)).collect();
        let day_ends: Vec<i64> = day_ends.into_iter().collect();
        let usage = self.ledger.usage(&self.config.name, &day_ends).await?;
        models.extend(usage.iter().filter_map(|row| row.name.split(USAGE_MARK).nth(1)).map(str::to_owned));
        Ok(models)
    }
}

/// Whether an account holds back that key.
fn holds_back(account: AccountOf<'_>, (key, project): &(Arc<Key>, Project)) -> bool {
    match account {
        AccountOf::Key(fingerprint) | AccountOf::KeyModel(fingerprint, _) => key.fingerprint == fingerprint,
        AccountOf::Project(id) | AccountOf::ProjectModel(id, _) => project.id == id,
        AccountOf::Billing(_) | AccountOf::OwnBilling(_) => AccountOf::billing_of(project) == account,
        AccountOf::Model(_) | AccountOf::Pool | AccountOf::Consumer(_) | AccountOf::Identity(_) => false,
    }
}

/// Whether an account is of that quota model alone.
fn is_of_model(account: AccountOf<'_>, quota_model: &str) -> bool {
    match account {
        AccountOf::ProjectModel(_, model) | AccountOf::KeyModel(_, model) | AccountOf::Model(model) => {
            model == quota_model
        }
        _ => false,
    }
}
