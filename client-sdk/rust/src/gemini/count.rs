//! Has Gemini count the tokens of a request before a lease is taken for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use reqwest::{
    Method, Request, Url,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value, json};

use super::{builder::Settings, call::resource, forward::Forward, sender::Sender};

/// Methods whose input can be counted.
pub(crate) const COUNTED: [&str; 2] = ["generateContent", "streamGenerateContent"];

/// The tokens of this body by `countTokens`, with a lease of its own; none if that fails, since counting is a help and
/// no condition.
pub(crate) fn tokens<'a>(
    settings: &Settings,
    sender: &'a mut dyn Sender,
    url: &Url,
    model: &str,
    body: &Value,
    deadline: Instant,
) -> BoxFuture<'a, Option<i64>> {
    let settings = Settings {
        count_tokens: false,
        fallback_key: None,
        patient: false,
        attempts: std::num::NonZeroU32::MIN,
        deadline: deadline.saturating_duration_since(Instant::now()),
        ..settings.clone()
    };
    let request = request(url, model, body);
    Box::pin(async move {
        let deadline: Duration = settings.deadline;
        let forward = Forward::new(&Arc::new(settings), request?).ok()?;
        let answer = tokio::time::timeout(deadline, async {
            let answer = forward.run(sender).await.ok().filter(|answer| answer.status().is_success())?;
            answer.json::<Value>().await.ok()
        });
        answer.await.ok()??.get("totalTokens")?.as_i64().filter(|total| *total >= 0)
    })
}

fn request(url: &Url, model: &str, body: &Value) -> Option<Request> {
    let mut whole = body.as_object()?.clone();
    whole.entry("model").or_insert_with(|| json!(resource(model)));
    let (place, _) = url.path().rsplit_once(':')?;
    let mut counting = url.clone();
    counting.set_path(&format!("{place}:countTokens"));
    counting.set_query(None);
    let mut request = Request::new(Method::POST, counting);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(json!({ "generateContentRequest": whole }).to_string().into());
    Some(request)
}
