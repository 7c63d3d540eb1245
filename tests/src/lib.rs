//! Black-box proof of keybroker: what stands in for Google, and a harness of real processes.

pub mod answers;
pub mod bench;
pub mod chaos;
pub mod contract;
pub mod harness;
pub mod overload;
pub mod sim;
pub mod upgrade;

pub use keybroker_fake_gemini as fake_gemini;
