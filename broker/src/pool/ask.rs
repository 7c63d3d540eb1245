//! One question to the ledger: what a wish asks of it, and what it answers.

use std::{sync::Arc, time::Duration};

use super::{
    AcquireError, Grant, Limited, Pool, Refusal, Wish,
    accounts::{AccountOf, commons, plan_common},
    duration, millis,
};
use crate::{
    lease_id::LeaseId,
    ledger::{
        Acquire, AcquireState, Acquired, Amounts, CommonSpec, Millis, USAGE_MARK, steady::CLOCK_MARGIN,
    },
};

/// What the ledger is asked for.
pub(super) struct Request {
    pub(super) op: Acquire,
    /// The accounts that are charged beside those of a key, such as the consumer's.
    pub(super) commons: Vec<Arc<CommonSpec>>,
}

/// What the ledger answered.
struct Asked {
    lease: String,
    commons: Vec<Arc<CommonSpec>>,
    answer: Acquired,
    now: Millis,
}

/// Why the ledger gave no lease to one who asked.
#[derive(Debug)]
pub(super) enum Denied {
    /// It cannot be given now, or never.
    Refused {
        /// The refusal.
        refusal: Refusal,
        /// The account that refused.
        account: String,
        /// Whether that is one charged beside those of a key.
        shared: bool,
    },
    /// There is no answer, or the request cannot be made.
    Failed(AcquireError),
}

impl From<AcquireError> for Denied {
    fn from(error: AcquireError) -> Self {
        Self::Failed(error)
    }
}

impl Pool {
    /// Asks the ledger once, after the caller waited for so long, and without the keys that are kept
    /// for others.
    pub(super) async fn ask(&self, wish: &Wish, kept: &[String], waited: Duration) -> Result<Grant, Denied> {
        let shard = self.shard(&wish.quota_model, wish.tier).await?;
        self.ask_of(&shard, wish, kept, waited).await
    }

    /// The same of a shard that was in the ledger a moment ago.
    pub(super) async fn ask_of(
        &self,
        shard: &Arc<str>,
        wish: &Wish,
        kept: &[String],
        waited: Duration,
    ) -> Result<Grant, Denied> {
        let mut asked = self.ask_once(shard, wish, kept).await?;
        if asked.answer.0 == AcquireState::Missing {
            self.apply(shard, &wish.quota_model, wish.tier).await?;
            asked = self.ask_once(shard, wish, kept).await?;
        }
        let Asked { lease, commons, answer, now } = asked;
        match answer.0 {
            AcquireState::Granted => {
                let (key, project) = self.keys.get(&answer.2).ok_or(AcquireError::ForeignKey)?;
                let id = LeaseId { pool: &self.config.name, shard, unique: &lease };
                Ok(Grant {
                    lease_id: id.to_string(),
                    key: key.clone(),
                    project: project.id.clone(),
                    quota_model: wish.quota_model.clone(),
                    // The grant came after the waiting, and so did the time to send within.
                    send_within: waited + self.config.send_within,
                    expires_at: answer.1,
                    expires_in: duration(answer.1 - now),
                    permits: wish.permits,
                    over_plan: !answer.3.is_empty(),
                })
            }
            AcquireState::Refused => {
                self.watch.refused(&wish.quota_model);
                let shared = commons.iter().any(|common| common.id == answer.2);
                let mut refusal = Refusal::of(&self.config, &answer, now);
                if refusal.leaves_no_key() && kept.is_empty() {
                    refusal.message = self.no_key_for(wish);
                }
                Err(Denied::Refused { refusal, account: answer.2, shared })
            }
            AcquireState::Missing => Err(AcquireError::ShardLost.into()),
        }
    }

    async fn ask_once(&self, shard: &Arc<str>, wish: &Wish, kept: &[String]) -> Result<Asked, Denied> {
        let Request { mut op, commons } = self.request(wish)?;
        op.exclude.extend_from_slice(kept);
        self.early.learn_common(&commons);
        let lease = op.lease.clone();
        let asking = self.committer.acquire(shard.clone(), op, commons.clone(), wish.deadline);
        let (answer, now) = asking.await.map_err(|error| self.failed(error))?;
        Ok(Asked { lease, commons, answer, now })
    }

    /// What the ledger is asked for, but for its places in the batch.
    pub(super) fn request(&self, wish: &Wish) -> Result<Request, AcquireError> {
        let catalogue = self.catalogue();
        let price = catalogue.price_of(&wish.quota_model);
        let (input, output) = (wish.input_tokens, wish.output_tokens);
        let spend = price.map_or(0, |price| price.spend(input.unsigned_abs(), 0, output.unsigned_abs()));
        let op = Acquire {
            lease: self.names.next(),
            shard: 0,
            amounts: Amounts {
                permits: wish.permits,
                input,
                total: input + output,
                spend: i64::try_from(spend).unwrap_or(i64::MAX),
            },
            ttl: millis(wish.ttl.unwrap_or(self.config.lease_ttl)),
            // The worker is told what is configured; the margin is for a clock that is a little fast.
            send_within: millis(self.config.send_within) + CLOCK_MARGIN,
            only: self.only(wish)?,
            exclude: self.excluded(wish),
            common: Vec::new(),
            usage: format!("{}{USAGE_MARK}{}", wish.consumer, wish.quota_model),
            note: wish.note.clone(),
        };
        let known =
            self.models.read().expect("no holder of this lock panics").get(&wish.quota_model).cloned();
        let generation = self.opened.generation;
        let mut commons = known.unwrap_or_else(|| self.commons(&wish.quota_model));
        let of_consumer =
            catalogue.plan_of(&wish.consumer).map(|plan| (AccountOf::Consumer(&wish.consumer), plan));
        let of_identity = wish.identity.as_ref().and_then(|Limited { identity, plan }| {
            Some((AccountOf::Identity(identity), catalogue.plans.get(plan)?))
        });
        let planned = of_consumer.into_iter().chain(of_identity);
        commons.extend(
            planned.filter_map(|(account, plan)| plan_common(account, plan, generation)).map(Arc::new),
        );
        Ok(Request { op, commons })
    }

    pub(super) fn commons(&self, quota_model: &str) -> Vec<Arc<CommonSpec>> {
        commons(&self.config, quota_model, self.opened.generation).into_iter().map(Arc::new).collect()
    }
}
