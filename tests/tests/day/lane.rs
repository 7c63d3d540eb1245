//! The requests of one source that wait for a lease, first come first served: the first of them asks, and
//! asks again at the instant that its refusal named, or when a report may have made room.

use std::collections::VecDeque;

use keybroker::ledger::CommonSpec;
use keybroker_proto::v1::Tier;

use crate::{
    demand::{Request, Source},
    supply::Wants,
};

/// A refusal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused {
    /// The instant that it named.
    pub(crate) until: i64,
    /// Whether it is its consumer's plan that refuses.
    pub(crate) by_plan: bool,
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) source: Source,
    /// The number of its pool.
    pub(crate) pool: usize,
    pub(crate) model: String,
    pub(crate) shard: String,
    pub(crate) commons: Vec<CommonSpec>,
    pub(crate) queue: VecDeque<Request>,
    pub(crate) refused: Option<Refused>,
}

impl Lane {
    /// What is wanted in vain here, if anything is. Who may not use every key of the pool says nothing of
    /// its supply.
    pub(crate) fn wants(&self) -> Option<Wants> {
        let (refused, first) = (self.refused?, self.queue.front()?);
        let pool = self.source.pool.to_owned();
        if refused.by_plan {
            return Some(Wants::Consumer { pool, consumer: self.source.consumer.to_owned() });
        }
        let any_key = self.source.tier == Tier::Unspecified && first.exclude.is_empty();
        any_key.then(|| Wants::Model { pool, model: self.model.clone() })
    }
}
