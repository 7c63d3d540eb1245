//! Proofs of the whole reading, from a body to a decision.

mod bodies;
mod properties;
mod redaction;
mod rows;
mod shapes;
mod torn;

use std::time::Duration;

use super::{Decision, Outcome, Scope, read};

/// Reads an answer that carries no header.
fn answer(status: u16, body: impl AsRef<[u8]>) -> Decision {
    read(&Outcome::HttpError { status, body: body.as_ref(), retry_after: None })
}

/// A text that ends like a key and has the length of none.
fn fake_key() -> String {
    format!("AIza{}", "Fake-0".repeat(5))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn scopes(decision: &Decision) -> Vec<Scope> {
    decision.blocks.iter().map(|block| block.scope).collect()
}
