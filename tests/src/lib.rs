//! Black-box proof of keybroker: what stands in for Google, and what drives the fleet.

pub mod fake_gemini;
