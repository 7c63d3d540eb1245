//! One HTTP request that tells an event.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode, header::RETRY_AFTER, redirect::Policy};
use serde_json::Value;

use super::attempt::Failure;
use crate::{connection::root_cause, events::Redactor, secret::Secret};

/// How much of an error answer is logged.
const MOST_SHOWN: usize = 512;

/// The client that all hooks share. It follows no redirect: a receiver that moved is a fault of the
/// configuration, and a followed one would turn the request into another.
///
/// # Errors
/// If TLS cannot be set up.
pub(super) fn client() -> reqwest::Result<Client> {
    Client::builder()
        .redirect(Policy::none())
        .user_agent(concat!("keybroker/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Posts a body; any 2xx is a success.
pub(super) async fn post(
    client: &Client,
    url: &Secret,
    body: &Value,
    timeout: Duration,
    redactor: &Redactor,
) -> Result<(), Failure> {
    let request = client.post(url.expose()).timeout(timeout).json(body);
    let response = request.send().await.map_err(|error| unsent(error, timeout))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let said = beginning(response).await;
    tracing::debug!(status = status.as_u16(), body = redactor.output(&said), "a hook's receiver refused");
    let failure = Failure::passing(format!("it was answered with {status}"));
    Err(Failure { again: may_pass(status), wait: wait.map(Duration::from_secs), ..failure })
}

fn unsent(error: reqwest::Error, timeout: Duration) -> Failure {
    if error.is_builder() {
        return Failure::lasting("the URL cannot be used");
    }
    if error.is_timeout() {
        return Failure::passing(format!("no answer came within {timeout:?}"));
    }
    // The cause stands in the innermost source, and the URL in none of them.
    Failure::passing(format!("it could not be sent: {}", root_cause(&error.without_url())))
}

/// Whether the receiver may answer otherwise the next time.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

async fn beginning(mut response: Response) -> Vec<u8> {
    let mut said = Vec::new();
    // The timeout of the request covers its body too.
    while said.len() < MOST_SHOWN
        && let Ok(Some(chunk)) = response.chunk().await
    {
        said.extend_from_slice(&chunk[..chunk.len().min(MOST_SHOWN - said.len())]);
    }
    said
}
