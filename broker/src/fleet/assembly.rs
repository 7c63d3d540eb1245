//! A catalogue to which keys and pools of the registry are added one by one, with the rules that
//! hold between all of them. Merging and checking a new key are the same step.

use std::collections::{HashMap, HashSet};

use super::{Obstacle, rules};
use crate::{
    catalogue::{Catalogue, Key, LimitRule, Pool, Project, Strategy, Tier},
    config::{PoolRule, with_tier_defaults},
    registry::{RunTimeKey, RunTimePool, WrittenRule},
    secret::Secret,
};

/// A catalogue in the making.
pub(super) struct Assembly {
    pub(super) catalogue: Catalogue,
    /// The pool of the key with each id.
    ids: HashMap<String, String>,
    /// The id and the pool of the key with each fingerprint.
    fingerprints: HashMap<String, (String, String)>,
    /// The pool of each project and billing account.
    projects: HashMap<String, String>,
    accounts: HashMap<String, String>,
    /// Projects that the configuration does not name: their keys say what they are.
    made: HashSet<String>,
}

/// Why a key or a pool does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Its id is taken, in this pool.
    IdTaken(String),
    /// Its text is that of another key.
    SameText {
        /// That key.
        key: String,
        /// The pool it is in.
        pool: String,
    },
    /// A field names what is in another pool.
    Elsewhere {
        /// The field.
        field: &'static str,
        /// What it names.
        noun: &'static str,
        /// The pool it is in.
        pool: String,
    },
    /// A field says what cannot be.
    Field(&'static str, String),
}

impl Misfit {
    /// As it is said of a key that is there.
    pub(super) fn obstacle(self) -> Obstacle {
        match self {
            Self::IdTaken(_) => Obstacle::open("its id is taken by another one"),
            Self::SameText { key, pool } => Obstacle::in_pool(
                &pool,
                format!("its text is that of the key {key}"),
                "its text is that of another key",
            ),
            Self::Elsewhere { field, noun, pool } => {
                let [text, without_names] = elsewhere(noun, &pool).map(|wrong| format!("{field} {wrong}"));
                Obstacle::in_pool(&pool, text, without_names)
            }
            Self::Field(field, wrong) => Obstacle::open(format!("{field} {wrong}")),
        }
    }
}

/// What is wrong with a field that names what is in another pool, with that pool's name and without it.
pub(super) fn elsewhere(noun: &str, pool: &str) -> [String; 2] {
    [
        format!("is in the pool {pool}, and a {noun} belongs to one pool; add the key there"),
        format!("is in another pool, and a {noun} belongs to one pool; name another {noun}"),
    ]
}

impl Assembly {
    /// Begins with what is configured.
    pub(super) fn of(configured: &Catalogue) -> Self {
        let mut assembly = Self {
            catalogue: configured.clone(),
            ids: HashMap::new(),
            fingerprints: HashMap::new(),
            projects: HashMap::new(),
            accounts: HashMap::new(),
            made: HashSet::new(),
        };
        for (pool, project) in configured.projects() {
            assembly.projects.insert(project.id.clone(), pool.name.clone());
            if let Some(account) = &project.billing_account {
                assembly.accounts.insert(account.clone(), pool.name.clone());
            }
            for key in &project.keys {
                assembly.ids.insert(key.id.clone(), pool.name.clone());
                assembly.fingerprints.insert(key.fingerprint.clone(), (key.id.clone(), pool.name.clone()));
            }
        }
        assembly
    }

    /// Adds a pool.
    pub(super) fn add_pool(&mut self, pool: &RunTimePool) -> Result<(), Misfit> {
        if self.catalogue.pools.contains_key(&pool.name) {
            return Err(Misfit::IdTaken(pool.name.clone()));
        }
        let limits = parsed(&pool.limits, "pool.limits")?;
        let strategy = Strategy::parse(&pool.strategy).ok_or_else(|| {
            Misfit::Field("pool.strategy", "is a strategy that this version does not know".to_owned())
        })?;
        let pool = Pool {
            strategy,
            send_within: std::time::Duration::from_millis(pool.send_within_ms),
            lease_ttl: std::time::Duration::from_millis(pool.lease_ttl_ms),
            limits,
            ..Pool::new(pool.name.clone())
        };
        self.catalogue.pools.insert(pool.name.clone(), pool);
        Ok(())
    }

    /// Adds a key to its project, or makes the project.
    pub(super) fn add_key(&mut self, key: &RunTimeKey, secret: Secret) -> Result<(), Misfit> {
        if let Some((other, pool)) = self.fingerprints.get(&key.fingerprint) {
            return Err(Misfit::SameText { key: other.clone(), pool: pool.clone() });
        }
        if let Some(pool) = self.ids.get(&key.id) {
            return Err(Misfit::IdTaken(pool.clone()));
        }
        let limits = parsed(&key.limits, "key.limits")?;
        self.in_one_pool(&self.projects, "key.project", "project", Some(&key.project), &key.pool)?;
        self.in_one_pool(
            &self.accounts,
            "key.billing_account",
            "billing account",
            key.billing_account.as_deref(),
            &key.pool,
        )?;
        let Some(pool) = self.catalogue.pools.get_mut(&key.pool) else {
            return Err(Misfit::Field("parent", format!("names the pool {}, which there is not", key.pool)));
        };
        let made = Key {
            id: key.id.clone(),
            secret,
            fingerprint: key.fingerprint.clone(),
            weight: key.weight,
            priority: key.priority,
            labels: key.labels.clone(),
            limits,
            totals: Vec::new(),
        };
        let at = match pool.projects.iter().position(|project| project.id == key.project) {
            Some(at) => at,
            None => {
                self.made.insert(key.project.clone());
                pool.projects.push(Project::new(key.project.clone()));
                pool.projects.len() - 1
            }
        };
        let tiered = pool.tier_limits.clone();
        let project = &mut pool.projects[at];
        if self.made.contains(&project.id) {
            fill_in(project, key, tiered);
        }
        agree_with(project, key)?;
        project.keys.push(made);
        self.ids.insert(key.id.clone(), key.pool.clone());
        self.fingerprints.insert(key.fingerprint.clone(), (key.id.clone(), key.pool.clone()));
        self.projects.insert(key.project.clone(), key.pool.clone());
        if let Some(account) = &key.billing_account {
            self.accounts.insert(account.clone(), key.pool.clone());
        }
        Ok(())
    }

    /// Quota and spending are counted in one place, so a project and an account are in one pool.
    fn in_one_pool(
        &self,
        known: &HashMap<String, String>,
        field: &'static str,
        noun: &'static str,
        id: Option<&str>,
        pool: &str,
    ) -> Result<(), Misfit> {
        match id.and_then(|id| known.get(id)) {
            Some(other) if other != pool => Err(Misfit::Elsewhere { field, noun, pool: other.clone() }),
            _ => Ok(()),
        }
    }
}

/// What the keys before did not say of their project, this one may.
fn fill_in(project: &mut Project, key: &RunTimeKey, tiered: Vec<(Tier, LimitRule)>) {
    if project.tier == Tier::Unknown {
        project.tier = key.tier;
        let tiered: Vec<PoolRule> =
            tiered.into_iter().map(|(tier, rule)| PoolRule { tier: Some(tier), rule }).collect();
        project.limits = with_tier_defaults(Vec::new(), &tiered, key.tier);
    }
    if project.billing_account.is_none() {
        project.billing_account.clone_from(&key.billing_account);
    }
}

/// A key says of its project what the project is, or nothing.
fn agree_with(project: &Project, key: &RunTimeKey) -> Result<(), Misfit> {
    let wrong = |field, said: &dyn std::fmt::Display, stands: &dyn std::fmt::Display| {
        let text = format!(
            "is {said}, but the project {} is there with {stands}; say the same or leave it out",
            project.id
        );
        Err(Misfit::Field(field, text))
    };
    if key.tier != Tier::Unknown && key.tier != project.tier {
        return wrong("key.tier", &key.tier, &project.tier);
    }
    match &key.billing_account {
        Some(account) if project.billing_account.as_ref() != Some(account) => {
            wrong("key.billing_account", account, &project.billing_account.as_deref().unwrap_or("none"))
        }
        _ => Ok(()),
    }
}

fn parsed(rules: &[WrittenRule], field: &'static str) -> Result<Vec<LimitRule>, Misfit> {
    let mut faults = Vec::new();
    let parsed = rules::parse(rules, field, &mut faults);
    match faults.into_iter().next() {
        None => Ok(parsed),
        Some((place, wrong)) => Err(Misfit::Field(field, format!("{place} {wrong}"))),
    }
}
