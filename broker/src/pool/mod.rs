//! A pool at work: leases, reports and renewals in the terms of the catalogue, kept by the ledger.

pub mod accounts;
mod ask;
mod backlog;
mod capacity;
mod committer;
mod constraints;
mod errors;
mod inspect;
pub mod note;
mod queue;
mod report;
mod reset;
mod stats;
mod tell;
pub mod watch;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock},
    time::Duration,
};

use keybroker_proto::v1::Tier;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    catalogue::{self, Catalogue, Key, LearnLimits, Project},
    claims::FleetTurns,
    events::Events,
    lease_id::{LeaseId, LeaseNames},
    ledger::{
        CommonSpec, Edit, EditAction, Ledger, LedgerError, Millis, Opened, Renew, RenewState, ShardSpec,
        account::Account,
    },
    log::Refusals,
    metrics::Metrics,
    secret::Secret,
};
use accounts::{horizon, keys_behind, shard_name, shard_spec};
use ask::{Denied, Request};
use capacity::{Capacity, EarlyReturns};
use committer::{CommitError, Committer};
pub use errors::{AcquireError, Refusal, RefusalReason, RenewError, pause};
pub use inspect::{CooldownView, KeyView, LimitView, PoolView};
use queue::{Known, Need, Obstacle, Told};
pub use queue::{MOST_WAITERS, Queues};
pub use report::{Report, Reported, Usage, settle};
pub use stats::{Stats, StatsView};
use watch::Watch;

/// How many quota models a pool leases for at most: each has an order of candidates of its own.
const MOST_MODELS: usize = 200;
/// How often a shard is applied anew, so that the ledger does not let it expire.
const APPLY_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What all pools of a broker have in common.
#[derive(Clone)]
pub struct Surroundings {
    /// Where quota is counted.
    pub ledger: Arc<dyn Ledger>,
    /// Names of leases.
    pub names: Arc<LeaseNames>,
    /// Where it is told what happens.
    pub events: Events,
    /// What one broker of the fleet does for all.
    pub turns: FleetTurns,
    /// What is counted of this broker's work.
    pub metrics: Arc<Metrics>,
}

/// A pool at work.
pub struct Pool {
    config: catalogue::Pool,
    // Plans and prices; the newest, also where nothing else changed.
    catalogue: RwLock<Arc<Catalogue>>,
    keys: HashMap<String, (Arc<Key>, Project)>,
    // Texts of keys that are leased no more: what is still reported of them may echo them.
    former: Vec<Secret>,
    digest: String,
    opened: Opened,
    ledger: Arc<dyn Ledger>,
    committer: Committer,
    names: Arc<LeaseNames>,
    // Shards known to be in the ledger.
    applied: RwLock<HashMap<Arc<str>, Applied>>,
    applying: Mutex<()>,
    // Quota models that were asked for, with the accounts that all requests for them share.
    models: RwLock<HashMap<String, Vec<Arc<CommonSpec>>>>,
    queues: Arc<Queues>,
    early: EarlyReturns,
    stats: Arc<Stats>,
    metrics: Arc<Metrics>,
    refusals: Refusals,
    // The pool's name as metrics carry it.
    name: Arc<str>,
    watch: Watch,
}

/// A shard that is in the ledger.
#[derive(Clone)]
struct Applied {
    since: Instant,
    capacity: Arc<Capacity>,
}

/// What a worker asks for, checked and with defaults filled in.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The quota model.
    pub quota_model: String,
    /// Upper bound of input tokens.
    pub input_tokens: i64,
    /// Upper bound of output tokens, where total tokens or money are to be counted ahead.
    pub output_tokens: i64,
    /// How long the lease may be held; the pool's default if not said.
    pub ttl: Option<Duration>,
    /// Who asks; waiters take turns by it. Empty: all who do not say.
    pub consumer: String,
    /// The identity that asks, if a plan limits all of its leases together.
    pub identity: Option<Limited>,
    /// How long it may wait here.
    pub wait: Duration,
    /// When its caller no longer listens: nothing is granted from then on.
    pub deadline: Option<Instant>,
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
    /// Only keys with all of these labels.
    pub key_labels: BTreeMap<String, String>,
    /// What the ledger remembers of the request, as text; see [`note::Note`].
    pub note: String,
}

/// An identity and the plan that limits all of its leases together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// The identity.
    pub identity: String,
    /// The plan's name.
    pub plan: String,
}

/// A lease as a worker gets it.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The lease's id.
    pub lease_id: String,
    /// The key.
    pub key: Arc<Key>,
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
    /// Whether it exceeds the soft plan of its consumer.
    pub over_plan: bool,
}

impl Pool {
    /// Opens the pool's ledger with this catalogue. The queues are those of the catalogue before it;
    /// [`Pool::serve_waiters`] takes them over.
    ///
    /// # Errors
    /// If the ledger cannot be opened.
    pub async fn open(
        config: catalogue::Pool,
        catalogue: Arc<Catalogue>,
        digest: &str,
        surroundings: Surroundings,
        stats: Arc<Stats>,
        queues: Arc<Queues>,
    ) -> Result<Self, LedgerError> {
        let Surroundings { ledger, names, events, turns, metrics } = surroundings;
        ledger.foresee(&config.name, &horizon(&config, catalogue.plans.values()));
        let opened = ledger.open(&config.name, digest).await?;
        let committer =
            Committer::start(ledger.clone(), config.name.clone(), opened.ledger_id.clone(), metrics.clone());
        let with_key = |project: &Project| -> Vec<_> {
            let bare = Project { keys: Vec::new(), ..project.clone() };
            project.keys.iter().map(|key| (key.id.clone(), (Arc::new(key.clone()), bare.clone()))).collect()
        };
        Ok(Self {
            watch: Watch::start(config.clone(), ledger.clone(), events, turns),
            catalogue: RwLock::new(catalogue),
            name: config.name.as_str().into(),
            metrics,
            refusals: Refusals::default(),
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
            queues,
            early: EarlyReturns::default(),
            stats,
        })
    }

    /// Keeps the texts of keys that are leased no more out of logs as well.
    #[must_use]
    pub fn with_former(self, former: Vec<Secret>) -> Self {
        Self { former, ..self }
    }

    /// Takes the plans and prices of a catalogue that changes nothing else.
    pub fn set_catalogue(&self, catalogue: Arc<Catalogue>) {
        *self.catalogue.write().expect("no holder of this lock panics") = catalogue;
    }

    fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.read().expect("no holder of this lock panics").clone()
    }

    /// Changes the standing of accounts; how many were changed.
    ///
    /// # Errors
    /// If the ledger gave no answer; doing it again is safe.
    pub async fn edit(&self, accounts: &[String], action: EditAction) -> Result<usize, AcquireError> {
        let mut changed = 0;
        for account in accounts {
            let edit = Edit { account: account.clone(), action, length: 0, reason: String::new() };
            let (did, _) = self.committer.edit(edit).await.map_err(|error| self.failed(error))?;
            changed += usize::from(did);
        }
        if changed > 0 {
            self.wake_waiters();
        }
        Ok(changed)
    }

    /// The same error, once it is told that the ledger failed.
    fn failed(&self, error: CommitError) -> AcquireError {
        if let CommitError::Ledger(error) = &error {
            self.watch.ledger_failed(error);
        }
        error.into()
    }

    /// The pool's configuration.
    pub fn config(&self) -> &catalogue::Pool {
        &self.config
    }

    /// From now on this pool's catalogue holds for those who wait.
    pub fn serve_waiters(self: &Arc<Self>) {
        self.queues.serve_by(self);
    }

    /// Something may have come back before its time, such as by an operator's reset: whoever is next
    /// in a queue is asked for at once.
    pub fn wake_waiters(&self) {
        self.queues.freed();
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
        let since = Instant::now();
        self.describe_wish(wish);
        let result = self.ask_or_wait(wish, drained).await;
        let (model, took) = (&wish.quota_model, since.elapsed());
        match &result {
            Ok(grant) => {
                self.stats.granted(&grant.key);
                self.metrics.granted(&self.name, model, &grant.project, took, wish.input_tokens);
                self.describe_grant(grant);
            }
            Err(error) => {
                if matches!(error, AcquireError::Refused(_)) {
                    self.stats.refused();
                }
                self.metrics.refused(&self.name, model, error.name(), took);
                self.tell_refusal(wish, error);
            }
        }
        result
    }

    async fn ask_or_wait(
        &self,
        wish: &Wish,
        drained: impl Future<Output = ()>,
    ) -> Result<Grant, AcquireError> {
        let shard = self.shard(&wish.quota_model, wish.tier).await?;
        let queue = self.queues.of(&wish.quota_model, wish.tier);
        let arrival = queue.arrive();
        let mut told = None;
        if let Some(mut direct) = queue.ask_directly(!wish.wait.is_zero()) {
            let answer = self.ask_of(&shard, wish, &[], Duration::ZERO).await;
            direct.answered();
            match answer {
                Ok(grant) => {
                    queue.count_grant(Instant::now());
                    return Ok(grant);
                }
                Err(Denied::Failed(error)) => return Err(error),
                Err(Denied::Refused { refusal, account, shared }) => {
                    let now = Instant::now();
                    let known = Known::new(refusal, now);
                    if wish.wait.is_zero() || known.is_beyond(arrival.at() + wish.wait) {
                        return Err(queue.refusal(known, &wish.consumer));
                    }
                    told = Some(Told { known, obstacle: self.obstacle(account, shared), direct });
                }
            }
        } else if !self.could_ever_serve(&shard, &self.request(wish)?) {
            // It takes nothing from those who wait, and its answer is not a matter of waiting.
            return self.ask_of(&shard, wish, &[], Duration::ZERO).await.map_err(Denied::into_error);
        }
        let Request { op, commons } = self.request(wish)?;
        let _waiting = (!wish.wait.is_zero()).then(|| self.stats.waiting());
        tokio::select! {
            biased;
            answer = queue.wait(arrival, wish, Need::of(&op, &commons), told) => answer,
            () = drained => Err(AcquireError::ShuttingDown),
        }
    }

    /// Gives back a lease that never left the broker.
    fn give_back(&self, grant: &Grant) {
        if let Some(id) = LeaseId::parse(&grant.lease_id) {
            self.committer.give_back(id.shard.into(), id.unique);
            self.queues.freed();
        }
    }

    /// What stands in the way of one whom this account refused.
    fn obstacle(&self, account: String, shared: bool) -> Obstacle {
        if shared {
            return Obstacle::Shared(account);
        }
        keys_behind(&self.config, &account).map_or(Obstacle::All, Obstacle::Keys)
    }

    /// Whether the request is within the limits of any key that it may use.
    fn could_ever_serve(&self, shard: &Arc<str>, request: &Request) -> bool {
        let applied = self.applied.read().expect("no holder of this lock panics");
        applied.get(shard).is_none_or(|applied| applied.capacity.holds(&request.op))
    }

    /// The shard's name, once it is in the ledger.
    async fn shard(&self, quota_model: &str, tier: Tier) -> Result<Arc<str>, AcquireError> {
        let name = shard_name(&self.digest, quota_model, tier);
        let known = {
            let applied = self.applied.read().expect("no holder of this lock panics");
            applied.get_key_value(name.as_str()).map(|(name, applied)| (name.clone(), applied.since))
        };
        if let Some((name, since)) = known
            && since.elapsed() < APPLY_EVERY
        {
            return Ok(name);
        }
        let name: Arc<str> = name.into();
        let _applying = self.applying.lock().await;
        let fresh = self
            .applied
            .read()
            .expect("no holder of this lock panics")
            .get(&name)
            .map(|applied| applied.since);
        if fresh.is_none_or(|since| since.elapsed() >= APPLY_EVERY) {
            self.apply(&name, quota_model, tier).await?;
        }
        Ok(name)
    }

    async fn apply(&self, shard: &Arc<str>, quota_model: &str, tier: Tier) -> Result<(), AcquireError> {
        {
            let mut models = self.models.write().expect("no holder of this lock panics");
            if !models.contains_key(quota_model) && models.len() >= MOST_MODELS {
                return Err(AcquireError::TooManyModels(MOST_MODELS));
            }
            models.insert(quota_model.to_owned(), self.commons(quota_model));
            self.stats.asked_for(quota_model);
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
        if self.config.learn_limits == LearnLimits::Off {
            self.forget_learned(&spec).await?;
        }
        self.early.learn(&spec);
        let applied = Applied { since: Instant::now(), capacity: Arc::new(Capacity::of(&spec)) };
        self.applied.write().expect("no holder of this lock panics").insert(shard.clone(), applied);
        Ok(())
    }

    /// Forgets the limits that Google named while they were still taken in.
    async fn forget_learned(&self, spec: &ShardSpec) -> Result<(), AcquireError> {
        let mut ids: Vec<String> = spec.accounts.iter().map(|account| account.id.clone()).collect();
        let accounts = self.ledger.inspect(&self.config.name, &ids).await?.accounts;
        let learned = |account: &Account| account.windows.iter().any(|window| window.learned > 0);
        let mut learned = accounts.iter().map(|account| account.as_ref().is_some_and(learned));
        ids.retain(|_| learned.next().unwrap_or(false));
        self.edit(&ids, EditAction::Unlearn).await.map(drop)
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
        let (answer, now) =
            self.committer.renew(id.shard.into(), op).await.map_err(|error| self.failed(error))?;
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
