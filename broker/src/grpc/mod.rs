//! The gRPC edge: extract, check, call, convert. Wire types stop here.

mod admin;
mod check;
mod convert;
pub(crate) mod deadline;
mod key_broker;
mod status;

use std::sync::Arc;

use tonic::{Request, Status};

use crate::{access::Caller, broker::Broker, pool::Pool};

pub use admin::AdminService;
pub use key_broker::KeyBrokerService;
pub(crate) use status::{bad_request, denied, overloaded};

/// The metadata in which lists of pools tell the broker's version.
pub(crate) const VERSION_HEADER: &str = "x-keybroker-version";

/// Who makes a call: the server put that there. Nobody it does not know gets this far.
fn caller_of<T>(request: &Request<T>) -> Caller {
    request.extensions().get::<Caller>().cloned().unwrap_or_else(Caller::nobody)
}

/// The pool of that name. Where there is none, a caller is told of its own.
fn pool_of(broker: &Broker, name: &str, caller: &Caller) -> Result<Arc<Pool>, Status> {
    broker.pool(name).ok_or_else(|| status::unknown_pool(name, &caller.own_pools(broker.pool_names())))
}
