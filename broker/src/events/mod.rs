//! Events: what happened to keys, quotas and the ledger, for people and their programs.
//!
//! [`Events`] carries them within one broker. To emit one takes no time and never fails, so that no
//! lease ever waits for whoever listens.

mod bus;
mod event;
mod payload;
mod redacted;

pub use crate::catalogue::EventKind;
pub use bus::{Events, KEPT, Subscriber};
pub(crate) use event::instant;
pub use event::{Event, Numbers, Subject};
pub use redacted::{Redacted, Redactor};
