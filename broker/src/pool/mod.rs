//! A pool at work: leases, reports and renewals in the terms of the catalogue, kept by the ledger.

pub mod accounts;
mod committer;
mod errors;
mod inspect;
pub mod note;
mod report;
mod stats;
pub mod watch;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, RwLock},
    time::Duration,
};

use keybroker_proto::v1::Tier;
use tokio::{
    sync::{Mutex, Notify},
    time::Instant,
};

use crate::{
    catalogue::{self, Key, Project},
    lease_id::{LeaseId, LeaseNames},
    ledger::{Acquire, AcquireState, Amounts, Ledger, Millis, Opened, Renew, RenewState},
    secret::Secret,
};
use accounts::{serves, shard_name, shard_spec};
use committer::Committer;
pub use errors::{AcquireError, Refusal, RefusalReason, RenewError};
pub use inspect::{CooldownView, KeyView, LimitView, PoolView};
pub use report::{Report, Reported, Usage};
pub use stats::{Stats, StatsView};

/// How many quota models a pool leases for at most: each has an order of candidates of its own.
const MOST_MODELS: usize = 200;
/// How often a shard is applied anew, so that the ledger does not let it expire.
const APPLY_EVERY: Duration = Duration::from_secs(24 * 3600);

/// A pool at work.
pub struct Pool {
    config: catalogue::Pool,
    keys: HashMap<String, (Key, Project)>,
    // Texts of keys that are leased no more: what is still reported of them may echo them.
    former: Vec<Secret>,
    digest: String,
    opened: Opened,
    ledger: Arc<dyn Ledger>,
    committer: Committer,
    names: Arc<LeaseNames>,
    // Shards known to be in the ledger, and since when.
    applied: RwLock<HashMap<Arc<str>, Instant>>,
    applying: Mutex<()>,
    models: RwLock<HashSet<String>>,
    freed: Notify,
    stats: Arc<Stats>,
}

/// What a worker asks for, checked and with defaults filled in.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The quota model.
    pub quota_model: String,
    /// Upper bound of input tokens.
    pub input_tokens: i64,
    /// How long the lease may be held; the pool's default if not said.
    pub ttl: Option<Duration>,
    /// How long it may wait here.
    pub wait: Duration,
    /// Requests.
    pub permits: i64,
    /// Only keys of this project; any if empty.
    pub project: String,
    /// Only keys of this tier.
    pub tier: Tier,
    /// Never these keys.
    pub exclude_key_ids: Vec<String>,
    /// Never keys of these projects.
    pub exclude_projects: Vec<String>,
}

/// A lease as a worker gets it.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The lease's id.
    pub lease_id: String,
    /// The key.
    pub key: Key,
    /// Its project.
    pub project: String,
    /// The quota model.
    pub quota_model: String,
    /// The request must be sent within this time of the sending of Acquire.
    pub send_within: Duration,
    /// When the lease expires by the ledger's clock.
    pub expires_at: Millis,
    /// The same as a time from now.
    pub expires_in: Duration,
    /// Requests.
    pub permits: i64,
}

impl Pool {
    /// Opens the pool's ledger with this catalogue.
    ///
    /// # Errors
    /// If the ledger cannot be opened.
    pub async fn open(
        config: catalogue::Pool,
        digest: &str,
        ledger: Arc<dyn Ledger>,
        names: Arc<LeaseNames>,
        stats: Arc<Stats>,
    ) -> Result<Self, crate::ledger::LedgerError> {
        let opened = ledger.open(&config.name, digest).await?;
        let committer = Committer::start(ledger.clone(), config.name.clone(), opened.ledger_id.clone());
        let with_key = |project: &Project| -> Vec<_> {
            let bare = Project { keys: Vec::new(), ..project.clone() };
            project.keys.iter().map(|key| (key.id.clone(), (key.clone(), bare.clone()))).collect()
        };
        Ok(Self {
            keys: config.projects.iter().flat_map(with_key).collect(),
            config,
            former: Vec::new(),
            digest: digest.to_owned(),
            opened,
            ledger,
            committer,
            names,
            applied: RwLock::default(),
            applying: Mutex::default(),
            models: RwLock::default(),
            freed: Notify::new(),
            stats,
        })
    }

    /// Keeps the texts of keys that are leased no more out of logs as well.
    #[must_use]
    pub fn with_former(self, former: Vec<Secret>) -> Self {
        Self { former, ..self }
    }

    /// The pool's configuration.
    pub fn config(&self) -> &catalogue::Pool {
        &self.config
    }

    /// Takes a lease, waiting for one as long as the wish allows, and not beyond `drained`.
    ///
    /// # Errors
    /// The reason why there is none.
    pub async fn acquire(
        &self,
        wish: &Wish,
        drained: impl Future<Output = ()>,
    ) -> Result<Grant, AcquireError> {
        let mut drained = std::pin::pin!(drained);
        let started = Instant::now();
        let deadline = started + wish.wait;
        let mut waiting = None;
        loop {
            // The first time nothing was waited for yet.
            let waited = if waiting.is_some() { started.elapsed() } else { Duration::ZERO };
            let freed = self.freed.notified();
            let refusal = match self.acquire_once(wish, waited).await {
                Err(AcquireError::Refused(refusal)) => refusal,
                Ok(grant) => {
                    self.stats.granted();
                    return Ok(grant);
                }
                Err(error) => return Err(error),
            };
            let ready = Instant::now() + refusal.retry_after;
            if ready > deadline {
                self.stats.refused();
                return Err(AcquireError::Refused(refusal));
            }
            waiting.get_or_insert_with(|| self.stats.waiting());
            tokio::select! {
                () = tokio::time::sleep_until(ready) => {}
                () = freed => {}
                () = &mut drained => return Err(AcquireError::ShuttingDown),
            }
        }
    }

    async fn acquire_once(&self, wish: &Wish, waited: Duration) -> Result<Grant, AcquireError> {
        let shard = self.shard(&wish.quota_model, wish.tier).await?;
        let send_within = self.config.send_within;
        let op = Acquire {
            lease: self.names.next(),
            shard: 0,
            amounts: Amounts {
                permits: wish.permits,
                input: wish.input_tokens,
                total: wish.input_tokens,
                spend: 0,
            },
            ttl: millis(wish.ttl.unwrap_or(self.config.lease_ttl)),
            send_within: millis(send_within),
            only: self.only(wish)?,
            exclude: self.excluded(wish),
            common: Vec::new(),
            usage: String::new(),
            note: String::new(),
        };
        let (mut answer, mut now) = self.committer.acquire(shard.clone(), op.clone()).await?;
        if answer.0 == AcquireState::Missing {
            self.apply(&shard, &wish.quota_model, wish.tier).await?;
            (answer, now) = self.committer.acquire(shard.clone(), op.clone()).await?;
        }
        match answer.0 {
            AcquireState::Granted => {
                let (key, project) = self.keys.get(&answer.2).ok_or(AcquireError::ForeignKey)?;
                let id = LeaseId { pool: &self.config.name, shard: &shard, unique: &op.lease };
                Ok(Grant {
                    lease_id: id.to_string(),
                    key: key.clone(),
                    project: project.id.clone(),
                    quota_model: wish.quota_model.clone(),
                    // The grant came after the waiting, and so did the time to send within.
                    send_within: waited + send_within,
                    expires_at: answer.1,
                    expires_in: duration(answer.1 - now),
                    permits: wish.permits,
                })
            }
            AcquireState::Refused => Err(AcquireError::of_refusal(&self.config, &answer, now)),
            AcquireState::Missing => Err(AcquireError::ShardLost),
        }
    }

    /// The keys that the wish allows, where it names a project.
    fn only(&self, wish: &Wish) -> Result<Vec<String>, AcquireError> {
        if wish.project.is_empty() {
            return Ok(Vec::new());
        }
        let project = self.config.projects.iter().find(|project| project.id == wish.project);
        let project = project.filter(|project| serves(project, wish.tier));
        let keys: Vec<String> =
            project.iter().flat_map(|project| &project.keys).map(|key| key.id.clone()).collect();
        if keys.is_empty() {
            let name = &self.config.name;
            return Err(AcquireError::NoKey(format!(
                "pool {name} has no key of project {} that may be used",
                wish.project
            )));
        }
        Ok(keys)
    }

    fn excluded(&self, wish: &Wish) -> Vec<String> {
        let mut excluded = wish.exclude_key_ids.clone();
        if !wish.exclude_projects.is_empty() {
            let of_projects =
                self.config.projects.iter().filter(|project| wish.exclude_projects.contains(&project.id));
            excluded.extend(of_projects.flat_map(|project| &project.keys).map(|key| key.id.clone()));
        }
        excluded
    }

    /// The shard's name, once it is in the ledger.
    async fn shard(&self, quota_model: &str, tier: Tier) -> Result<Arc<str>, AcquireError> {
        let name = shard_name(&self.digest, quota_model, tier);
        let known = {
            let applied = self.applied.read().expect("no holder of this lock panics");
            applied.get_key_value(name.as_str()).map(|(name, since)| (name.clone(), *since))
        };
        if let Some((name, since)) = known
            && since.elapsed() < APPLY_EVERY
        {
            return Ok(name);
        }
        let name: Arc<str> = name.into();
        let _applying = self.applying.lock().await;
        let fresh = self.applied.read().expect("no holder of this lock panics").get(&name).copied();
        if fresh.is_none_or(|since| since.elapsed() >= APPLY_EVERY) {
            self.apply(&name, quota_model, tier).await?;
        }
        Ok(name)
    }

    async fn apply(&self, shard: &Arc<str>, quota_model: &str, tier: Tier) -> Result<(), AcquireError> {
        {
            let mut models = self.models.write().expect("no holder of this lock panics");
            if !models.contains(quota_model) && models.len() >= MOST_MODELS {
                return Err(AcquireError::TooManyModels(MOST_MODELS));
            }
            models.insert(quota_model.to_owned());
        }
        let spec = shard_spec(&self.config, shard, quota_model, tier, self.opened.generation);
        let spec = spec.ok_or_else(|| {
            let name = &self.config.name;
            AcquireError::NoKey(match tier {
                Tier::Unspecified => format!("pool {name} has no key that may be leased"),
                Tier::Free => format!("pool {name} has no key of the free tier"),
                Tier::Paid => format!("pool {name} has no key of the paid tier"),
            })
        })?;
        self.ledger.apply(&self.config.name, &self.opened.ledger_id, &spec).await?;
        self.applied.write().expect("no holder of this lock panics").insert(shard.clone(), Instant::now());
        Ok(())
    }

    /// Extends a lease; returns its new expiry and the time until then.
    ///
    /// # Errors
    /// If the lease is not known, was settled or has expired.
    pub async fn renew(
        &self,
        id: LeaseId<'_>,
        ttl: Option<Duration>,
    ) -> Result<(Millis, Duration), RenewError> {
        let op = Renew {
            lease: id.unique.to_owned(),
            shard: 0,
            ttl: millis(ttl.unwrap_or(self.config.lease_ttl)),
        };
        let (answer, now) = self.committer.renew(id.shard.into(), op).await?;
        match answer.0 {
            RenewState::Renewed => Ok((answer.1, duration(answer.1 - now))),
            RenewState::Ended => Err(RenewError::Ended),
            RenewState::Unknown => Err(RenewError::Unknown),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(millis.max(0).unsigned_abs())
}
