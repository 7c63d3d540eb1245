//! The fake Gemini as its callers see it, over HTTP. Each test starts a fake of its own on a free port.

mod api;
mod control;
mod errors;
mod faults;
mod quotas;
mod support;
