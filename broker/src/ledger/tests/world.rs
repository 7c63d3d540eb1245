//! A kernel with a small catalogue, and a clock that a test moves.

use crate::ledger::{
    AccountSpec, Acquire, AcquireState, Acquired, Amounts, Batch, Block, CandidateSpec, Charge, CommonSpec,
    Dimension, Edit, LimitSpec, Mode, Order, Renew, Renewed, Settle, Settled, ShardSpec, Span,
    calendar::Calendar,
    kernel::Kernel,
    shard::{REBASE_AT, SCALE},
};

/// 2026-07-14 in the Pacific morning, on a whole second.
pub(super) const START: i64 = 1_784_044_800_000;
/// The models of the catalogue; each is a shard.
pub(super) const MODELS: [&str; 2] = ["m1", "m2"];

pub(in crate::ledger) struct World {
    pub(super) kernel: Kernel,
    pub(super) now: i64,
    /// The accounts that every batch brings along.
    pub(super) commons: Vec<CommonSpec>,
    /// What the next batch begins with.
    pub(super) edits: Vec<Edit>,
    leases: usize,
}

/// So many requests in any minute.
pub(super) fn per_minute(most: i64) -> LimitSpec {
    LimitSpec(Dimension::Requests, Span::Trailing(60_000), most)
}

/// The spec of a shard; keys are (name, project).
pub(super) fn spec(model: &str, keys: &[(&str, &str)], limits: &[LimitSpec]) -> ShardSpec {
    let account = |project: &str| format!("q/{project}/{model}");
    let mut accounts: Vec<AccountSpec> = Vec::new();
    for (_, project) in keys {
        if !accounts.iter().any(|known| known.id == account(project)) {
            accounts.push(AccountSpec { id: account(project), limits: limits.to_vec(), mode: Mode::Hard });
        }
    }
    let candidate = |(name, project): &(&str, &str)| CandidateSpec {
        name: (*name).to_owned(),
        class: 0,
        step: SCALE,
        limited: vec![account(project)],
        sparse: vec![format!("k/{name}"), format!("p/{project}")],
        tag: (*project).to_owned(),
    };
    ShardSpec {
        shard: model.to_owned(),
        generation: 1,
        accounts,
        candidates: keys.iter().map(candidate).collect(),
        order: Order::Share,
    }
}

/// A block of one length.
pub(super) fn block(role: &str, length: i64, probe: bool) -> Block {
    Block {
        role: role.to_owned(),
        steps: vec![length],
        until_day_end: false,
        probe,
        reason: "reason".to_owned(),
    }
}

impl World {
    pub(in crate::ledger) fn new(keys: &[(&str, &str)], limits: &[LimitSpec]) -> Self {
        let mut kernel = Kernel::default();
        MODELS.iter().for_each(|model| kernel.apply(&spec(model, keys, limits)));
        Self { kernel, now: START, commons: Vec::new(), edits: Vec::new(), leases: 0 }
    }

    pub(super) fn run(
        &mut self,
        settles: &[Settle],
        renews: &[Renew],
        acquires: &[Acquire],
    ) -> crate::ledger::Reply {
        let calendar = Calendar::around(self.now);
        let batch = Batch {
            ledger_id: String::new(),
            clock: self.now,
            day_ends: calendar.day_ends,
            month_ends: calendar.month_ends,
            rebase_at: REBASE_AT,
            shards: MODELS.map(str::to_owned).to_vec(),
            settles: settles.to_vec(),
            renews: renews.to_vec(),
            acquires: acquires.to_vec(),
            commons: self.commons.clone(),
            edits: std::mem::take(&mut self.edits),
        };
        self.kernel.execute(self.now, &batch).expect("the calendar is of now")
    }

    /// A request for one lease of the first model, with an id of its own.
    pub(in crate::ledger) fn request(&mut self) -> Acquire {
        self.leases += 1;
        Acquire {
            lease: format!("l{}", self.leases),
            shard: 0,
            amounts: Amounts { permits: 1, ..Amounts::default() },
            ttl: 60_000,
            send_within: 1_000,
            only: vec![],
            exclude: vec![],
            common: vec![],
            usage: String::new(),
            note: String::new(),
        }
    }

    pub(super) fn ask(&mut self, request: Acquire) -> Acquired {
        self.run(&[], &[], &[request]).acquires.remove(0)
    }

    /// Asks for a lease that must be granted; its id and key.
    pub(super) fn grant(&mut self) -> (String, String) {
        let request = self.request();
        let lease = request.lease.clone();
        let answer = self.ask(request);
        assert_eq!(answer.0, AcquireState::Granted, "{answer:?}");
        (lease, answer.2)
    }

    /// Asks for a lease that must be refused; until when, by which account and why.
    pub(super) fn refusal(&mut self) -> (i64, String, String) {
        let request = self.request();
        let answer = self.ask(request);
        assert_eq!(answer.0, AcquireState::Refused, "{answer:?}");
        (answer.1, answer.2, answer.3)
    }

    pub(super) fn settle(&mut self, op: Settle) -> Settled {
        self.run(&[op], &[], &[]).settles.remove(0)
    }

    pub(super) fn renew(&mut self, lease: &str, ttl: i64) -> Renewed {
        self.run(&[], &[Renew { lease: lease.to_owned(), shard: 0, ttl }], &[]).renews.remove(0)
    }
}

/// A settle that keeps the charge and says nothing more.
pub(super) fn keep(lease: &str) -> Settle {
    Settle {
        lease: lease.to_owned(),
        shard: 0,
        charge: Charge::Keep,
        input_tokens: -1,
        total_tokens: -1,
        spend: -1,
        clear: false,
        blocks: vec![],
        memo: "memo".to_owned(),
        health: 0,
        learned: vec![],
        outcome: "kept".to_owned(),
    }
}

pub(super) fn success(lease: &str) -> Settle {
    Settle { charge: Charge::TrueUp, clear: true, ..keep(lease) }
}

pub(super) fn blocking(lease: &str, blocks: Vec<Block>) -> Settle {
    Settle { blocks, ..keep(lease) }
}

/// One request of so many input tokens.
pub(super) fn tokens_of(tokens: i64) -> Amounts {
    Amounts { permits: 1, input: tokens, total: tokens, spend: 0 }
}
