//! The fake Gemini as its callers see it, over HTTP. Each test starts a fake of its own on a free port.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests themselves do")]

mod api;
mod control;
mod errors;
mod faults;
mod program;
mod quotas;
mod support;
