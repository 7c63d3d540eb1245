//! How a pool stands.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Pool, StatsView,
    accounts::{AccountOf, account_name, limit_name},
};
use crate::{
    catalogue::{Key, Project, Tier},
    ledger::{
        FOREVER, LedgerError, Millis, Span, UNLIMITED,
        account::{Account, FULL_HEALTH},
        calendar::Calendar,
        window::{RAMP, Window},
    },
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
    /// The key that this broker leased last.
    pub last_key_id: Option<String>,
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
    /// How well it has answered of late, 0 to 100.
    pub health: i64,
    /// Until when it can serve none of the models asked for, because of cooldowns; [`FOREVER`] is until somebody acts,
    /// none if it can serve one.
    pub cooling_until: Option<Millis>,
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
    /// The limit that was configured, less margins; none if none was.
    pub configured: Option<i64>,
    /// The limit that Google named, less margins; none if it named none.
    pub learned: Option<i64>,
    /// When one more fits; none if it never does, or if there is no limit.
    pub next_free: Option<Millis>,
    /// When it will be exhausted at the rate of the last minute; none if it will not be, or that is
    /// not known.
    pub exhausted_at: Option<Millis>,
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
    /// Until when a part of the limits alone is open, if it is over and that is so.
    pub ramp_until: Option<Millis>,
}

impl Pool {
    /// How the pool stands.
    ///
    /// # Errors
    /// If the ledger gave no answer.
    pub async fn inspect(&self) -> Result<PoolView, LedgerError> {
        let ids = self.account_ids(&self.models_asked_for());
        let inspection = self.ledger.inspect(&self.config.name, &ids).await?;
        let now = inspection.now;
        let known = || ids.iter().zip(&inspection.accounts).filter_map(|(id, row)| Some((id, row.as_ref()?)));
        let blocked: HashMap<&str, Millis> = known()
            .filter(|(_, account)| account.blocked_until > now)
            .map(|(id, account)| (id.as_str(), account.blocked_until))
            .collect();
        let damage: HashMap<&str, i64> = known()
            .filter(|(_, account)| account.damage > 0)
            .map(|(id, account)| (id.as_str(), account.damage))
            .collect();
        let health = |key: &crate::catalogue::Key| {
            FULL_HEALTH - damage.get(AccountOf::Key(&key.fingerprint).id().as_str()).copied().unwrap_or(0)
        };
        let blocked_until = |account: AccountOf<'_>| blocked.get(account.id().as_str()).copied();
        let models = self.models_asked_for();
        let cooling_until = |key: &Key, project: &Project| {
            let itself = [
                AccountOf::Key(&key.fingerprint),
                AccountOf::Project(&project.id),
                AccountOf::billing_of(project),
            ];
            let itself = itself.into_iter().filter_map(blocked_until).max();
            let of_model = |model: &String| {
                let accounts = [
                    AccountOf::ProjectModel(&project.id, model),
                    AccountOf::KeyModel(&key.fingerprint, model),
                    AccountOf::Model(model),
                ];
                accounts.into_iter().filter_map(blocked_until).max()
            };
            // Of a model that is free there is none, and none is the least.
            let models = models.iter().map(of_model).min().flatten();
            itself.max(models)
        };
        let key_view = |(key, project): &(Arc<Key>, Project)| KeyView {
            key_id: key.id.clone(),
            project: project.id.clone(),
            health: health(key),
            tier: project.tier,
            available: blocked_until(AccountOf::Key(&key.fingerprint)).is_none()
                && blocked_until(AccountOf::Project(&project.id)).is_none()
                && blocked_until(AccountOf::billing_of(project)).is_none(),
            cooling_until: cooling_until(key, project),
        };
        let mut keys: Vec<KeyView> = self.keys.values().map(key_view).collect();
        keys.sort_by(|a, b| a.key_id.cmp(&b.key_id));
        Ok(PoolView {
            now,
            keys,
            limits: known().flat_map(|(id, account)| self.limits_of(id, account, now)).collect(),
            cooldowns: known().filter_map(|(id, account)| self.cooldown_of(id, account, now)).collect(),
            stats: self.stats.view(),
            last_key_id: self.stats.last_key_id(),
        })
    }

    /// The quota models asked for since the broker started.
    pub(super) fn models_asked_for(&self) -> BTreeSet<String> {
        let mut models = self.stats.models();
        models.extend(self.models.read().expect("no holder of this lock panics").keys().cloned());
        models
    }

    /// The accounts of all keys, for these quota models.
    pub(super) fn account_ids(&self, models: &BTreeSet<String>) -> Vec<String> {
        let mut ids = BTreeSet::new();
        for (key, project) in self.keys.values() {
            ids.insert(AccountOf::Key(&key.fingerprint).id());
            ids.insert(AccountOf::Project(&project.id).id());
            ids.insert(AccountOf::billing_of(project).id());
            for model in models {
                ids.insert(AccountOf::ProjectModel(&project.id, model).id());
                if !self.config.key_limits_for(project, key, model).is_empty() {
                    ids.insert(AccountOf::KeyModel(&key.fingerprint, model).id());
                }
            }
        }
        ids.extend(models.iter().map(|model| AccountOf::Model(model).id()));
        ids.insert(AccountOf::Pool.id());
        ids.into_iter().collect()
    }

    fn limits_of(&self, id: &str, account: &Account, now: Millis) -> Vec<LimitView> {
        let (project, quota_model) = match AccountOf::parse(id) {
            Some(AccountOf::ProjectModel(project, model)) => (project, model),
            Some(AccountOf::KeyModel(_, model)) => ("", model),
            _ => ("", ""),
        };
        let view = |window: &Window| LimitView {
            subject: account_name(&self.config, id),
            project: project.to_owned(),
            quota_model: quota_model.to_owned(),
            limit_name: limit_name(window.dimension, window.span),
            used: window.used(now),
            limit: (window.limit < UNLIMITED).then_some(window.limit),
            configured: (window.configured < UNLIMITED).then_some(window.configured),
            learned: (window.learned > 0).then_some(window.learned),
            next_free: Some(window.ready_at(now, 1, account.ramp(now)))
                .filter(|at| *at < FOREVER && window.limit < UNLIMITED),
            exhausted_at: exhausted_at(account, window, now),
        };
        account.windows.iter().map(view).collect()
    }

    fn cooldown_of(&self, id: &str, account: &Account, now: Millis) -> Option<CooldownView> {
        let probing = account.probing && account.blocked_until <= now;
        let ramp = account.ramp(now);
        (account.blocked_until > now || probing || ramp > 0).then(|| CooldownView {
            subject: account_name(&self.config, id),
            reason: account.reason.clone(),
            until: (account.blocked_until < FOREVER).then_some(account.blocked_until),
            probing,
            ramp_until: (ramp > 0).then_some(ramp + RAMP),
        })
    }
}

/// When a window will be exhausted if what it counts goes on as in the last minute. A trailing window
/// that what comes in leaves as fast will not be.
fn exhausted_at(account: &Account, window: &Window, now: Millis) -> Option<Millis> {
    const MINUTE: i64 = 60_000;
    if window.limit >= UNLIMITED {
        return None;
    }
    let of_minute =
        |other: &&Window| (other.dimension, other.span) == (window.dimension, Span::Trailing(MINUTE));
    let a_minute = account.windows.iter().find(of_minute)?.used(now);
    let left = (window.limit - window.used(now)).max(0);
    let goes_on = match window.span {
        Span::Trailing(span) => {
            i128::from(a_minute) * i128::from(span) > i128::from(window.limit) * i128::from(MINUTE)
        }
        Span::Day | Span::Month => a_minute > 0,
        Span::Held => false,
    };
    let at = now + i64::try_from(i128::from(left) * i128::from(MINUTE) / i128::from(a_minute.max(1))).ok()?;
    let ends = match window.span {
        Span::Day => Calendar::around(now).day_end(now),
        Span::Month => Calendar::around(now).month_end(now),
        Span::Trailing(_) | Span::Held => FOREVER,
    };
    (goes_on && at < ends).then_some(at)
}
