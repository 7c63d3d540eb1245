//! Leases for clients of `reqwest-middleware`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::Extensions;
use keybroker_client::{Error, GeminiError, gemini::LeaseMiddleware};
use keybroker_proto::v1::advice::Action;
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Next};
use serde_json::json;

use crate::{
    broker::{Grant, MockBroker, words},
    upstream::{Reply, Upstream, answer_of, error_of, part_of},
};

const MODEL: &str = "gemini-2.5-flash";

/// A client that leases, and how many requests pass behind the leases.
fn client(upstream: &Upstream, mock: &MockBroker) -> (ClientWithMiddleware, Arc<AtomicU32>) {
    let passed = Arc::new(AtomicU32::new(0));
    let leases = LeaseMiddleware::new(upstream.client(mock).build().unwrap());
    let client = ClientBuilder::new(reqwest::Client::new()).with(leases).with(Counter(Arc::clone(&passed)));
    (client.build(), passed)
}

struct Counter(Arc<AtomicU32>);

#[tonic::async_trait]
impl reqwest_middleware::Middleware for Counter {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        self.0.fetch_add(1, Ordering::Relaxed);
        next.run(request, extensions).await
    }
}

fn url(upstream: &Upstream, method: &str) -> String {
    format!("{}/v1beta/models/{MODEL}:{method}", upstream.url)
}

#[tokio::test]
async fn a_request_is_leased_for_and_each_try_passes_the_rest_of_the_chain() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let (client, passed) = client(&upstream, &mock);
    upstream.will([Reply::Json(400, error_of(400, "odd"))]);
    mock.will_advise([(Action::RetryOtherKey, None)]);
    let request = client.post(url(&upstream, "generateContent")).body(json!({ "contents": [] }).to_string());
    let answer = request.header("content-type", "application/json").send().await.unwrap();
    assert!(answer.status().is_success() && answer.text().await.unwrap().contains("hello"));
    let keys: Vec<_> = upstream.seen().iter().map(|seen| seen.key().to_owned()).collect();
    assert_eq!(keys, ["fake-secret-1", "fake-secret-2"]);
    assert_eq!((passed.load(Ordering::Relaxed), words(&mock.script().reports).len()), (2, 2));

    upstream.will([Reply::Typed(
        "text/event-stream",
        format!("data: {}\r\n\r\ndata: {}\r\n\r\n", part_of("he"), answer_of("llo")),
    )]);
    let request = client.post(url(&upstream, "streamGenerateContent?alt=sse")).body("{}");
    let text = request.send().await.unwrap().text().await.unwrap();
    assert_eq!(text.matches("data: ").count(), 2);
    assert_eq!(mock.reports(3).await.len(), 3);
}

#[tokio::test]
async fn other_hosts_get_no_key() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let (client, passed) = client(&upstream, &mock);
    let elsewhere = Upstream::start().await;
    client.post(url(&elsewhere, "generateContent")).body("{}").send().await.unwrap();
    assert!(!elsewhere.seen()[0].headers.contains_key("x-goog-api-key"));
    assert_eq!((mock.script().acquires.len(), passed.load(Ordering::Relaxed)), (0, 1));
}

#[tokio::test]
async fn an_error_of_the_lease_can_be_told_apart() {
    let (mock, upstream) = (MockBroker::start().await, Upstream::start().await);
    let (client, passed) = client(&upstream, &mock);
    mock.will_grant([Grant::refused_for(Duration::from_secs(3_600))]);
    let error = client.post(url(&upstream, "generateContent")).body("{}").send().await.unwrap_err();
    let reqwest_middleware::Error::Middleware(error) = error else { panic!("{error}") };
    let error = error.downcast_ref::<GeminiError>().expect("it is the client's own");
    assert!(matches!(error, GeminiError::Broker(Error::Refused(_))), "{error}");
    assert_eq!(passed.load(Ordering::Relaxed), 0);
}
