//! The gRPC edge: extract, check, call, convert. Wire types stop here.

mod admin;
mod check;
mod convert;
pub(crate) mod deadline;
mod key_broker;
mod status;

pub use admin::AdminService;
pub use key_broker::KeyBrokerService;
pub(crate) use status::overloaded;
