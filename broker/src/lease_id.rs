//! Lease ids: opaque to workers, and enough for any broker to find the lease.
//!
//! `pool:shard:unique`, where the shard is `digest/quota model`. A pool's name and the unique part
//! hold no colon, so the id is read from both ends.

use std::sync::atomic::{AtomicU64, Ordering};

/// The longest id that is read, in bytes.
pub const LONGEST: usize = 512;

/// A lease id taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseId<'a> {
    /// The pool.
    pub pool: &'a str,
    /// The ledger's shard.
    pub shard: &'a str,
    /// What the ledger calls the lease.
    pub unique: &'a str,
}

impl<'a> LeaseId<'a> {
    /// Reads an id; none if it is not one.
    pub fn parse(id: &'a str) -> Option<Self> {
        if id.len() > LONGEST || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let (pool, rest) = id.split_once(':')?;
        let (shard, unique) = rest.rsplit_once(':')?;
        let digest = shard.split_once('/')?.0;
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        (!pool.is_empty() && plain(digest) && plain(unique)).then_some(Self { pool, shard, unique })
    }

    /// The quota model that the lease is for.
    pub fn quota_model(&self) -> &'a str {
        let model = self.shard.split_once('/').map_or("", |(_, model)| model);
        model.split_once('#').map_or(model, |(model, _)| model)
    }
}

impl std::fmt::Display for LeaseId<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.pool, self.shard, self.unique)
    }
}

/// Makes the unique parts: random for the process, counted within it.
#[derive(Debug)]
pub struct LeaseNames {
    prefix: u64,
    next: AtomicU64,
}

impl LeaseNames {
    /// Names that no other process makes.
    pub fn new() -> Self {
        Self { prefix: rand::random(), next: AtomicU64::new(0) }
    }

    /// The next name.
    pub fn next(&self) -> String {
        format!("{:016x}-{:x}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for LeaseNames {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_also_with_colons_in_the_model() {
        let id = LeaseId { pool: "default", shard: "0f3a/tuned:flash/7#paid", unique: "00ff-1a" };
        assert_eq!(LeaseId::parse(&id.to_string()), Some(id));
        assert_eq!(id.quota_model(), "tuned:flash/7");
    }

    #[test]
    fn what_is_no_id_is_not_read() {
        for text in
            ["", "lease", "a:b", "a:b:c", ":x/m:1", "p:x/m:", "p:x/m:1 2", "p:x\u{e9}/m:1", &"a".repeat(600)]
        {
            assert_eq!(LeaseId::parse(text), None, "{text}");
        }
    }
}
