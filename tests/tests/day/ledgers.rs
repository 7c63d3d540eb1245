//! The ledgers that a day is driven through: the kernel, Redis, or both held to the same answers.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use keybroker::ledger::{
    Batch, Ledger, Opened, Reply, ShardSpec,
    account::Account,
    kernel::Kernel,
    redis::{RedisLedger, Scripts},
};
use keybroker_tests::harness::redis::RedisServer;

use crate::usage::Rows;

/// A ledger whose clock the batches drive.
pub(crate) trait Ledgers {
    fn open(&mut self, pool: &str, digest: &str) -> Opened;
    fn apply(&mut self, pool: &str, ledger_id: &str, spec: &ShardSpec);
    fn execute(&mut self, pool: &str, batch: &Batch) -> Reply;
    fn accounts(&mut self, pool: &str, clock: i64, ids: &[String]) -> Vec<Option<Account>>;
    fn usage(&mut self, pool: &str, day_ends: &[i64]) -> Rows;
}

/// The rules in Rust: one state a pool.
#[derive(Default)]
pub(crate) struct Kernels(HashMap<String, (Kernel, Rows)>);

impl Kernels {
    fn pool(&mut self, pool: &str) -> &mut (Kernel, Rows) {
        self.0.get_mut(pool).expect("the pool was opened")
    }
}

impl Ledgers for Kernels {
    fn open(&mut self, pool: &str, _: &str) -> Opened {
        self.0.insert(pool.to_owned(), Default::default());
        Opened { ledger_id: "ledger".to_owned(), generation: 1 }
    }

    fn apply(&mut self, pool: &str, _: &str, spec: &ShardSpec) {
        self.pool(pool).0.apply(spec);
    }

    fn execute(&mut self, pool: &str, batch: &Batch) -> Reply {
        let (kernel, rows) = self.pool(pool);
        let reply = kernel.execute(batch.clock, batch).expect("the calendar covers the clock");
        // As whoever stores what changed does after every batch.
        for (row, used) in std::mem::take(&mut kernel.changes).usage {
            *rows.entry(row).or_default() += used;
        }
        reply
    }

    fn accounts(&mut self, pool: &str, _: i64, ids: &[String]) -> Vec<Option<Account>> {
        let (kernel, _) = self.pool(pool);
        ids.iter().map(|id| kernel.account(id).cloned()).collect()
    }

    fn usage(&mut self, pool: &str, _: &[i64]) -> Rows {
        self.pool(pool).1.clone()
    }
}

/// The rules in Lua, on a server of its own.
pub(crate) struct OnRedis {
    ledger: RedisLedger,
    runtime: tokio::runtime::Runtime,
    _server: RedisServer,
}

impl OnRedis {
    pub(crate) fn start(scripts: Scripts) -> Self {
        let server = RedisServer::start().expect("redis-server is installed by make setup");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ledger = RedisLedger::new(&server.url(), Duration::from_secs(20)).expect("the URL is whole");
        Self {
            ledger: ledger.with_scripts(scripts),
            runtime: runtime.expect("there are threads"),
            _server: server,
        }
    }
}

impl Ledgers for OnRedis {
    fn open(&mut self, pool: &str, digest: &str) -> Opened {
        self.runtime.block_on(Ledger::open(&self.ledger, pool, digest)).expect("Redis answers")
    }

    fn apply(&mut self, pool: &str, ledger_id: &str, spec: &ShardSpec) {
        self.runtime.block_on(Ledger::apply(&self.ledger, pool, ledger_id, spec)).expect("Redis answers");
    }

    fn execute(&mut self, pool: &str, batch: &Batch) -> Reply {
        self.runtime.block_on(Ledger::execute(&self.ledger, pool, batch)).expect("Redis answers")
    }

    fn accounts(&mut self, pool: &str, clock: i64, ids: &[String]) -> Vec<Option<Account>> {
        self.runtime.block_on(self.ledger.inspect_at(pool, clock, ids)).expect("Redis answers").accounts
    }

    fn usage(&mut self, pool: &str, day_ends: &[i64]) -> Rows {
        let rows = self.runtime.block_on(Ledger::usage(&self.ledger, pool, day_ends));
        let rows = rows.expect("Redis answers").into_iter();
        rows.map(|row| ((row.day_end, row.name), row.used)).collect::<BTreeMap<_, _>>()
    }
}

/// Both; every answer of one must be the other's.
pub(crate) struct Both {
    kernels: Kernels,
    redis: OnRedis,
    /// How many batches they agreed on.
    pub(crate) agreed: usize,
}

impl Both {
    pub(crate) fn start(scripts: Scripts) -> Self {
        Self { kernels: Kernels::default(), redis: OnRedis::start(scripts), agreed: 0 }
    }
}

impl Ledgers for Both {
    fn open(&mut self, pool: &str, digest: &str) -> Opened {
        self.kernels.open(pool, digest);
        self.redis.open(pool, digest)
    }

    fn apply(&mut self, pool: &str, ledger_id: &str, spec: &ShardSpec) {
        self.kernels.apply(pool, ledger_id, spec);
        self.redis.apply(pool, ledger_id, spec);
    }

    fn execute(&mut self, pool: &str, batch: &Batch) -> Reply {
        let specified = self.kernels.execute(pool, batch);
        let observed = self.redis.execute(pool, batch);
        assert_eq!(specified, observed, "Rust and Lua differ in batch {} on {batch:#?}", self.agreed);
        self.agreed += 1;
        specified
    }

    fn accounts(&mut self, pool: &str, clock: i64, ids: &[String]) -> Vec<Option<Account>> {
        let live = |accounts: Vec<Option<Account>>| -> Vec<_> {
            let live = |account: Account| {
                (!account.is_empty(clock)).then(|| without_ended_block(account.live(clock), clock))
            };
            accounts.into_iter().map(|account| account.and_then(live)).collect()
        };
        let specified = live(self.kernels.accounts(pool, clock, ids));
        let observed = live(self.redis.accounts(pool, clock, ids));
        for (id, (specified, observed)) in ids.iter().zip(specified.iter().zip(&observed)) {
            assert_eq!(specified, observed, "account {id} of {pool}");
        }
        specified
    }

    fn usage(&mut self, pool: &str, day_ends: &[i64]) -> Rows {
        let specified = self.kernels.usage(pool, day_ends);
        let observed = self.redis.usage(pool, day_ends);
        assert_eq!(specified, observed, "usage of {pool}");
        specified
    }
}

/// The words of a block that has ended say nothing any more, and may be kept or not.
fn without_ended_block(mut account: Account, now: i64) -> Account {
    if account.streak == 0 && !account.probing && account.blocked_until <= now {
        account.blocked_until = 0;
        account.reason.clear();
    }
    account
}
