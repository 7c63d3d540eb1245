//! The smallest catalogue and request, for tests that call a ledger directly.

use keybroker::ledger::{
    AccountSpec, Acquire, Amounts, CandidateSpec, LimitSpec, Mode, Order, ShardSpec, shard::SCALE,
};

/// A shard of one key with these limits.
pub fn shard(name: &str, generation: i64, limits: Vec<LimitSpec>) -> ShardSpec {
    let candidate = CandidateSpec {
        name: "key".to_owned(),
        class: 0,
        step: SCALE,
        limited: vec!["k:key".to_owned()],
        sparse: Vec::new(),
        tag: String::new(),
    };
    ShardSpec {
        shard: name.to_owned(),
        generation,
        accounts: vec![AccountSpec { id: "k:key".to_owned(), limits, mode: Mode::Hard }],
        candidates: vec![candidate],
        order: Order::Share,
    }
}

/// Asks the first shard of a batch for a lease of one request, for as many milliseconds.
pub fn request(lease: &str, ttl: i64) -> Acquire {
    Acquire {
        lease: lease.to_owned(),
        shard: 0,
        amounts: Amounts { permits: 1, ..Amounts::default() },
        ttl,
        send_within: 0,
        only: Vec::new(),
        exclude: Vec::new(),
        common: Vec::new(),
        usage: String::new(),
        note: String::new(),
    }
}
