//! Waiters whose turn came and whom the ledger refused: they keep their turn, and say who must stand
//! back for them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tokio::time::Instant;

use super::{Ticket, known::Known, need::Need};

/// How many may be passed over at a time because no key can serve them yet. Each of them keeps the
/// keys of one account from the others, so that this many cannot bring a pool to a standstill.
pub(super) const MOST_PASSED_OVER: usize = 8;
/// How many of those that their consumer's limits hold back are asked for again when capacity came
/// back early; all of them in turn. It bounds the calls that one report can cause.
const SHARED_AT_ONCE: usize = 4;

/// What refused a waiter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pool) enum Obstacle {
    /// The keys of one account, whose capacity comes back first: nobody else takes it meanwhile.
    Keys(Vec<String>),
    /// An account that several waiters charge, such as a consumer's: they stand back together, and
    /// nobody else does.
    Shared(String),
    /// Something that concerns all keys alike: nobody is asked for meanwhile.
    All,
}

impl Obstacle {
    /// Whether what refused the one need refuses the other for at least as long.
    pub(super) fn refuses(&self, need: &Need, other: &Need) -> bool {
        match self {
            Self::Keys(_) => need.rules_out(other),
            Self::Shared(account) => need.is_at_most(other) && other.common.contains(account),
            Self::All => need.is_at_most(other),
        }
    }
}

/// A waiter whose turn came and who was refused.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) ticket: Ticket,
    /// The number of its turn: who has a lower one is served first.
    pub(super) turn: u64,
    pub(super) need: Arc<Need>,
    pub(super) obstacle: Obstacle,
    /// The refusal; none if all keys that it could use are kept for others.
    pub(super) known: Option<Known>,
    /// Whether keys were kept from it when it was asked for.
    pub(super) behind: bool,
    /// Whether the ledger is being asked right now.
    pub(super) asking: bool,
    /// Its place among those refused by shared accounts; set where it is kept.
    pub(super) asked_as: u64,
}

impl Hold {
    /// Whether its consumer's other waiters stand still with it: all do but for one who may use some
    /// keys only, whom they may pass.
    pub(super) fn stops_lane(&self) -> bool {
        !matches!(self.obstacle, Obstacle::Keys(_)) || !self.need.is_constrained()
    }
}

/// All who hold a turn.
#[derive(Debug, Default)]
pub(super) struct Holds {
    all: HashMap<Ticket, Hold>,
    // By turn: those refused by keys, and those refused by what concerns all keys.
    passed: BTreeMap<u64, Ticket>,
    standstill: BTreeMap<u64, Ticket>,
    // Those refused by each shared account.
    shared: HashMap<String, Vec<Ticket>>,
    // All of those, by when they were asked for last.
    rotation: BTreeSet<(u64, Ticket)>,
    rotations: u64,
    due: BTreeSet<(Instant, Ticket)>,
    // By turn, those to ask for again.
    again: BTreeMap<u64, Ticket>,
}

impl Holds {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<&Hold> {
        self.all.get(&ticket)
    }

    /// How many of those passed over go before this turn.
    pub(super) fn before(&self, turn: u64) -> usize {
        self.passed.range(..turn).count() + self.standstill.range(..turn).count()
    }

    pub(super) fn insert(&mut self, mut hold: Hold) {
        let ticket = hold.ticket;
        match &hold.obstacle {
            Obstacle::Keys(_) => drop(self.passed.insert(hold.turn, ticket)),
            Obstacle::All => drop(self.standstill.insert(hold.turn, ticket)),
            Obstacle::Shared(account) => {
                self.shared.entry(account.clone()).or_default().push(ticket);
                self.rotations += 1;
                hold.asked_as = self.rotations;
                self.rotation.insert((hold.asked_as, ticket));
            }
        }
        self.due.extend(hold.known.as_ref().map(|known| (known.at, ticket)));
        self.all.insert(ticket, hold);
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Hold> {
        let hold = self.all.remove(&ticket)?;
        match &hold.obstacle {
            Obstacle::Keys(_) => drop(self.passed.remove(&hold.turn)),
            Obstacle::All => drop(self.standstill.remove(&hold.turn)),
            Obstacle::Shared(account) => {
                if let Some(tickets) = self.shared.get_mut(account) {
                    tickets.retain(|other| *other != ticket);
                    if tickets.is_empty() {
                        self.shared.remove(account);
                    }
                }
                self.rotation.remove(&(hold.asked_as, ticket));
            }
        }
        if let Some(known) = &hold.known {
            self.due.remove(&(known.at, ticket));
        }
        self.again.remove(&hold.turn);
        // What was kept from those behind may be free now.
        let behind: Vec<_> = self.by_keys().filter(|other| other.behind && !other.asking).collect();
        let behind: Vec<_> = behind.into_iter().map(|other| (other.turn, other.ticket)).collect();
        self.again.extend(behind);
        Some(hold)
    }

    /// Those who were refused by keys, or by what concerns all of them.
    fn by_keys(&self) -> impl Iterator<Item = &Hold> {
        self.passed.values().chain(self.standstill.values()).map(|ticket| &self.all[ticket])
    }

    /// Whether one more may be passed over.
    pub(super) fn has_room(&self) -> bool {
        self.passed.len() < MOST_PASSED_OVER && self.standstill.is_empty()
    }

    /// Whether this need stands back for somebody who holds a turn.
    pub(super) fn bars(&self, need: &Need) -> bool {
        !self.standstill.is_empty()
            || need.common.iter().any(|account| self.shared.contains_key(account))
            || self.passed.values().any(|ticket| self.all[ticket].need.rules_out(need))
    }

    /// The refusal that is certain to hold for this need as well, if there is one.
    pub(super) fn refusal_of(&self, need: &Need, now: Instant) -> Option<&Known> {
        let shared = need.common.iter().filter_map(|account| self.shared.get(account)).flatten();
        let possible = self.by_keys().chain(shared.map(|ticket| &self.all[ticket]));
        let certain = possible.filter(|hold| {
            !hold.asking && !self.again.contains_key(&hold.turn) && hold.obstacle.refuses(&hold.need, need)
        });
        let known = certain.filter_map(|hold| hold.known.as_ref()).filter(|known| known.at > now);
        known.max_by_key(|known| known.at)
    }

    /// The keys that whoever has this turn must leave to those before it.
    pub(super) fn kept_from(&self, turn: u64) -> Vec<String> {
        let kept = self.passed.range(..turn).filter_map(|(_, ticket)| match &self.all[ticket].obstacle {
            Obstacle::Keys(keys) => Some(keys),
            Obstacle::Shared(_) | Obstacle::All => None,
        });
        let distinct: BTreeSet<&String> = kept.flatten().collect();
        distinct.into_iter().cloned().collect()
    }

    /// Capacity came back early: asks again for those whom it may serve.
    pub(super) fn recheck(&mut self) {
        let shared = self.rotation.iter().take(SHARED_AT_ONCE).map(|(_, ticket)| &self.all[ticket]);
        let idle = self.by_keys().chain(shared).filter(|hold| !hold.asking);
        let again: Vec<_> = idle.map(|hold| (hold.turn, hold.ticket)).collect();
        self.again.extend(again);
    }

    /// The ledger did not answer: asks for this one again.
    pub(super) fn ask_again(&mut self, ticket: Ticket) {
        if let Some(hold) = self.all.get_mut(&ticket) {
            hold.asking = false;
            self.again.insert(hold.turn, ticket);
        }
    }

    /// Takes whom to ask for again, by turn: those whose instant has come, and those to recheck.
    pub(super) fn take_due(&mut self, now: Instant, at_most: usize) -> Vec<Ticket> {
        while let Some(&(at, ticket)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let hold = &self.all[&ticket];
            if !hold.asking {
                self.again.insert(hold.turn, ticket);
            }
        }
        let mut taken = Vec::new();
        while taken.len() < at_most
            && let Some((_, ticket)) = self.again.pop_first()
        {
            if let Some(hold) = self.all.get_mut(&ticket) {
                hold.asking = true;
                taken.push(ticket);
            }
        }
        taken
    }

    /// The earliest instant that the ledger named.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}
