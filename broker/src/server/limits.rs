//! What a broker takes in at most. Each of these bounds memory; `ARCHITECTURE.md` has the table of them.

use std::time::Duration;

/// The largest request that is read: a report may carry long bodies, of which only a part is kept.
pub(crate) const LARGEST_REQUEST: usize = 8 * 1024 * 1024;
/// The bytes of requests that are being read, of all connections together.
pub(super) const MOST_BYTES_BEING_READ: usize = 256 * 1024 * 1024;
/// How long a request may take to arrive, from its headers to its last byte.
pub(super) const REQUEST_WITHIN: Duration = Duration::from_secs(20);
/// The calls under way, of all connections together; beyond, all but reports are turned away.
pub(super) const MOST_CALLS: usize = 50_000;
/// The same for reports.
pub(super) const MOST_CALLS_WITH_REPORTS: usize = 60_000;
/// The calls under way of one connection. Waiting calls count, and reports must still get through beside them.
pub(super) const MOST_STREAMS: u32 = 4_096;
/// The headers of a request, in bytes.
pub(super) const LARGEST_HEADERS: u32 = 16 * 1024;
/// How much a connection may send ahead of what was read: for one request, and for all of them together.
pub(super) const WINDOWS: (u32, u32) = (256 * 1024, 2 * 1024 * 1024);
// HTTP/2's library holds small requests that were not read yet for a flood, and ends the connection with all of its
// calls, once there are more than one for 512 bytes of the window.
const _: () = assert!(WINDOWS.1 / 512 >= MOST_STREAMS);
/// How often a connection is asked whether its peer is there.
pub(super) const PING_EVERY: Duration = Duration::from_secs(30);
/// How long the peer may take to say so.
pub(super) const PING_WITHIN: Duration = Duration::from_secs(20);
/// How long a new connection may take to say the first words of its protocol.
pub(super) const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long a peer may take none of what it is sent.
pub(super) const TAKE_WITHIN: Duration = Duration::from_secs(20);
/// How long calls under way may go on once their connection has reached its age: a call waits ten minutes at most.
pub(super) const AGE_GRACE: Duration = Duration::from_secs(630);
/// Connections for HTTP, which serve probes.
pub(super) const MOST_HTTP_CONNECTIONS: usize = 1_024;
/// How old a connection for HTTP may become.
pub(super) const HTTP_AGE: Duration = Duration::from_secs(300);

/// What an operator may want otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many connections for gRPC are open at a time; a further one is closed at once.
    pub max_connections: usize,
    /// After how long a client is asked to connect anew, so that clients spread over the brokers of a fleet.
    pub max_connection_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: 20_000, max_connection_age: Duration::from_secs(1800) }
    }
}
