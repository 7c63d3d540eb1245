//! What sends requests: an HTTP client, or a chain of middleware around one.

use futures_util::future::BoxFuture;
use reqwest::{Client, Request, Response};

use super::{
    exchange::{describe, transport_kind},
    underway::Break,
};

/// Sends one request after another.
pub(crate) trait Sender: Send {
    /// Sends one, and answers with its head.
    fn send(&mut self, request: Request) -> BoxFuture<'_, Result<Response, Break>>;
}

impl Sender for Client {
    fn send(&mut self, request: Request) -> BoxFuture<'_, Result<Response, Break>> {
        let answer = self.execute(request);
        Box::pin(async move { answer.await.map_err(broken) })
    }
}

pub(crate) fn broken(error: reqwest::Error) -> Break {
    Break { kind: transport_kind(&error), message: describe(error) }
}
