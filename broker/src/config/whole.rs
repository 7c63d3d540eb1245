//! Warnings about a configuration as a whole: nothing in it is wrong, but something may be missing.

use std::collections::{BTreeMap, BTreeSet};

use super::assemble::Assembly;
use super::fault::Findings;
use super::key_text::is_known_format;
use crate::catalogue::{Catalogue, Tier};
use crate::secret::Secret;

impl Assembly {
    /// Warns of tiers that are not told, of projects without limits and of unusual keys: of each
    /// once, however many there are.
    pub(super) fn warn_of_the_whole(&self, found: &mut Findings) {
        self.warn_of_untouched_tiers(found);
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

fn warn_of_missing_limits(catalogue: &Catalogue, found: &mut Findings) {
    let limited: BTreeSet<&str> = catalogue
        .pools
        .values()
        .filter(|pool| !pool.limits.is_empty())
        .map(|pool| pool.name.as_str())
        .collect();
    let unlimited = catalogue.projects().filter(|(pool, project)| {
        let by_keys = !project.keys.is_empty() && project.keys.iter().all(|key| !key.limits.is_empty());
        !limited.contains(pool.name.as_str()) && project.limits.is_empty() && !by_keys
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
        .filter(|(_, key)| !is_known_format(key.secret.expose()))
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
