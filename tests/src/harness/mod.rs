//! Starts real parts for a test: each test has servers, ports and folders of its own.

pub mod api;
pub mod broker;
pub mod certificates;
pub mod collector;
pub mod guard;
pub mod leak;
pub mod one_key;
pub mod process;
pub mod redis;
pub mod refused;
pub mod rig;
