//! Every key that keybroker stores in Redis, and how long it lives.
//!
//! All keys of a pool share the hash tag `{pool}`, so that they lie in one slot of a cluster.
//!
//! | key | kind | holds | lifetime |
//! |---|---|---|---|
//! | `kb:{P}:meta` | hash | identity, clock, generation, one field a shard | permanent |
//! | `kb:{P}:accounts` | hash | a row for each account that has limits or a block, and the older entries of full windows | permanent |
//! | `kb:{P}:leases` | hash | a row for each lease | rows go by `forget` |
//! | `kb:{P}:forget` | sorted set | leases by the instant they are forgotten | rows go by themselves |
//! | `kb:{P}:idle` | sorted set | passing accounts by when all they count has ended | rows go by themselves |
//! | `kb:{P}:brokers` | sorted set | brokers by their last beat | rows go after [`BROKER_LIFETIME`] |
//! | `kb:{P}:recovery` | hash | how far brokers have come in agreeing that leases may be granted again | until they have, at most [`RECOVERY_LIFETIME`] |
//! | `kb:{P}:usage:D` | hash | what was used on the day that ends at D, by name | [`crate::ledger::USAGE_LIFETIME`] |
//! | `kb:{P}:candidates:S` | hash | a row for each candidate of shard S | [`SHARD_LIFETIME`] |
//! | `kb:{P}:ready:S` | sorted set | ready candidates by rank | [`SHARD_LIFETIME`] |
//! | `kb:{P}:parked:S` | sorted set | parked candidates by instant | [`SHARD_LIFETIME`] |

use crate::ledger::Millis;

/// How long a shard lives after a broker last applied it, or an order after a candidate last came into
/// it, in milliseconds. Brokers apply their
/// shards anew every day.
pub const SHARD_LIFETIME: i64 = 35 * 24 * 3600 * 1000;

/// How long a broker is remembered that is silent, in milliseconds.
pub const BROKER_LIFETIME: i64 = 48 * 3600 * 1000;

/// How long the state of a recovery lives after a broker last took part in it, in milliseconds.
pub const RECOVERY_LIFETIME: i64 = 24 * 3600 * 1000;

/// How many keys of a pool stand before those of its shards.
pub const POOL_KEYS: usize = 5;

/// The keys of a pool and of the shards named, in the order in which the scripts expect them.
pub fn keys<'a>(pool: &str, shards: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut keys: Vec<String> = ["meta", "accounts", "leases", "forget", "idle"]
        .iter()
        .map(|part| format!("kb:{{{pool}}}:{part}"))
        .collect();
    for shard in shards {
        keys.extend(
            ["candidates", "ready", "parked"].iter().map(|part| format!("kb:{{{pool}}}:{part}:{shard}")),
        );
    }
    keys
}

/// Identity, brokers and recovery of a pool, in the order in which the scripts expect them.
pub fn recovery_keys(pool: &str) -> Vec<String> {
    ["meta", "brokers", "recovery"].iter().map(|part| format!("kb:{{{pool}}}:{part}")).collect()
}

/// The key of what was used on the day that ends then.
pub fn usage(pool: &str, day_end: Millis) -> String {
    format!("kb:{{{pool}}}:usage:{day_end}")
}
