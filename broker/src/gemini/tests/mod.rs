//! Proofs of the whole reading, from a body to a decision.

mod bodies;
mod key_rows;
mod other_rows;
mod properties;
mod quota_rows;
mod redaction;
mod shapes;
mod torn;

use std::time::Duration;

use serde_json::Value;

use super::{Action, Charge, Decision, Outcome, Reason, Scope, Signal, read};

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

/// Asserts the one block of a decision and returns its steps.
fn blocked(decision: &Decision, scope: Scope, reason: Reason, probe: bool) -> Vec<Duration> {
    assert_eq!(decision.charge, Charge::Keep);
    assert_eq!(decision.advice.action, Action::RetryOtherKey);
    assert_eq!(decision.advice.retry_after, None);
    let [block] = &decision.blocks[..] else { panic!("one block, not {:?}", decision.blocks) };
    assert_eq!((block.scope, block.reason, block.probe), (scope, reason, probe));
    block.length.steps.clone()
}

/// Asserts that nobody is penalised and the request is not to be repeated.
fn only_the_request(decision: &Decision, signal: Signal) {
    assert_eq!(decision.signal, signal);
    assert_eq!(decision.blocks, []);
    assert_eq!(decision.charge, Charge::Keep);
    assert_eq!((decision.advice.action, decision.advice.retry_after), (Action::DoNotRetry, None));
    assert!(!decision.alert);
}

fn of(status: u16, body: &Value) -> Decision {
    answer(status, body.to_string())
}
