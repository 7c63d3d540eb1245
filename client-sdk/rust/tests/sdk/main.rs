//! The SDK against a broker and an upstream that do as they are told.

mod broker;
mod failover;
mod leases;
mod renewals;
mod reports;
mod requests;
mod streams;
mod upstream;
