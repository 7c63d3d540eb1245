//! Who makes a call, and whether such a caller may make it: asked before anything of the call is read.

use std::{
    future::{Ready, ready},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::Either;
use http::{HeaderMap, header::AUTHORIZATION};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower::Service;

use super::peer::Peer;
use crate::{
    access::{Access, Caller, Denied, Needs, Role, Rules, needs_of},
    grpc::denied,
};

/// The call that may wait for minutes and then hands out a secret: who makes it is looked at once more at its end.
const ACQUIRE: &str = "/keybroker.v1.KeyBroker/Acquire";

/// Such a call.
type Waiting<A, E> = Pin<Box<dyn Future<Output = Result<A, E>> + Send>>;

/// How often it is logged at most that callers are not known.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Puts authentication in front of a service.
#[derive(Clone)]
pub(super) struct AuthenticateLayer {
    access: Access,
    failures: Arc<Failures>,
}

impl AuthenticateLayer {
    pub(super) fn new(access: Access) -> Self {
        Self { access, failures: Arc::default() }
    }
}

impl<S> tower::Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Authenticate<S> {
        Authenticate { inner, of: self.clone() }
    }
}

/// A service that only callers reach who may make the call.
#[derive(Clone)]
pub(super) struct Authenticate<S> {
    inner: S,
    of: AuthenticateLayer,
}

impl<S> Service<http::Request<Body>> for Authenticate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future =
        Either<Either<S::Future, Waiting<S::Response, S::Error>>, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match self.of.admit(&request) {
            Ok(caller) if request.uri().path() == ACQUIRE && caller != Caller::anyone() => {
                let credentials = Credentials::of(&request);
                let rules = self.of.access.rules();
                request.extensions_mut().insert(caller.clone());
                let (of, call) = (self.of.clone(), self.inner.call(request));
                let waiting = async move {
                    let answer = call.await?;
                    Ok(match of.still_admits(&rules, &credentials, &caller) {
                        Ok(()) => answer,
                        Err(status) => status.into_http(),
                    })
                };
                Either::Left(Either::Right(Box::pin(waiting)))
            }
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(Either::Left(self.inner.call(request)))
            }
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

/// By what a caller said who it is.
struct Credentials {
    headers: HeaderMap,
    peer: Option<Peer>,
}

impl Credentials {
    fn of(request: &http::Request<Body>) -> Self {
        let header = request.headers().get(AUTHORIZATION).cloned();
        let headers = header.map(|header| (AUTHORIZATION, header)).into_iter().collect();
        Self { headers, peer: request.extensions().get::<Peer>().cloned() }
    }
}

impl AuthenticateLayer {
    /// Passes if whoever waited for a lease may still have it. One that was refused here expires by itself.
    fn still_admits(
        &self,
        rules: &Arc<Rules>,
        credentials: &Credentials,
        caller: &Caller,
    ) -> Result<(), Status> {
        let now = self.access.rules();
        if Arc::ptr_eq(rules, &now) {
            return Ok(());
        }
        let certificates = credentials.peer.as_ref().and_then(|peer| peer.certificates.as_deref());
        let known = now.authenticate(&credentials.headers, certificates).map_err(|why| denied(&why))?;
        if known == *caller {
            return Ok(());
        }
        known.must_have(Role::Worker).map_err(|why| denied(&why))?;
        Err(Status::unavailable("what this identity may do was changed while the call waited; make it again"))
    }

    fn admit(&self, request: &http::Request<Body>) -> Result<Caller, Status> {
        let path = request.uri().path();
        let Some(needs) = needs_of(path) else {
            return Err(Status::unimplemented("no such call is served here"));
        };
        if needs == Needs::Nothing {
            return Ok(Caller::nobody());
        }
        let peer = request.extensions().get::<Peer>();
        let certificates = peer.and_then(|peer| peer.certificates.as_deref());
        let caller = self.access.rules().authenticate(request.headers(), certificates).inspect_err(|why| {
            self.failures.count(path, peer, why);
        });
        let caller = caller.map_err(|why| denied(&why))?;
        if let Needs::Role(role) = needs {
            caller.must_have(role).map_err(|why| denied(&why))?;
        }
        Ok(caller)
    }
}

/// Calls of callers who are not known. They may come thousands of times a second.
#[derive(Default)]
struct Failures {
    count: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Failures {
    fn count(&self, path: &str, peer: Option<&Peer>, why: &Denied) {
        self.count.fetch_add(1, Relaxed);
        let mut told = self.told.lock().expect("no holder of this lock panics");
        if told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        *told = Some(Instant::now());
        let count = self.count.swap(0, Relaxed);
        let peer = peer.and_then(|peer| peer.address).map(|address| address.to_string()).unwrap_or_default();
        tracing::warn!(peer, call = path, %why, count, "calls are not served: it is not known who makes them");
    }
}
