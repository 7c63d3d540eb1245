//! Every key that the registry stores in Redis, and how long it lives.
//!
//! All keys share the hash tag `{registry}`, so that they lie in one slot of a cluster. No key of a
//! pool's ledger begins like them: those begin with `kb:{`.
//!
//! | key | kind | holds | lifetime |
//! |---|---|---|---|
//! | `kb:registry:{registry}:meta` | hash | identity and version | permanent |
//! | `kb:registry:{registry}:entries` | hash | a row for each entry | rows until they are removed |
//! | `kb:registry:{registry}:audit` | stream | a record of each change | [`KEEP_RECORDS`], at most [`MOST_RECORDS`] |
//! | `kb:registry:{registry}:claim:NAME` | string | that a claim is taken | the claim's span |
//!
//! [`KEEP_RECORDS`]: crate::registry::KEEP_RECORDS
//! [`MOST_RECORDS`]: crate::registry::MOST_RECORDS

/// Identity and version.
pub const META: &str = "kb:registry:{registry}:meta";
/// A row for each entry.
pub const ENTRIES: &str = "kb:registry:{registry}:entries";
/// A record of each change.
pub const AUDIT: &str = "kb:registry:{registry}:audit";

/// The key of a claim.
pub fn claim(name: &str) -> String {
    format!("kb:registry:{{registry}}:claim:{name}")
}
