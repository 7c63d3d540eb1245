//! Which keys the constraints of a request leave.

use keybroker_proto::v1::Tier;

use super::{AcquireError, Pool, Wish, accounts::serves};
use crate::catalogue::{Key, Project};

/// How many keys the constraints of a request may leave: each of them is looked at.
const MOST_NAMED: usize = 1000;
/// How many excluded ids a refusal names.
const MOST_TOLD: usize = 8;

impl Pool {
    /// The keys that the wish allows, where it names a project or labels.
    pub(super) fn only(&self, wish: &Wish) -> Result<Vec<String>, AcquireError> {
        if wish.project.is_empty() && wish.key_labels.is_empty() {
            return Ok(Vec::new());
        }
        let named = |project: &&Project| wish.project.is_empty() || project.id == wish.project;
        let projects = self.config.projects.iter().filter(named).filter(|project| serves(project, wish.tier));
        let labelled =
            |key: &&Key| wish.key_labels.iter().all(|(name, value)| key.labels.get(name) == Some(value));
        let keys: Vec<String> =
            projects.flat_map(|project| &project.keys).filter(labelled).map(|key| key.id.clone()).collect();
        if keys.is_empty() {
            return Err(AcquireError::NoKey(self.no_key_for(wish)));
        }
        if keys.len() > MOST_NAMED {
            return Err(AcquireError::TooManyKeys(keys.len()));
        }
        Ok(keys)
    }

    /// The keys that the wish excludes.
    pub(super) fn excluded(&self, wish: &Wish) -> Vec<String> {
        let mut excluded = wish.exclude_key_ids.clone();
        if !wish.exclude_projects.is_empty() {
            let of_projects =
                self.config.projects.iter().filter(|project| wish.exclude_projects.contains(&project.id));
            excluded.extend(of_projects.flat_map(|project| &project.keys).map(|key| key.id.clone()));
        }
        excluded
    }

    /// That the constraints leave no key, with all of them named.
    pub(super) fn no_key_for(&self, wish: &Wish) -> String {
        let mut wanted = Vec::new();
        if !wish.project.is_empty() {
            wanted.push(format!("of project {}", wish.project));
        }
        match wish.tier {
            Tier::Unspecified => {}
            Tier::Free => wanted.push("of the free tier".to_owned()),
            Tier::Paid => wanted.push("of the paid tier".to_owned()),
        }
        wanted.extend(wish.key_labels.iter().map(|(name, value)| format!("labelled {name}={value}")));
        for (what, ids) in
            [("excluded keys", &wish.exclude_key_ids), ("keys of excluded projects", &wish.exclude_projects)]
        {
            if !ids.is_empty() {
                let more = if ids.len() > MOST_TOLD { ", ..." } else { "" };
                let told = ids.iter().take(MOST_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
                wanted.push(format!("beside {what} ({told}{more})"));
            }
        }
        format!("pool {} has no key {} that may be used", self.config.name, wanted.join(" and "))
    }
}
