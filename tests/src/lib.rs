//! Black-box proof of keybroker: what stands in for Google, and a harness of real processes.

pub mod answers;
pub mod bench;
pub mod chaos;
pub mod contract;
pub mod demo;
pub mod fake_gemini;
pub mod harness;
pub mod overload;
pub mod sim;
