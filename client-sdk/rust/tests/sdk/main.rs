//! The SDK against a broker and an upstream that do as they are told.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]

mod blocking;
mod broker;
mod cache;
mod counting;
mod failover;
mod fallback_key;
mod leases;
mod middleware;
mod renewals;
mod reports;
mod requests;
mod streams;
mod tls;
mod traces;
mod upstream;
