//! Fills a ledger's windows as a minute of work does, by a driven clock.
//!
//! A broker just started has windows of few sub-buckets, which cost little to read and write. What
//! matters is the cost that stays.

use std::{path::Path, time::Duration};

use keybroker::{
    catalogue::DEFAULT_POOL,
    config::{self, Sources},
    ledger::{
        Acquire, AcquireState, Amounts, Batch, Ledger, Millis,
        calendar::Calendar,
        embedded::{EmbeddedLedger, Reach},
        redis::RedisLedger,
    },
    pool::accounts::{shard_name, shard_spec},
};
use keybroker_proto::v1::Tier;

use super::{Error, target::MODEL};

/// How many leases one call takes.
const AT_ONCE: usize = 256;
/// How many seconds of work are laid down.
const SECONDS: i64 = 60;

/// A pool's shard in a ledger, ready to be leased from.
pub(super) struct Filled {
    ledger: Box<dyn Ledger>,
    ledger_id: String,
    shard: String,
    keys: usize,
    next: u64,
}

pub(super) async fn redis(url: &str, catalogue: &Path) -> Result<Filled, Error> {
    fill(Box::new(RedisLedger::new(url, Duration::from_secs(10))?), catalogue).await
}

pub(super) async fn embedded(folder: &Path, catalogue: &Path) -> Result<(), Error> {
    fill(Box::new(EmbeddedLedger::open(folder, Reach::System)?), catalogue).await.map(drop)
}

async fn fill(ledger: Box<dyn Ledger>, catalogue: &Path) -> Result<Filled, Error> {
    let sources = Sources::new(Some(catalogue.to_owned()), &|_| None);
    let catalogue = config::load(&sources)?.catalogue;
    let pool = catalogue.pools.get(DEFAULT_POOL).ok_or("the catalogue has no default pool")?;
    let digest = catalogue.digest();
    let opened = ledger.open(DEFAULT_POOL, &digest).await?;
    let shard = shard_name(&digest, MODEL, Tier::Unspecified);
    let spec =
        shard_spec(pool, &shard, MODEL, Tier::Unspecified, opened.generation).ok_or("a pool without keys")?;
    ledger.apply(DEFAULT_POOL, &opened.ledger_id, &spec).await?;
    let keys = spec.candidates.len();
    let mut filled = Filled { ledger, ledger_id: opened.ledger_id, shard, keys, next: 0 };
    let now = jiff::Timestamp::now().as_millisecond();
    for second in (0..SECONDS).rev() {
        let mut left = filled.keys;
        while left > 0 {
            let taken = left.min(AT_ONCE);
            filled.take(taken, now - second * 1000).await?;
            left -= taken;
        }
    }
    Ok(filled)
}

impl Filled {
    /// Takes so many leases in one call, at an instant of the ledger's clock; 0 is its own.
    pub(super) async fn take(&mut self, count: usize, clock: Millis) -> Result<(), Error> {
        let calendar = Calendar::around(jiff::Timestamp::now().as_millisecond());
        let acquires = (0..count).map(|_| {
            self.next += 1;
            Acquire {
                lease: format!("ffffffffffffffff-{:x}", self.next),
                shard: 0,
                amounts: Amounts { permits: 1, input: 1000, total: 1000, spend: 0 },
                ttl: 60_000,
                send_within: 1000,
                only: Vec::new(),
                exclude: Vec::new(),
                common: Vec::new(),
                usage: String::new(),
                note: String::new(),
            }
        });
        let batch = Batch {
            acquires: acquires.collect(),
            shards: vec![self.shard.clone()],
            ..Batch::empty(&self.ledger_id, clock, &calendar)
        };
        let reply = self.ledger.execute(DEFAULT_POOL, &batch).await?;
        match reply.acquires.iter().find(|answer| answer.0 != AcquireState::Granted) {
            Some(other) => Err(format!("a lease that was not granted: {other:?}").into()),
            None => Ok(()),
        }
    }
}
