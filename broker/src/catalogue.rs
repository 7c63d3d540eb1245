//! The catalogue: what may be leased and how often, as configured and already validated.
//!
//! It is plain data. Configuration builds it, the ledger is told of it, and nothing in it changes
//! afterwards: a reload makes a new one.

use std::collections::BTreeMap;

mod digest;
mod effective;
mod hook;
mod limit;
mod money;
mod pattern;
mod plan;
mod pool;
mod price;
mod probing;
mod strategy;

pub use hook::{EventKind, Hook, HookAction, HookFormat};
pub use limit::{Dimension, LARGEST_AMOUNT, Limit, LimitRule, Window};
pub use money::Dollars;
use pattern::bare_model;
pub use pattern::{NamePattern, NotAPattern, is_model_name};
pub use plan::{DEFAULT_CONSUMER_RATE, DEFAULT_PLAN, Plan, PlanMode, is_consumer_id};
pub use pool::{
    BillingAccount, DEFAULT_LEASE_TTL, DEFAULT_POOL, DEFAULT_SEND_WITHIN, Key, LearnLimits, Pool, Project,
    Tier,
};
pub use price::Price;
pub use probing::Probing;
pub use strategy::{Standing, Strategy};

/// Everything that was configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Pools by name.
    pub pools: BTreeMap<String, Pool>,
    /// Model id to the quota model it counts under, both without `models/`. A model that is not
    /// named here counts under its own id.
    pub model_aliases: BTreeMap<String, String>,
    /// What tokens cost.
    pub prices: Vec<Price>,
    /// Plans of consumers by name.
    pub plans: BTreeMap<String, Plan>,
    /// The plans of the consumers that are named, by consumer.
    pub consumers: BTreeMap<String, String>,
    /// The plan of those that are not, if they have one.
    pub default_plan: Option<String>,
    /// What is done when something happens.
    pub hooks: Vec<Hook>,
    /// How disabled keys are probed.
    pub probing: Probing,
}

impl Catalogue {
    /// The quota model that a model id counts under; a leading `models/` is not part of an id.
    pub fn quota_model<'a>(&'a self, model: &'a str) -> &'a str {
        let model = bare_model(model);
        self.model_aliases.get(model).map_or(model, String::as_str)
    }

    /// Every project with the pool it is in, by pool name.
    pub fn projects(&self) -> impl Iterator<Item = (&Pool, &Project)> {
        self.pools.values().flat_map(|pool| pool.projects.iter().map(move |project| (pool, project)))
    }

    /// Every key with its project, by pool name.
    pub fn keys(&self) -> impl Iterator<Item = (&Project, &Key)> {
        self.projects().flat_map(|(_, project)| project.keys.iter().map(move |key| (project, key)))
    }

    /// What a quota model's tokens cost, if it is known.
    pub fn price_of(&self, quota_model: &str) -> Option<&Price> {
        price::price_of(&self.prices, quota_model)
    }

    /// The plan that holds for a consumer; none for a request that names no consumer.
    pub fn plan_of(&self, consumer: &str) -> Option<&Plan> {
        if consumer.is_empty() {
            return None;
        }
        self.plans.get(self.consumers.get(consumer).or(self.default_plan.as_ref())?)
    }
}
