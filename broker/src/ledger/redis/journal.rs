//! What this broker did of late in one pool: should Redis come back without the last of it, it is put back.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use serde::Serialize;

use crate::ledger::{
    Acquire, AcquireState, Acquired, Batch, CommonSpec, Millis, Renew, Reply, Settle, batch::place_of,
};

/// How many operations are remembered for a pool. Lost is at most what a server had not written when it died,
/// which is a second or two.
const LONGEST: usize = 50_000;

/// What was done, in order.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    // The latest instant of which something was left out, 0 if nothing was.
    cut: Millis,
}

#[derive(Debug)]
struct Entry {
    at: Millis,
    shard: Arc<str>,
    done: Done,
}

#[derive(Debug)]
enum Done {
    Granted { op: Acquire, commons: Arc<[CommonSpec]>, candidate: String, expires_at: Millis, over: bool },
    Renewed { lease: String, expires_at: Millis },
    Settled(Settle),
}

/// A lease to put back: what was asked for, the candidate, when it was granted, when it expires, and whether it
/// exceeds a plan. The order is that of `lua/replay.lua`.
#[derive(Debug, Serialize)]
pub(super) struct Granted(Acquire, String, Millis, Millis, bool);

/// What one call puts back.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) shards: Vec<String>,
    pub(super) settles: Vec<Settle>,
    pub(super) renews: Vec<Renew>,
    pub(super) grants: Vec<Granted>,
    pub(super) commons: Vec<CommonSpec>,
}

impl Journal {
    /// Remembers what a batch did.
    pub(super) fn record(&mut self, batch: &Batch, reply: &Reply) {
        let shards: Vec<Arc<str>> = batch.shards.iter().map(|shard| shard.as_str().into()).collect();
        let at = reply.now;
        for op in &batch.settles {
            self.push(at, shards.get(op.shard), Done::Settled(op.clone()));
        }
        for (op, answer) in batch.renews.iter().zip(&reply.renews) {
            if answer.1 > 0 {
                let done = Done::Renewed { lease: op.lease.clone(), expires_at: answer.1 };
                self.push(at, shards.get(op.shard), done);
            }
        }
        let mut commons: Option<Arc<[CommonSpec]>> = None;
        for (op, Acquired(state, expires_at, candidate, over)) in batch.acquires.iter().zip(&reply.acquires) {
            if *state == AcquireState::Granted {
                let commons = commons.get_or_insert_with(|| batch.commons.as_slice().into()).clone();
                let (shard, op, candidate) = (op.shard, op.clone(), candidate.clone());
                let done =
                    Done::Granted { op, commons, candidate, expires_at: *expires_at, over: !over.is_empty() };
                self.push(at, shards.get(shard), done);
            }
        }
    }

    fn push(&mut self, at: Millis, shard: Option<&Arc<str>>, done: Done) {
        // What names no shard did nothing.
        let Some(shard) = shard else { return };
        if self.entries.len() >= LONGEST
            && let Some(oldest) = self.entries.pop_front()
        {
            self.cut = oldest.at;
        }
        self.entries.push_back(Entry { at, shard: shard.clone(), done });
    }

    /// The shards of which something is remembered.
    pub(super) fn shards(&self) -> HashSet<&str> {
        self.entries.iter().map(|entry| &*entry.shard).collect()
    }

    /// The latest instant of which something is not remembered any more; 0 if everything is.
    pub(super) fn cut(&self) -> Millis {
        self.cut
    }

    /// What was done from an instant on, in pieces of at most `most`. What is settled stands behind what is granted:
    /// another broker may have granted it.
    pub(super) fn since(&self, from: Millis, most: usize) -> Vec<Piece> {
        let recent: Vec<&Entry> = self.entries.iter().filter(|entry| entry.at >= from).collect();
        let is_grant = |entry: &&&Entry| matches!(entry.done, Done::Granted { .. });
        let grants: Vec<&Entry> = recent.iter().filter(is_grant).copied().collect();
        let others: Vec<&Entry> = recent.iter().filter(|entry| !is_grant(entry)).copied().collect();
        grants.chunks(most).chain(others.chunks(most)).map(Piece::of).collect()
    }
}

impl Piece {
    fn of(entries: &[&Entry]) -> Self {
        let mut piece = Self::default();
        for entry in entries {
            let shard = place_of(&mut piece.shards, entry.shard.as_ref(), |known, shard| known == shard);
            match &entry.done {
                Done::Settled(op) => piece.settles.push(Settle { shard, ..op.clone() }),
                Done::Renewed { lease, expires_at } => {
                    piece.renews.push(Renew { lease: lease.clone(), shard, ttl: *expires_at });
                }
                Done::Granted { op, commons, candidate, expires_at, over } => {
                    let common = op.common.iter().filter_map(|&common| commons.get(common));
                    let common = common.map(|common| place_of(&mut piece.commons, common, |a, b| a == b));
                    let op = Acquire { shard, common: common.collect(), ..op.clone() };
                    piece.grants.push(Granted(op, candidate.clone(), entry.at, *expires_at, *over));
                }
            }
        }
        piece
    }
}
