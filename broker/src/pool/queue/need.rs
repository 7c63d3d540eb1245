//! What a waiter needs, as far as it decides who may be served before whom.

use std::sync::Arc;

use crate::ledger::{Acquire, Amounts, CommonSpec};

/// The part of a request that a refusal depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::pool) struct Need {
    /// How much; its permits are what the waiter costs in the fair order.
    pub(super) amounts: Amounts,
    /// Only these keys, if any are named.
    pub(super) only: Vec<String>,
    /// Never these keys.
    pub(super) exclude: Vec<String>,
    /// Accounts charged beside those of a key, such as the consumer's.
    pub(super) common: Vec<String>,
}

impl Need {
    /// The need behind a request to the ledger.
    pub(in crate::pool) fn of(request: &Acquire, commons: &[Arc<CommonSpec>]) -> Self {
        Self {
            amounts: request.amounts,
            only: request.only.clone(),
            exclude: request.exclude.clone(),
            common: commons.iter().map(|common| common.id.clone()).collect(),
        }
    }

    /// Whether it may use some of the keys only. Such a waiter may be passed over.
    pub(super) fn is_constrained(&self) -> bool {
        !self.only.is_empty() || !self.exclude.is_empty()
    }

    /// Whether the other asks for as much or more of everything.
    pub(super) fn is_at_most(&self, other: &Self) -> bool {
        let (own, others) = (&self.amounts, &other.amounts);
        (own.permits <= others.permits && own.input <= others.input)
            && (own.total <= others.total && own.spend <= others.spend)
    }

    /// Whether keys that cannot serve this cannot serve the other either: it asks for as much or
    /// more, of the same keys or fewer.
    pub(super) fn rules_out(&self, other: &Self) -> bool {
        let of_the_same_keys = self.only == other.only && self.exclude == other.exclude;
        self.is_at_most(other) && (!self.is_constrained() || of_the_same_keys)
    }
}
