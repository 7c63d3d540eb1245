//! Which limits hold: the rules that apply, lowered by the margin and with bursts smoothed.

use super::limit::{Dimension, Limit, Measures, Window, by_measure, most_specific};
use super::pool::{Key, Pool, Project};

impl Pool {
    /// What holds for a project's use of a quota model, one limit for each dimension and window.
    ///
    /// For each, a rule of the project stands before one of the pool, and among those the most
    /// specific pattern stands; of two equal ones the smaller amount does.
    pub fn limits_for(&self, project: &Project, quota_model: &str) -> Vec<Limit> {
        let mut chosen = most_specific(&self.limits, quota_model);
        chosen.extend(most_specific(&project.limits, quota_model));
        self.settled(Some(project), chosen)
    }

    /// What holds for a key's use of a quota model beside its project's limits, chosen like
    /// [`Pool::limits_for`].
    pub fn key_limits_for(&self, project: &Project, key: &Key, quota_model: &str) -> Vec<Limit> {
        self.settled(Some(project), most_specific(&key.limits, quota_model))
    }

    /// What holds for a key over all models together.
    pub fn key_totals(&self, project: &Project, key: &Key) -> Vec<Limit> {
        self.settled(Some(project), by_measure(&key.totals))
    }

    /// What holds for a project over all its keys and models together.
    pub fn project_totals(&self, project: &Project) -> Vec<Limit> {
        self.settled(Some(project), by_measure(&project.totals))
    }

    /// What holds for a billing account over all its projects; nothing for one without limits.
    pub fn account_totals(&self, billing_account: &str) -> Vec<Limit> {
        let account = self.billing_accounts.iter().find(|account| account.id == billing_account);
        self.settled(None, account.map(|account| by_measure(&account.totals)).unwrap_or_default())
    }

    /// What holds for a quota model over all projects of the pool.
    pub fn model_totals_for(&self, quota_model: &str) -> Vec<Limit> {
        self.settled(None, most_specific(&self.model_totals, quota_model))
    }

    /// What holds for the pool as a whole.
    pub fn pool_totals(&self) -> Vec<Limit> {
        self.settled(None, by_measure(&self.totals))
    }

    /// An amount, such as one that Google named, less the margin of a project or else the pool: at
    /// least 1, since a limit of nought would mean never.
    pub fn less_margin(&self, project: Option<&Project>, amount: u64) -> u64 {
        let margin = project.and_then(|project| project.margin_percent).unwrap_or(self.margin_percent);
        let kept = u128::from(100_u8.saturating_sub(margin));
        // No larger than the amount, so it fits.
        let lowered = u64::try_from(u128::from(amount) * kept / 100).unwrap_or(amount);
        lowered.max(1)
    }

    /// Amounts less the margin, and a limit for each second where only one for each minute is
    /// given and bursts are to be smoothed.
    fn settled(&self, project: Option<&Project>, mut chosen: Measures) -> Vec<Limit> {
        const SECOND: (Dimension, Window) = (Dimension::Requests, Window::Trailing(1));
        const MINUTE: (Dimension, Window) = (Dimension::Requests, Window::Trailing(60));
        for amount in chosen.values_mut() {
            *amount = self.less_margin(project, *amount);
        }
        let smooth = project.and_then(|project| project.smooth_bursts).unwrap_or(self.smooth_bursts);
        if smooth && let Some(a_minute) = chosen.get(&MINUTE).copied() {
            chosen.entry(SECOND).or_insert_with(|| a_minute.div_ceil(60));
        }
        chosen.into_iter().map(|((dimension, window), amount)| Limit { dimension, window, amount }).collect()
    }
}
