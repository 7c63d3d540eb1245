//! A short text that stands for a whole catalogue.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{Catalogue, LimitRule};

impl Catalogue {
    /// 16 hex characters that change whenever something changes that the ledger should be told
    /// of. Key texts are not part of it, only their fingerprints, and neither is the order in
    /// which projects, keys and rules were written: two replicas that were told the same agree.
    pub fn digest(&self) -> String {
        let mut canon = Canon::default();
        canon.list(self.pools.values(), |canon, pool| {
            canon.text(&pool.name);
            canon.number(pool.send_within.as_nanos());
            canon.number(pool.lease_ttl.as_nanos());
            canon.rules(&pool.limits);
            canon.list(&pool.projects, |canon, project| {
                canon.text(&project.id);
                canon.text(&project.tier.to_string());
                canon.list(&project.billing_account, |canon, account| canon.text(account));
                canon.rules(&project.limits);
                canon.list(&project.keys, |canon, key| {
                    canon.text(&key.id);
                    canon.text(&key.fingerprint);
                    canon.number(u128::from(key.weight));
                    canon.number(u128::from(key.priority));
                    canon.pairs(&key.labels);
                    canon.rules(&key.limits);
                });
            });
        });
        canon.pairs(&self.model_aliases);
        let digest =
            Sha256::new().chain_update(b"keybroker.v1/catalogue\0").chain_update(&canon.0).finalize();
        hex::encode(&digest[..8])
    }
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
            canon.list(&rule.limits, |canon, limit| canon.text(&limit.to_string()));
        });
    }
}
