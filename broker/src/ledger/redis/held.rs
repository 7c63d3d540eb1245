//! Counts the leases of a key that are still held.

use std::collections::HashSet;

use serde_json::Value;

use super::{Shared, decode, keyspace};
use crate::ledger::{LedgerError, Millis};

/// Of a lease's row, the candidate and when it expires; nothing if it is settled. The row is the one
/// of `lua/lease.lua`, and this is the only place outside of the scripts that reads it.
fn held_until(row: &[u8]) -> Result<Option<(String, Millis)>, LedgerError> {
    let row: Vec<Value> = decode(row)?;
    if row.first().and_then(Value::as_i64) != Some(0) {
        return Ok(None);
    }
    let candidate = row.get(1).and_then(Value::as_str);
    let expires_at = row.get(4).and_then(Value::as_i64);
    Ok(candidate.zip(expires_at).map(|(candidate, expires_at)| (candidate.to_owned(), expires_at)))
}

impl Shared {
    pub(super) async fn held(&self, pool: &str, key_id: &str) -> Result<usize, LedgerError> {
        let keys = keyspace::keys(pool, []);
        let (meta, leases) = (&keys[0], &keys[2]);
        let seen: Option<Millis> = self
            .call(meta, |mut line| async move {
                redis::cmd("HGET").arg(meta).arg("now").query_async(&mut line.connection).await
            })
            .await?;
        let (seconds, micros): (Millis, Millis) = self
            .call(meta, |mut line| async move { redis::cmd("TIME").query_async(&mut line.connection).await })
            .await?;
        let now = (seconds * 1000 + micros / 1000).max(seen.unwrap_or(0));
        // A scan may meet a lease twice while the hash grows.
        let mut held = HashSet::new();
        self.scan(leases, |lease, row| {
            if held_until(&row)?.is_some_and(|(candidate, until)| candidate == key_id && until > now) {
                held.insert(lease);
            }
            Ok(())
        })
        .await?;
        Ok(held.len())
    }
}
