//! Puts together what the file and the environment say, and checks what only shows when they meet.

use std::collections::{HashMap, HashSet};

use super::consumers::{self, ConsumerRate, WrittenConsumers};
use super::environment::Entry;
use super::fault::Findings;
use super::file::{Written, WrittenAccount, WrittenKey, WrittenPool, WrittenProject};
use super::hooks::{self, WrittenHook};
use super::identities::{self, WrittenAccess};
use super::limits::{PoolRule, with_tier_defaults};
use super::nearest::nearest;
use super::sources::SecretSources;
use crate::access::Rules;
use crate::catalogue::{Catalogue, DEFAULT_POOL, Key, Pool, Project, Strategy, Tier};
use crate::log::LogSettings;

/// A catalogue in the making.
#[derive(Default)]
pub(super) struct Assembly {
    pub(super) catalogue: Catalogue,
    /// Rules of pools, with the tiers that a pool in the catalogue does not carry.
    pub(super) pool_rules: HashMap<String, Vec<PoolRule>>,
    /// Where each key's text was first given, by fingerprint.
    key_texts: HashMap<String, Origin>,
    /// Where each key stands, by its id.
    pub(super) key_ids: HashMap<String, String>,
    /// Ids that the file names, which no derived id may take.
    project_ids: HashMap<String, (String, String)>,
    accounts: HashMap<String, (String, String)>,
    /// Weights and priorities that were written, for when the strategies are settled.
    pub(super) key_settings: Vec<KeySetting>,
    /// Pools whose strategy was written.
    strategies: HashSet<String>,
    consumers: WrittenConsumers,
    hooks: Vec<WrittenHook>,
    written_access: WrittenAccess,
    /// Who may call.
    pub(super) access: Rules,
    /// What is logged.
    pub(super) log: LogSettings,
    pub(super) sources: SecretSources,
}

/// A weight or a priority that was written.
pub(super) struct KeySetting {
    pub(super) place: String,
    pub(super) pool: String,
    /// `weight` or `priority`.
    pub(super) field: &'static str,
}

/// Where a key's text was given.
struct Origin {
    place: String,
    /// The project's place in the file, or nothing for a key of the environment.
    project: Option<String>,
}

impl Assembly {
    /// Takes in all that a file says.
    pub(super) fn add_file(&mut self, written: Written, found: &mut Findings) {
        self.catalogue.model_aliases = written.model_aliases;
        if written.pools.is_empty() {
            self.catalogue.pools.insert(DEFAULT_POOL.to_owned(), Pool::new(DEFAULT_POOL));
        }
        let mut places = HashMap::new();
        for pool in written.pools {
            let name = &pool.pool.name;
            match places.get(name) {
                Some(first) => {
                    let problem = format!("the pool {name} was written before ({first})");
                    found.fault(&pool.place, problem, "put both into one [[pools]], or name one otherwise");
                }
                None => {
                    places.insert(name.clone(), pool.place.clone());
                    self.add_pool(pool);
                }
            }
        }
        // Ids that were chosen come before ids that are derived.
        for key in written.projects.iter().flat_map(|project| &project.keys) {
            self.claim_key_id(key, found);
        }
        for project in written.projects {
            self.add_project(project, found);
        }
        self.add_accounts(written.billing_accounts, found);
        self.catalogue.prices = written.prices;
        self.catalogue.probing = written.probing;
        self.log = written.log;
        self.sources = written.sources;
        self.consumers = written.consumers;
        self.hooks = written.hooks;
        self.written_access = written.access;
    }

    fn add_pool(&mut self, written: WrittenPool) {
        let WrittenPool { mut pool, strategy, limits, .. } = written;
        let untiered = limits.iter().filter(|limit| limit.tier.is_none());
        pool.limits = untiered.map(|limit| limit.rule.clone()).collect();
        pool.tier_limits =
            limits.iter().filter_map(|limit| Some((limit.tier?, limit.rule.clone()))).collect();
        let name = pool.name.clone();
        if strategy {
            self.strategies.insert(name.clone());
        }
        self.catalogue.pools.insert(name.clone(), pool);
        self.pool_rules.insert(name, limits);
    }

    fn add_accounts(&mut self, written: Vec<WrittenAccount>, found: &mut Findings) {
        let mut places: HashMap<String, String> = HashMap::new();
        for WrittenAccount { place, account } in written {
            let id = &account.id;
            if let Some(first) = places.get(id) {
                let problem = format!("the billing account {id} was written before ({first})");
                found.fault(place, problem, "put both into one [[billing_accounts]]");
                continue;
            }
            places.insert(id.clone(), place.clone());
            match self.accounts.get(id) {
                None => found.warn(place, format!("no project names the billing account {id}")),
                Some((pool, _)) => {
                    if let Some(pool) = self.catalogue.pools.get_mut(pool) {
                        pool.billing_accounts.push(account);
                    }
                }
            }
        }
    }

    /// Puts in what depends on all pools being known, those of the environment too.
    pub(super) fn settle(&mut self, rate: ConsumerRate, found: &mut Findings) {
        consumers::settle(std::mem::take(&mut self.consumers), rate, &mut self.catalogue, found);
        hooks::settle(std::mem::take(&mut self.hooks), &mut self.catalogue, found);
        self.access = identities::settle(std::mem::take(&mut self.written_access), &self.catalogue, found);
    }

    fn claim_key_id(&mut self, key: &WrittenKey, found: &mut Findings) {
        let Some(id) = &key.id else { return };
        if let Some(first) = self.key_ids.get(id) {
            let problem = format!("the key id {id} was given before ({first})");
            found.fault(&key.place, problem, "give each key an id of its own, or none");
            return;
        }
        self.key_ids.insert(id.clone(), key.place.clone());
    }

    fn add_project(&mut self, written: WrittenProject, found: &mut Findings) {
        self.check_pool(&written, found);
        self.check_project_id(&written, found);
        self.check_account(&written, found);
        let rules = self.pool_rules.get(&written.pool).map_or(&[][..], Vec::as_slice);
        let mut project = Project {
            id: written.id.clone().unwrap_or_default(),
            tier: written.tier,
            billing_account: written.billing_account,
            margin_percent: written.margin_percent,
            smooth_bursts: written.smooth_bursts,
            limits: with_tier_defaults(written.limits, rules, written.tier),
            totals: written.totals,
            keys: Vec::new(),
        };
        if written.keys.is_empty() {
            found.warn(&written.place, "has no keys, so nothing is leased from it");
        }
        for key in written.keys {
            self.note_settings(&written.pool, &key);
            project.keys.extend(self.written_key(key, &written.place, found));
        }
        if let Some(pool) = self.catalogue.pools.get_mut(&written.pool) {
            pool.projects.push(project);
        }
    }

    fn check_pool(&self, written: &WrittenProject, found: &mut Findings) {
        let pools = &self.catalogue.pools;
        if pools.contains_key(&written.pool) {
            return;
        }
        let names: Vec<&str> = pools.keys().map(String::as_str).collect();
        let fix = match nearest(&written.pool, names.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("add it as [[pools]], or set pool to one of: {}", names.join(", ")),
        };
        found.fault(&written.pool_place, format!("there is no pool {}", written.pool), fix);
    }

    fn check_project_id(&mut self, written: &WrittenProject, found: &mut Findings) {
        let Some(id) = &written.id else { return };
        let Some((pool, place)) = self.project_ids.get(id) else {
            self.project_ids.insert(id.clone(), (written.pool.clone(), written.place.clone()));
            return;
        };
        if *pool == written.pool {
            let problem = format!("the project {id} was written before ({place})");
            found.fault(&written.place, problem, "put its keys and limits into one [[projects]]");
        } else {
            let problem = format!(
                "the project {id} is in the pool {pool} ({place}) and in {}: a project belongs to one pool, \
                 because its quota is counted in one place",
                written.pool
            );
            let fix = "remove one of the two, and let the workloads of both lease from one pool";
            found.fault(&written.place, problem, fix);
        }
    }

    fn check_account(&mut self, written: &WrittenProject, found: &mut Findings) {
        let Some(account) = &written.billing_account else { return };
        match self.accounts.get(account) {
            None => {
                self.accounts.insert(account.clone(), (written.pool.clone(), written.account_place.clone()));
            }
            Some((pool, place)) if *pool != written.pool => {
                let problem = format!(
                    "the billing account {account} has projects in the pool {pool} ({place}) and in {}: \
                     an account belongs to one pool, because its spending is counted in one place",
                    written.pool
                );
                found.fault(
                    &written.account_place,
                    problem,
                    format!("move its projects into the pool {pool}"),
                );
            }
            Some(_) => {}
        }
    }

    fn note_settings(&mut self, pool: &str, key: &WrittenKey) {
        let weight = key.weight.map(|_| ("weight", &key.weight_place));
        let priority = key.priority.map(|_| ("priority", &key.priority_place));
        let written = weight.into_iter().chain(priority);
        self.key_settings.extend(written.map(|(field, place)| KeySetting {
            place: place.clone(),
            pool: pool.to_owned(),
            field,
        }));
    }

    fn written_key(&mut self, written: WrittenKey, project: &str, found: &mut Findings) -> Option<Key> {
        let secret = written.secret?;
        let fingerprint = secret.fingerprint();
        if let Some(first) = self.key_texts.get(&fingerprint) {
            let twice = format!("the key {secret} is given twice, first at {}", first.place);
            if first.project.as_deref() == Some(project) {
                found.warn(&written.place, format!("{twice}; this one is skipped"));
            } else {
                let fix = "remove it from the project that does not own it";
                found.fault(&written.place, format!("{twice}, in another project"), fix);
            }
            return None;
        }
        let origin = Origin { place: written.place.clone(), project: Some(project.to_owned()) };
        self.key_texts.insert(fingerprint.clone(), origin);
        let id = written.id.unwrap_or_else(|| self.derived_id(&fingerprint, &written.place));
        let WrittenKey { weight, priority, labels, limits, totals, .. } = written;
        Some(Key { id, secret, fingerprint, weight: weight.unwrap_or(1), priority, labels, limits, totals })
    }

    /// An id for a key that was given none: the first half of its fingerprint, or all of it if
    /// that half is taken.
    fn derived_id(&mut self, fingerprint: &str, place: &str) -> String {
        let short = format!("key-{}", &fingerprint[..8]);
        let taken = self.key_ids.contains_key(&short) || self.project_ids.contains_key(&short);
        let id = if taken { format!("key-{fingerprint}") } else { short };
        self.key_ids.insert(id.clone(), place.to_owned());
        id
    }

    /// Takes in the keys of the environment that are not known yet, each as its own project.
    /// `expected` are the variables from which the file took keys itself. Where free and paid ones
    /// are among them, the default pool leases the free ones first, unless its strategy was written.
    pub(super) fn add_environment(&mut self, entries: Vec<Entry>, expected: &[String], found: &mut Findings) {
        let mut tiers = HashSet::new();
        for Entry { place, variable, secret, tier, limits } in entries {
            let fingerprint = secret.fingerprint();
            if let Some(first) = self.key_texts.get(&fingerprint) {
                let first_place = &first.place;
                if first.project.is_none() {
                    let text = format!("the key {secret} was given before ({first_place}); skipped");
                    found.warn(place, text);
                } else if !expected.contains(&variable) {
                    let text = format!("the key {secret} is in the file ({first_place}), which stands");
                    found.warn(place, text);
                }
                continue;
            }
            let id = self.derived_id(&fingerprint, &place);
            self.key_texts.insert(fingerprint, Origin { place, project: None });
            let rules = self.pool_rules.get(DEFAULT_POOL).map_or(&[][..], Vec::as_slice);
            let mut project = Project::new(id.clone());
            project.tier = tier;
            project.limits = with_tier_defaults(limits, rules, tier);
            project.keys.push(Key::new(id, secret));
            tiers.insert(tier);
            let pool = self.catalogue.pools.entry(DEFAULT_POOL.to_owned());
            pool.or_insert_with(|| Pool::new(DEFAULT_POOL)).projects.push(project);
        }
        let mixed = tiers.contains(&Tier::Free) && tiers.contains(&Tier::Paid);
        if mixed
            && !self.strategies.contains(DEFAULT_POOL)
            && let Some(pool) = self.catalogue.pools.get_mut(DEFAULT_POOL)
        {
            pool.strategy = Strategy::Priority;
        }
    }
}
