//! What happens to a call before it is read: it is counted, and turned away if there are too many; and its
//! body has to arrive in time, within what may be read at once.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use axum::body::HttpBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};
use tower::Service;

use super::limits::{MOST_BYTES_BEING_READ, MOST_CALLS, MOST_CALLS_WITH_REPORTS, REQUEST_WITHIN};
use crate::grpc::{deadline::Arrived, overloaded};

/// The call that is turned away last: a report that is lost costs capacity until its lease expires.
const REPORT: &str = "/keybroker.v1.KeyBroker/Report";

/// What is under way.
#[derive(Debug, Default)]
struct UnderWay {
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

/// Makes the intake of a service.
#[derive(Debug, Clone, Default)]
pub(super) struct IntakeLayer(Arc<UnderWay>);

impl<S> tower::Layer<S> for IntakeLayer {
    type Service = Intake<S>;

    fn layer(&self, inner: S) -> Intake<S> {
        Intake { inner, under_way: self.0.clone() }
    }
}

/// A service behind its intake.
#[derive(Debug, Clone)]
pub(super) struct Intake<S> {
    inner: S,
    under_way: Arc<UnderWay>,
}

impl<S> Service<http::Request<Body>> for Intake<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let call = Call::begin(&self.under_way);
        let most = if request.uri().path() == REPORT { MOST_CALLS_WITH_REPORTS } else { MOST_CALLS };
        if call.number > most {
            return Box::pin(async move { Ok(overloaded().into_http()) });
        }
        let now = Instant::now();
        request.extensions_mut().insert(Arrived(now));
        let under_way = self.under_way.clone();
        let request = request.map(|body| Body::new(Arriving::new(body, under_way, now)));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let _call = call;
            answer.await
        })
    }
}

/// A call under way.
struct Call {
    under_way: Arc<UnderWay>,
    number: usize,
}

impl Call {
    fn begin(under_way: &Arc<UnderWay>) -> Self {
        Self { number: under_way.calls.fetch_add(1, Relaxed) + 1, under_way: under_way.clone() }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.under_way.calls.fetch_sub(1, Relaxed);
    }
}

/// A request's body while it arrives. It is dropped once it was read.
struct Arriving {
    body: Body,
    under_way: Arc<UnderWay>,
    bytes: usize,
    by: Instant,
    // Most bodies are there at once and need no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Arriving {
    fn new(body: Body, under_way: Arc<UnderWay>, now: Instant) -> Self {
        Self { body, under_way, bytes: 0, by: now + REQUEST_WITHIN, timer: None }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.under_way.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(this.by)));
            return timer.as_mut().poll(context).map(|()| {
                let message = format!("the request did not arrive within {REQUEST_WITHIN:?} of its headers");
                Some(Err(Status::deadline_exceeded(message)))
            });
        };
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            this.bytes += bytes;
            if this.under_way.bytes.fetch_add(bytes, Relaxed) + bytes > MOST_BYTES_BEING_READ {
                return Poll::Ready(Some(Err(overloaded())));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn, time::Duration};

    use futures_util::{StreamExt, stream};
    use tonic::Code;
    use tower::Layer;

    use super::*;

    /// Reads a request whose parts come at these times.
    async fn read(parts: Vec<(Duration, usize)>, under_way: &Arc<UnderWay>) -> Result<usize, Status> {
        let parts = stream::iter(parts).then(async |(after, bytes)| {
            tokio::time::sleep(after).await;
            Ok::<_, Infallible>(Bytes::from(vec![0; bytes]))
        });
        let body = Body::new(axum::body::Body::from_stream(Box::pin(parts)));
        let mut body = Box::pin(Arriving::new(body, under_way.clone(), Instant::now()));
        let mut bytes = 0;
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_a_byte_a_second_is_not_waited_for() {
        let under_way = Arc::default();
        let began = Instant::now();
        let slow = read(vec![(Duration::from_secs(1), 1); 1000], &under_way).await.unwrap_err();
        assert_eq!(slow.code(), Code::DeadlineExceeded);
        assert_eq!(began.elapsed(), REQUEST_WITHIN);
        assert_eq!(read(vec![(Duration::from_secs(1), 1); 10], &under_way).await.unwrap(), 10);
        assert_eq!(under_way.bytes.load(Relaxed), 0, "what was read is counted no more");
    }

    #[tokio::test]
    async fn requests_that_are_together_too_large_to_be_read_at_once_are_turned_away() {
        let under_way: Arc<UnderWay> = Arc::default();
        under_way.bytes.store(MOST_BYTES_BEING_READ - 10, Relaxed);
        assert_eq!(read(vec![(Duration::ZERO, 10)], &under_way).await.unwrap(), 10);
        let large = read(vec![(Duration::ZERO, 11)], &under_way).await.unwrap_err();
        assert_eq!(large.code(), Code::ResourceExhausted);
        assert_eq!(under_way.bytes.load(Relaxed), MOST_BYTES_BEING_READ - 10);
    }

    #[tokio::test]
    async fn calls_beyond_the_bound_are_turned_away_and_reports_last() {
        let layer = IntakeLayer::default();
        let echo = tower::service_fn(async |_: http::Request<Body>| {
            Ok::<_, Infallible>(http::Response::new(Body::empty()))
        });
        let mut intake = layer.layer(echo);
        let mut code_of = async |path: &str| {
            let request = http::Request::post(path).body(Body::empty()).unwrap();
            let answer = intake.call(request).await.unwrap();
            answer.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned())
        };
        let acquire = "/keybroker.v1.KeyBroker/Acquire";
        let overloaded = Some((Code::ResourceExhausted as i32).to_string());
        for (under_way, of_acquire, of_report) in [
            (0, None, None),
            (MOST_CALLS - 1, None, None),
            (MOST_CALLS, overloaded.clone(), None),
            (MOST_CALLS_WITH_REPORTS, overloaded.clone(), overloaded),
        ] {
            layer.0.calls.store(under_way, Relaxed);
            assert_eq!(code_of(acquire).await, of_acquire, "{under_way} under way");
            assert_eq!(code_of(REPORT).await, of_report, "{under_way} under way");
            assert_eq!(layer.0.calls.load(Relaxed), under_way, "a call that ended counts no more");
        }
    }
}
