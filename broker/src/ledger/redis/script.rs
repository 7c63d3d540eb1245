//! The Lua scripts, put together from their files with the constants of the Rust kernel before
//! them, so that no number is written twice.

use std::sync::LazyLock;

use crate::ledger::{kernel, shard, types, window};

/// Runs a batch.
pub static BATCH: LazyLock<Script> = LazyLock::new(|| {
    script(&[
        include_str!("lua/prelude.lua"),
        include_str!("lua/window.lua"),
        include_str!("lua/account.lua"),
        include_str!("lua/shard.lua"),
        include_str!("lua/lease.lua"),
        include_str!("lua/acquire.lua"),
        include_str!("lua/settle.lua"),
        include_str!("lua/batch.lua"),
    ])
});
/// Writes limits and candidates.
pub static APPLY: LazyLock<Script> = LazyLock::new(|| script(&[include_str!("lua/apply.lua")]));
/// Opens a pool's ledger.
pub static OPEN: LazyLock<Script> = LazyLock::new(|| script(&[include_str!("lua/open.lua")]));
/// Reads accounts.
pub static INSPECT: LazyLock<Script> = LazyLock::new(|| script(&[include_str!("lua/inspect.lua")]));

/// A script and the hash that Redis knows it by.
pub struct Script {
    /// The text.
    pub code: String,
    /// Its SHA-1, in hex.
    pub hash: String,
}

fn script(parts: &[&str]) -> Script {
    let constants = [
        ("FOREVER", types::FOREVER),
        ("SUB_BUCKETS", window::SUB_BUCKETS),
        ("CLASS_SPAN", shard::CLASS_SPAN),
        ("MAX_TRIES", kernel::MAX_TRIES as i64),
        ("REMEMBER_EXPIRED", kernel::REMEMBER_EXPIRED),
        ("REMEMBER_SETTLED", kernel::REMEMBER_SETTLED),
        ("FORGET_AT_ONCE", kernel::FORGET_AT_ONCE as i64),
    ];
    let mut code: String = constants.iter().map(|(name, value)| format!("local {name} = {value}\n")).collect();
    for part in parts {
        code.push_str(part);
        code.push('\n');
    }
    let hash = redis::Script::new(&code).get_hash().to_owned();
    Script { code, hash }
}
