//! How large a request the keys of a shard can serve at all, and what reports give back early.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::ledger::{
    Acquire, Charge, CommonSpec, Dimension, LimitSpec, Mode, Settle, ShardSpec, UNLIMITED, account::SMALLEST,
};

/// The largest request that each key can serve, however long it waits.
pub(super) struct Capacity(Vec<Largest>);

struct Largest {
    key: String,
    limits: Vec<LimitSpec>,
}

impl Capacity {
    pub(super) fn of(spec: &ShardSpec) -> Self {
        // Limits of the other modes do not bound what is granted, or not by what they say.
        let hard = spec.accounts.iter().filter(|account| account.mode == Mode::Hard);
        let limits: HashMap<&str, &[LimitSpec]> =
            hard.map(|account| (account.id.as_str(), account.limits.as_slice())).collect();
        let limits_of = |id: &String| limits.get(id.as_str()).copied().unwrap_or_default();
        let keys = spec.candidates.iter().map(|candidate| {
            let limits = candidate.limited.iter().flat_map(limits_of).copied();
            Largest { key: candidate.name.clone(), limits: limits.collect() }
        });
        Self(keys.collect())
    }

    /// Whether one of the keys that a request may use can serve it at all.
    pub(super) fn holds(&self, request: &Acquire) -> bool {
        let fits = |LimitSpec(dimension, _, amount): &LimitSpec| {
            request.amounts.of(*dimension).max(SMALLEST.of(*dimension)) <= *amount
        };
        self.0.iter().any(|largest| {
            largest.limits.iter().all(fits)
                && (request.only.is_empty() || request.only.contains(&largest.key))
                && !request.exclude.contains(&largest.key)
        })
    }
}

/// Which reports give back what somebody may wait for.
#[derive(Debug, Default)]
pub(super) struct EarlyReturns {
    slots: AtomicBool,
    tokens: AtomicBool,
    probes: AtomicBool,
}

impl EarlyReturns {
    /// Takes in which limits there are.
    pub(super) fn learn(&self, spec: &ShardSpec) {
        self.learn_limits(spec.accounts.iter().flat_map(|account| &account.limits));
    }

    /// The same of accounts that come with a request.
    pub(super) fn learn_common(&self, commons: &[Arc<CommonSpec>]) {
        self.learn_limits(commons.iter().flat_map(|common| &common.limits));
    }

    fn learn_limits<'a>(&self, limits: impl Iterator<Item = &'a LimitSpec>) {
        for LimitSpec(dimension, _, amount) in limits {
            match dimension {
                _ if *amount >= UNLIMITED => {}
                Dimension::InFlight => self.slots.store(true, Relaxed),
                Dimension::InputTokens | Dimension::TotalTokens | Dimension::Spend => {
                    self.tokens.store(true, Relaxed);
                }
                Dimension::Requests => {}
            }
        }
    }

    /// Takes in that something cools down: its end is a lease that goes out alone, and whose report
    /// lets the others go.
    pub(super) fn cooled_down(&self) {
        self.probes.store(true, Relaxed);
    }

    /// Whether this may have given something back before its time.
    pub(super) fn are_made_by(&self, settle: &Settle) -> bool {
        match settle.charge {
            Charge::Refund => true,
            _ if self.slots.load(Relaxed) || self.probes.load(Relaxed) => true,
            Charge::TrueUp => self.tokens.load(Relaxed),
            Charge::Keep => false,
        }
    }
}
