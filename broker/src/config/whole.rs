//! Warnings about a configuration as a whole: nothing in it is wrong, but something may be missing.

use std::collections::BTreeMap;

use super::assemble::Assembly;
use super::fault::Findings;
use crate::catalogue::{Catalogue, Key, Pool, Project, Strategy, Tier};
use crate::secret::{Secret, has_key_format};

impl Assembly {
    /// Warns of tiers that are not told, of settings that are not read, of projects without limits
    /// and of unusual keys: of each once, however many there are.
    pub(super) fn warn_of_the_whole(&self, found: &mut Findings) {
        self.warn_of_untouched_tiers(found);
        self.warn_of_unread_settings(found);
        warn_of_missing_limits(&self.catalogue, found);
        warn_of_formats(&self.catalogue, found);
    }

    fn warn_of_untouched_tiers(&self, found: &mut Findings) {
        for (name, pool) in &self.catalogue.pools {
            let tiered =
                self.pool_rules.get(name).is_some_and(|rules| rules.iter().any(|rule| rule.tier.is_some()));
            let untold = pool.projects.iter().filter(|project| project.tier == Tier::Unknown).count();
            if tiered && untold > 0 {
                let text =
                    format!("{untold} of its projects name no tier, so its limits for a tier pass them by");
                found.warn(format!("pool {name}"), text);
            }
        }
    }
}

impl Assembly {
    /// Warns of weights and priorities that a pool's strategy does not read, and names one that would.
    fn warn_of_unread_settings(&self, found: &mut Findings) {
        for pool in self.catalogue.pools.values() {
            for (field, read, would) in [
                ("weight", pool.strategy.reads_weight(), Strategy::Weighted),
                ("priority", pool.strategy.reads_priority(), Strategy::Priority),
            ] {
                let mut unread = self
                    .key_settings
                    .iter()
                    .filter(|setting| !read && setting.field == field && setting.pool == pool.name);
                let Some(first) = unread.next() else { continue };
                let more = match unread.count() {
                    0 => String::new(),
                    more => format!(" (nor {more} more in this pool)"),
                };
                let text = format!(
                    "is not read{more} by the strategy {} of the pool {}; strategy = \"{would}\" would read it",
                    pool.strategy, pool.name
                );
                found.warn(&first.place, text);
            }
        }
    }
}

fn warn_of_missing_limits(catalogue: &Catalogue, found: &mut Findings) {
    let by_pool =
        |pool: &Pool| !(pool.limits.is_empty() && pool.totals.is_empty() && pool.model_totals.is_empty());
    let by_itself = |project: &Project| !(project.limits.is_empty() && project.totals.is_empty());
    let by_account = |pool: &Pool, project: &Project| {
        let account = project.billing_account.as_deref();
        account.is_some_and(|account| !pool.account_totals(account).is_empty())
    };
    let by_keys = |project: &Project| {
        let limited = |key: &Key| !(key.limits.is_empty() && key.totals.is_empty());
        !project.keys.is_empty() && project.keys.iter().all(limited)
    };
    let unlimited = catalogue.projects().filter(|(pool, project)| {
        !(by_pool(pool) || by_itself(project) || by_account(pool, project) || by_keys(project))
    });
    let unlimited = unlimited.count();
    if unlimited > 0 {
        let projects = if unlimited == 1 { "project" } else { "projects" };
        let text = format!(
            "no limits configured for {unlimited} {projects}; Google's refusals alone will hold them back"
        );
        found.warn("limits", text);
    }
}

/// Warns, once for all, of keys in a format that Google is not known to give out.
fn warn_of_formats(catalogue: &Catalogue, found: &mut Findings) {
    const NAMED: usize = 5;
    let unknown: BTreeMap<&str, &Secret> = catalogue
        .keys()
        .filter(|(_, key)| !has_key_format(key.secret.expose()))
        .map(|(_, key)| (key.id.as_str(), &key.secret))
        .collect();
    if unknown.is_empty() {
        return;
    }
    let mut named: Vec<String> =
        unknown.iter().take(NAMED).map(|(id, secret)| format!("{id} {secret}")).collect();
    if unknown.len() > NAMED {
        named.push("...".to_owned());
    }
    let count = format!("{} of {} keys", unknown.len(), catalogue.keys().count());
    let text = format!(
        "{count} have a format not known to be Google's and are used as they are: {}",
        named.join(", ")
    );
    found.warn("keys", text);
}
