//! Every call has an id, and is part of a trace where somebody records one.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tonic::{Code, body::Body};
use tower::Service;

use crate::calls::{self, Call, RequestId};

/// Identifies the calls of a service.
#[derive(Debug, Clone)]
pub(super) struct IdentifyLayer;

impl<S> tower::Layer<S> for IdentifyLayer {
    type Service = Identify<S>;

    fn layer(&self, inner: S) -> Identify<S> {
        Identify { inner }
    }
}

/// A service whose calls are identified.
#[derive(Debug, Clone)]
pub(super) struct Identify<S> {
    inner: S,
}

impl<S> Service<http::Request<Body>> for Identify<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Unpin,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Identified<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = Call::of_grpc(request.headers(), request.uri().path());
        let answer = calls::at_once(&call, || self.inner.call(request));
        Identified { call, answer, answered: false }
    }
}

/// A call under way.
pub(super) struct Identified<F> {
    call: Arc<Call>,
    answer: F,
    answered: bool,
}

impl<F, E> Future for Identified<F>
where
    F: Future<Output = Result<http::Response<Body>, E>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let answer = calls::at_once(&this.call, || Pin::new(&mut this.answer).poll(context));
        let mut answer = ready!(answer);
        this.answered = true;
        this.call.ended(answer.as_ref().map_or(Code::Internal, code_of));
        if let (Ok(answer), Some(id)) = (&mut answer, this.call.id()) {
            answer.headers_mut().insert(RequestId::HEADER, id.header());
        }
        Poll::Ready(answer)
    }
}

impl<F> Drop for Identified<F> {
    fn drop(&mut self) {
        if !self.answered {
            self.call.ended(Code::Cancelled);
        }
    }
}

/// The status of an answer. One that has a message says it later, once that was read; it is no failure by then.
fn code_of(answer: &http::Response<Body>) -> Code {
    answer.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}
