//! The broker that leases Gemini API keys to a fleet.

pub mod gemini;
