//! keybroker leases Gemini API keys to a fleet of workers that share one quota exactly.

pub mod access;
pub mod broker;
pub mod catalogue;
pub mod claims;
pub mod cli;
pub mod config;
mod connection;
pub mod events;
pub mod fleet;
pub mod gemini;
pub mod grpc;
pub mod hooks;
pub mod http;
pub mod lease_id;
pub mod ledger;
pub mod metrics;
pub mod operate;
pub mod pool;
pub mod prober;
pub mod redis_servers;
pub mod registry;
pub mod reload;
pub mod secret;
pub mod serve;
pub mod server;
pub mod usage;
pub mod worker;
