//! keybroker leases Gemini API keys to a fleet of workers that share one quota exactly.

pub mod catalogue;
pub mod config;
pub mod gemini;
pub mod ledger;
pub mod secret;
