//! What a worker reported about one request.

use std::time::Duration;

/// What came of a request, already converted from the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Gemini answered 2xx, and the answer holds no error.
    Success,
    /// Gemini, or something between, answered with an error.
    HttpError {
        /// The HTTP status. A 2xx status means that the error stood inside a stream.
        status: u16,
        /// The body as it came: any bytes, perhaps cut. Only its first [`MAX_BODY`](super::MAX_BODY)
        /// bytes are read.
        body: &'a [u8],
        /// The `Retry-After` header, if there was one. Google sends none; a proxy may.
        retry_after: Option<Duration>,
    },
    /// No complete answer came.
    Transport(TransportKind),
    /// The request was never sent.
    NotSent,
}

/// How a request failed without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// The connection could not be made, so nothing was sent.
    Connect,
    /// No answer came in time; Google may have served and counted the request.
    Timeout,
    /// The connection broke before the answer was complete.
    Reset,
    /// The caller gave up while the request was on its way.
    Cancelled,
}
