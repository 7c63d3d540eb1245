//! Counts the leases of a key that are still held.

use std::collections::HashSet;

use serde_json::Value;

use super::{Shared, decode, keyspace};
use crate::ledger::{LedgerError, Millis};

/// What counts of a lease that is not settled.
struct Held {
    candidate: String,
    granted_at: Millis,
    expires_at: Millis,
}

/// What a lease's row says; nothing if it is settled. The row is the one of `lua/lease.lua`, and this is the only place
/// outside of the scripts that reads it.
fn held(row: &[u8]) -> Result<Option<Held>, LedgerError> {
    let row: Vec<Value> = decode(row)?;
    if row.first().and_then(Value::as_i64) != Some(0) {
        return Ok(None);
    }
    let candidate = row.get(1).and_then(Value::as_str);
    let [granted_at, expires_at] = [2, 4].map(|place| row.get(place).and_then(Value::as_i64));
    Ok(candidate.zip(granted_at).zip(expires_at).map(|((candidate, granted_at), expires_at)| Held {
        candidate: candidate.to_owned(),
        granted_at,
        expires_at,
    }))
}

impl Shared {
    pub(super) async fn held(
        &self,
        pool: &str,
        key_id: &str,
        granted_before: Millis,
    ) -> Result<usize, LedgerError> {
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
        let mut found = HashSet::new();
        self.scan(leases, |lease, row| {
            let counts = |held: Held| {
                held.candidate == key_id && held.granted_at < granted_before && held.expires_at > now
            };
            if held(&row)?.is_some_and(counts) {
                found.insert(lease);
            }
            Ok(())
        })
        .await?;
        Ok(found.len())
    }
}
