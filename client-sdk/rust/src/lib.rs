//! The Rust SDK of keybroker: scoped leases of Gemini API keys, and a thin Gemini client over them.
//!
//! One line, with keys leased, reported and failed over behind it:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use keybroker_client::{Broker, Gemini};
//!
//! let broker = Broker::connect("http://127.0.0.1:50051")?;
//! let gemini = Gemini::new(&broker)?;
//! println!("{}", gemini.ask("gemini-2.5-flash", "Why is the sky blue?").await?);
//! broker.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | you have | take |
//! |---|---|
//! | a question to Gemini | [`Gemini`], or `blocking::Gemini` without an async runtime |
//! | a request of reqwest's | [`Gemini::execute`], or `gemini::LeaseMiddleware` |
//! | an HTTP client of your own | a [`Lease`] from [`Broker::acquire`]: send, report |
//! | TLS, a token, several brokers | [`Broker::builder`] |
//!
//! A lease always reports. One that is dropped (an early return by `?`, a panic, a cancelled
//! future) reports in the background: as never sent before [`Lease::begin_send`], as cancelled
//! after it. [`Broker::close`] at the end of a program waits until those reports are delivered.
//!
//! What an answer of Google means is decided by the broker alone: this crate reports the status,
//! the body and the usage, and obeys the [`Advice`].
//!
//! Features, none of which is on by default: `blocking` for the module of that name, `cache` for
//! `ResponseCache`, `middleware` for `LeaseMiddleware`, and `otel`, which passes the OpenTelemetry
//! context on to the broker.

mod acquire;
mod address;
mod advice;
mod backoff;
#[cfg(feature = "blocking")]
pub mod blocking;
mod broker;
mod builder;
mod error;
pub mod gemini;
mod lease;
mod outcome;
mod redact;
mod renew;
mod reporter;
mod rpc;
mod status;
mod tls;
mod trace;
mod wire;

pub use acquire::AcquireOptions;
pub use advice::{Action, Advice};
pub use broker::{Broker, Settled};
pub use builder::BrokerBuilder;
pub use error::{Error, FieldViolation, QuotaViolation, Refusal};
pub use gemini::{Gemini, GeminiBuilder, GeminiError};
pub use keybroker_proto::v1::{ErrorReason, SettleState, Signal, Tier};
pub use lease::{Lease, SendWindowPassed, Settlement};
pub use outcome::{Outcome, TransportKind, Usage};
pub use renew::AutoRenew;
/// To read the key that [`Lease::begin_send`] hands out.
pub use secrecy::{ExposeSecret, SecretString};
pub use tls::Tls;

/// What the README shows is compiled.
#[cfg(all(doctest, feature = "blocking", feature = "cache", feature = "middleware"))]
#[doc = include_str!("../README.md")]
struct Readme;
