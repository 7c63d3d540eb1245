//! The Lua scripts, put together from their files with the constants of the Rust kernel before
//! them, so that no number is written twice.

use std::sync::LazyLock;

use super::keyspace;
use crate::ledger::{account, kernel, shard, types, window};

/// How many bytes of entries a window keeps in the row of its account, of 16 bytes each; when it has
/// more, all but the recent ones go to a field of their own.
const ENTRIES_TOGETHER: i64 = 12 * 16;
/// How many bytes of them are recent: what leases that end soon are counted in.
const ENTRIES_RECENT: i64 = 4 * 16;

/// The text of the script that runs a batch.
pub fn batch_script() -> String {
    text(&[
        include_str!("lua/prelude.lua"),
        include_str!("lua/clock.lua"),
        include_str!("lua/entries.lua"),
        include_str!("lua/window.lua"),
        include_str!("lua/account.lua"),
        include_str!("lua/shard.lua"),
        include_str!("lua/lease.lua"),
        include_str!("lua/acquire.lua"),
        include_str!("lua/settle.lua"),
        include_str!("lua/batch.lua"),
    ])
}
/// Writes limits and candidates.
pub(super) static APPLY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(text(&[
        include_str!("lua/prelude.lua"),
        include_str!("lua/no_clock.lua"),
        include_str!("lua/entries.lua"),
        include_str!("lua/window.lua"),
        include_str!("lua/account.lua"),
        include_str!("lua/apply.lua"),
    ]))
});
/// Opens a pool's ledger.
pub(super) static OPEN: LazyLock<Script> =
    LazyLock::new(|| Script::new(text(&[include_str!("lua/open.lua")])));
/// Reads accounts.
pub(super) static INSPECT: LazyLock<Script> =
    LazyLock::new(|| Script::new(text(&[include_str!("lua/entries.lua"), include_str!("lua/inspect.lua")])));

/// A script and the hash that Redis knows it by.
pub(super) struct Script {
    /// The text.
    pub(super) code: String,
    /// Its SHA-1, in hex.
    pub(super) hash: String,
}

impl Script {
    /// The script with that text.
    pub(super) fn new(code: String) -> Self {
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }
}

fn text(parts: &[&str]) -> String {
    let constants = [
        ("FOREVER", types::FOREVER),
        ("SUB_BUCKETS", window::SUB_BUCKETS),
        ("CLASS_SPAN", shard::CLASS_SPAN),
        ("MAX_TRIES", kernel::MAX_TRIES as i64),
        ("REMEMBER_EXPIRED", kernel::REMEMBER_EXPIRED),
        ("REMEMBER_SETTLED", kernel::REMEMBER_SETTLED),
        ("SHARD_LIFETIME", keyspace::SHARD_LIFETIME),
        ("FORGET_AT_ONCE", kernel::FORGET_AT_ONCE as i64),
        ("POOL_KEYS", keyspace::POOL_KEYS as i64),
        ("USAGE_LIFETIME", types::USAGE_LIFETIME),
        ("UNLIMITED", types::UNLIMITED),
        ("ENTRIES_TOGETHER", ENTRIES_TOGETHER),
        ("ENTRIES_RECENT", ENTRIES_RECENT),
        ("RAMP_STAGE", window::RAMP_STAGE),
        ("RAMP", window::RAMP),
        ("FULL_HEALTH", account::FULL_HEALTH),
        ("TICKS", shard::TICKS),
        ("HARD", u8::from(types::Mode::Hard).into()),
        ("SOFT", u8::from(types::Mode::Soft).into()),
        ("LEARNING", u8::from(types::Mode::Learning).into()),
        ("BY_HEALTH", u8::from(types::Order::Health).into()),
        ("LEAST_RECENT", u8::from(types::Order::LeastRecent).into()),
        ("LEAST_UTILIZED", u8::from(types::Order::LeastUtilized).into()),
    ];
    let mut code: String =
        constants.iter().map(|(name, value)| format!("local {name} = {value}\n")).collect();
    code.push_str(&format!(
        "local UNREPORTED, USAGE_MARK = '{}', '\\{}'\n",
        types::UNREPORTED,
        types::USAGE_MARK as u32
    ));
    for part in parts {
        code.push_str(part);
        code.push('\n');
    }
    code
}
