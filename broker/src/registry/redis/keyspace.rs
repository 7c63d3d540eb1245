//! Every key that the registry stores in Redis, and how long it lives.
//!
//! All keys share the hash tag `{registry}`, so that they lie in one slot of a cluster. No key of a
//! pool's ledger begins like them: those begin with `kb:{`.
//!
//! | key | kind | holds | lifetime |
//! |---|---|---|---|
//! | `kb:registry:{registry}:claim:NAME` | string | that a claim is taken | the claim's span |

/// The key of a claim.
pub(super) fn claim(name: &str) -> String {
    format!("kb:registry:{{registry}}:claim:{name}")
}
