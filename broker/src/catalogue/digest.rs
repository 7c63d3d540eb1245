//! A short text that stands for a whole catalogue.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{Catalogue, Dimension, Key, Limit, LimitRule, Pool, Project};

impl Catalogue {
    /// 16 hex characters that change whenever something changes that decides what is leased or how
    /// it is counted. Key texts are not part of it, only their fingerprints, and neither is the order in
    /// which projects, keys and rules were written: two replicas that were told the same agree.
    ///
    /// Hooks and probing are no part of it, and prices only where a spend limit is counted by them:
    /// a changed digest begins a new order of keys, which a new address for messages is no reason for.
    /// Whether two catalogues are the same in all is told by comparing them.
    pub fn digest(&self) -> String {
        let mut canon = Canon::default();
        canon.list(self.pools.values(), Canon::pool);
        canon.pairs(&self.model_aliases);
        canon.list(self.plans.values(), |canon, plan| {
            canon.text(&plan.name);
            canon.text(plan.mode.as_str());
            canon.limits(&plan.limits);
        });
        canon.pairs(&self.consumers);
        canon.list(&self.default_plan, |canon, plan| canon.text(plan));
        let prices = if self.limits_spend() { &self.prices[..] } else { &[] };
        canon.list(prices, |canon, price| {
            canon.text(&price.model.to_string());
            canon.number(u128::from(price.input));
            canon.number(u128::from(price.cached_input));
            canon.number(u128::from(price.output));
        });
        let digest =
            Sha256::new().chain_update(b"keybroker.v1/catalogue\0").chain_update(&canon.0).finalize();
        hex::encode(&digest[..8])
    }

    /// Whether any limit counts money.
    pub fn limits_spend(&self) -> bool {
        let of_rules = |rules: &[LimitRule]| rules.iter().any(|rule| of_limits(&rule.limits));
        let of_pool = |pool: &Pool| {
            of_rules(&pool.limits)
                || of_rules(&pool.model_totals)
                || of_limits(&pool.totals)
                || pool.billing_accounts.iter().any(|account| of_limits(&account.totals))
        };
        self.pools.values().any(of_pool)
            || self.projects().any(|(_, project)| of_rules(&project.limits) || of_limits(&project.totals))
            || self.keys().any(|(_, key)| of_rules(&key.limits) || of_limits(&key.totals))
            || self.plans.values().any(|plan| of_limits(&plan.limits))
    }
}

/// Whether one of the limits counts money.
fn of_limits(limits: &[Limit]) -> bool {
    limits.iter().any(|limit| limit.dimension == Dimension::Spend)
}

/// Bytes that say one thing only: every text and list carries its length, lists are sorted.
#[derive(Default)]
struct Canon(Vec<u8>);

impl Canon {
    fn number(&mut self, number: u128) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u128);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, write: impl Fn(&mut Self, T)) {
        let written = items.into_iter().map(|item| {
            let mut canon = Self::default();
            write(&mut canon, item);
            canon.0
        });
        let mut written: Vec<_> = written.collect();
        written.sort();
        self.number(written.len() as u128);
        for item in written {
            self.number(item.len() as u128);
            self.0.extend_from_slice(&item);
        }
    }

    fn pairs(&mut self, pairs: &BTreeMap<String, String>) {
        self.list(pairs, |canon, (name, value)| {
            canon.text(name);
            canon.text(value);
        });
    }

    fn rules(&mut self, rules: &[LimitRule]) {
        self.list(rules, |canon, rule| {
            canon.text(&rule.model.to_string());
            canon.limits(&rule.limits);
        });
    }

    fn limits(&mut self, limits: &[Limit]) {
        self.list(limits, |canon, limit| canon.text(&limit.to_string()));
    }

    fn pool(&mut self, pool: &Pool) {
        self.text(&pool.name);
        self.text(pool.strategy.as_str());
        self.number(pool.send_within.as_nanos());
        self.number(pool.lease_ttl.as_nanos());
        self.number(u128::from(pool.margin_percent));
        self.number(u128::from(pool.smooth_bursts));
        self.text(pool.learn_limits.as_str());
        self.rules(&pool.limits);
        self.limits(&pool.totals);
        self.rules(&pool.model_totals);
        self.list(&pool.billing_accounts, |canon, account| {
            canon.text(&account.id);
            canon.limits(&account.totals);
        });
        self.list(&pool.projects, Self::project);
    }

    fn project(&mut self, project: &Project) {
        self.text(&project.id);
        self.text(&project.tier.to_string());
        self.list(&project.billing_account, |canon, account| canon.text(account));
        self.list(project.margin_percent, |canon, margin| canon.number(u128::from(margin)));
        self.list(project.smooth_bursts, |canon, smooth| canon.number(u128::from(smooth)));
        self.rules(&project.limits);
        self.limits(&project.totals);
        self.list(&project.keys, Self::key);
    }

    fn key(&mut self, key: &Key) {
        self.text(&key.id);
        self.text(&key.fingerprint);
        self.number(u128::from(key.weight));
        self.list(key.priority, |canon, priority| canon.number(u128::from(priority)));
        self.pairs(&key.labels);
        self.rules(&key.limits);
        self.limits(&key.totals);
    }
}
