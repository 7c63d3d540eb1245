//! Black-box proof of keybroker: a fake Gemini that judges, and a harness of real processes.

pub mod harness;
