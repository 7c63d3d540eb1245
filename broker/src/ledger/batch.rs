//! What one call to the ledger runs.

use serde::{Deserialize, Serialize};

use super::{
    calendar::Calendar,
    shard::REBASE_AT,
    types::{Acquire, AcquireState, CommonSpec, Edit, Millis, Renew, Reply, Settle},
};

/// Operations that run as one atomic step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The identity the ledger must have.
    pub ledger_id: String,
    /// 0: the ledger's own clock. Else the instant, for tests that drive the clock.
    pub clock: Millis,
    /// Ends of Pacific days, ascending, from before the oldest lease to days ahead.
    pub day_ends: Vec<Millis>,
    /// The same for months.
    pub month_ends: Vec<Millis>,
    /// From how much virtual time on a shard's order is rebased.
    pub rebase_at: i64,
    /// The shards that the operations name by index.
    pub shards: Vec<String>,
    /// Settled first.
    pub settles: Vec<Settle>,
    /// Then renewed.
    pub renews: Vec<Renew>,
    /// Then granted.
    pub acquires: Vec<Acquire>,
    /// The accounts that acquires name by index beside those of the candidates.
    pub commons: Vec<CommonSpec>,
    /// Done before everything else.
    pub edits: Vec<Edit>,
}

impl Batch {
    /// A batch of no operations. It is on whoever fills it in to name shards and common accounts.
    pub fn empty(ledger_id: &str, clock: Millis, calendar: &Calendar) -> Self {
        Self {
            ledger_id: ledger_id.to_owned(),
            clock,
            day_ends: calendar.day_ends.clone(),
            month_ends: calendar.month_ends.clone(),
            rebase_at: REBASE_AT,
            shards: Vec::new(),
            settles: Vec::new(),
            renews: Vec::new(),
            acquires: Vec::new(),
            commons: Vec::new(),
            edits: Vec::new(),
        }
    }

    /// What gives back all that was granted by it; none if nothing was.
    pub(super) fn not_sent(&self, reply: &Reply) -> Option<Self> {
        let granted = self.acquires.iter().zip(&reply.acquires);
        let granted = granted.filter(|(_, answer)| answer.0 == AcquireState::Granted);
        let settles: Vec<_> =
            granted.map(|(op, _)| Settle { shard: op.shard, ..Settle::not_sent(&op.lease) }).collect();
        let calendar = Calendar::of(self);
        let back =
            Self { shards: self.shards.clone(), ..Self::empty(&self.ledger_id, self.clock, &calendar) };
        (!settles.is_empty()).then_some(Self { settles, ..back })
    }
}

/// Where an item stands in a list that operations name it by; it is added if it does not stand there.
pub(crate) fn place_of<B: ?Sized + ToOwned<Owned = T>, T>(
    list: &mut Vec<T>,
    item: &B,
    same: impl Fn(&T, &B) -> bool,
) -> usize {
    list.iter().position(|known| same(known, item)).unwrap_or_else(|| {
        list.push(item.to_owned());
        list.len() - 1
    })
}
