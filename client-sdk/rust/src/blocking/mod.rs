//! The client for programs without an async runtime: the same leases and the same Gemini client, whose calls wait.
//!
//! A [`Broker`] has a runtime of its own, with one thread, in which reports are delivered while the program does
//! something else. The last of what was made from it (clones, leases, Gemini clients) waits when it is dropped until
//! all is reported, for as long as [`BrokerBuilder::flush_timeout`](crate::BrokerBuilder::flush_timeout) says;
//! [`Broker::close`] does so with an answer. A program that leaves by `std::process::exit` drops nothing, and must
//! close first.
//!
//! Within an async runtime such calls would stall it. They are refused there with
//! [`Error::WithinRuntime`](crate::Error::WithinRuntime), in the threads of `spawn_blocking` too.
//!
//! ```no_run
//! use keybroker_client::blocking::{Broker, Gemini};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let broker = Broker::connect("127.0.0.1:50051")?;
//!     let gemini = Gemini::new(&broker)?;
//!     println!("{}", gemini.ask("gemini-2.5-flash", "Why is the sky blue?")?);
//!     broker.close()?;
//!     Ok(())
//! }
//! ```

mod broker;
mod gemini;
mod lease;
mod runtime;

pub use broker::Broker;
pub use gemini::{Gemini, GenerateContentStream};
pub use lease::Lease;
