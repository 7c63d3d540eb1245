//! The waiters of one consumer, first in, first out.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::Ticket;

/// A consumer with waiters.
#[derive(Debug)]
pub(super) struct Lane {
    /// The consumer.
    pub(super) name: Arc<str>,
    /// Whose turn has not come, by arrival.
    pub(super) waiting: VecDeque<Ticket>,
    /// The round up to which its quanta are spent: in round `r` its deficit is `r - spent`.
    pub(super) spent: i64,
    /// How many of it hold a turn and stop those behind them.
    pub(super) stopped: usize,
    /// How many it has, those included whose turn has come.
    pub(super) members: usize,
    /// The round in which it stands in the order, if it does.
    pub(super) placed: Option<i64>,
}

impl Lane {
    pub(super) fn new(name: Arc<str>, round: i64) -> Self {
        Self { name, waiting: VecDeque::new(), spent: round, stopped: 0, members: 0, placed: None }
    }

    /// Puts a waiter where its arrival belongs.
    pub(super) fn insert(&mut self, ticket: Ticket) {
        if self.waiting.back().is_none_or(|last| *last < ticket) {
            self.waiting.push_back(ticket);
        } else if let Err(at) = self.waiting.binary_search(&ticket) {
            self.waiting.insert(at, ticket);
        }
    }

    /// Takes a waiter out; whether it was there.
    pub(super) fn remove(&mut self, ticket: Ticket) -> bool {
        let at = self.waiting.binary_search(&ticket);
        at.is_ok_and(|at| self.waiting.remove(at).is_some())
    }

    /// How many of it stand before that arrival.
    pub(super) fn before(&self, ticket: Ticket) -> usize {
        self.waiting.binary_search(&ticket).unwrap_or_else(|at| at)
    }
}

/// How many lanes there are of each length. There are never more different lengths than the root of
/// twice the number of waiters, so sums over all lanes are cheap.
#[derive(Debug, Default)]
pub(super) struct Lengths(BTreeMap<usize, usize>);

impl Lengths {
    pub(super) fn change(&mut self, before: usize, after: usize) {
        if before > 0
            && let Some(count) = self.0.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&before);
            }
        }
        if after > 0 {
            *self.0.entry(after).or_default() += 1;
        }
    }

    /// How many go first, at most, where everybody's first so many go before a lane's next one.
    /// `own` is the length of that lane.
    pub(super) fn ahead(&self, index: usize, own: usize) -> usize {
        let of_all: usize = self.0.iter().map(|(length, count)| count * (index + 1).min(*length)).sum();
        of_all - (index + 1).min(own) + index
    }
}
