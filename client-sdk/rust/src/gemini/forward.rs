//! Any HTTP request to Gemini, sent with leased keys: for HTTP clients of one's own, and for proxies.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use reqwest::{
    Body, Method, Request, Response, Url,
    header::{self, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    builder::Settings,
    cache::Key,
    count,
    error::{GeminiError, GoogleError},
    exchange::{self, Answered, Failure},
    flow::{Flow, Form},
    sender::Sender,
    sse::SseDecoder,
    tries::Tries,
    underway::Underway,
};
use crate::{
    acquire::AcquireOptions,
    lease::{Lease, SendWindowPassed},
    outcome::Outcome,
    wire,
};

const API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
/// Headers that are about one connection, or that are set anew. An encoding that is not understood here would hide
/// what was used.
const NOT_PASSED_ON: [HeaderName; 10] = [
    API_KEY,
    header::AUTHORIZATION,
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::ACCEPT_ENCODING,
    HeaderName::from_static("keep-alive"),
];

/// A request of the caller's, which may be sent several times.
pub(crate) struct Forward {
    settings: Arc<Settings>,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
    /// Whether the answer comes in pieces, each a part of what is generated.
    generates_stream: bool,
    options: AcquireOptions,
    deadline: Instant,
    /// What is to be counted first.
    counted: Option<Value>,
    /// Under which its answer is kept.
    key: Option<Key>,
}

/// A request without an answer to pass on.
enum Unanswered {
    Missed(Lease, SendWindowPassed),
    Failed(Box<Failure>, Option<Response>),
}

impl From<exchange::Unanswered> for Unanswered {
    fn from(unanswered: exchange::Unanswered) -> Self {
        match unanswered {
            exchange::Unanswered::Missed(lease, passed) => Self::Missed(lease, passed),
            exchange::Unanswered::Failed(failure) => Self::Failed(failure, None),
        }
    }
}

impl Forward {
    pub(crate) fn new(settings: &Arc<Settings>, mut request: Request) -> Result<Self, GeminiError> {
        let invalid = |message: &str| GeminiError::InvalidRequest { message: message.to_owned() };
        let body = match request.body() {
            None => Bytes::new(),
            Some(body) => body.as_bytes().map(Bytes::copy_from_slice).ok_or_else(|| {
                invalid("its body is a stream, which cannot be sent twice: give the body as bytes")
            })?,
        };
        let mut headers = std::mem::take(request.headers_mut());
        NOT_PASSED_ON.iter().for_each(|name| drop(headers.remove(name)));
        let url = without_key(request.url());
        let json = is_json(&headers).then(|| serde_json::from_slice::<Value>(&body).ok()).flatten();
        let target = Target::of(url.path(), json.as_ref());
        let model = target.model.unwrap_or_else(|| settings.default_model.clone());
        let mut options = settings.options(&model).permits(target.permits);
        if let Some(json) = &json {
            options.input_tokens = (settings.estimator.0)(json).max(0);
        }
        if let Some(project) = settings.affinity.project_of(&url, json.as_ref()) {
            options.project = project;
        }
        let deadline = wire::instant_after(Instant::now(), settings.deadline);
        let method = request.method().clone();
        let generates_stream = target.method == "streamGenerateContent";
        let counted =
            json.filter(|_| settings.count_tokens && count::COUNTED.contains(&target.method.as_str()));
        let cache = settings.cache.as_ref().filter(|_| method == Method::POST);
        let key = cache.and_then(|cache| cache.key(&target.method, url.as_str(), &settings.project, &body));
        let settings = Arc::clone(settings);
        Ok(Self { settings, method, url, headers, body, generates_stream, options, deadline, counted, key })
    }

    /// Sends it until it is answered or nothing is left to try. The answer may be an error of Google's.
    pub(crate) async fn run(mut self, sender: &mut dyn Sender) -> Result<Response, GeminiError> {
        if let Some(kept) = self.kept() {
            return Ok(kept);
        }
        if let Some(body) = &self.counted {
            let model = &self.options.model;
            let counting = count::tokens(&self.settings, sender, &self.url, model, body, self.deadline);
            self.options.input_tokens = counting.await.unwrap_or(self.options.input_tokens);
        }
        let mut tries = Tries::new(&self.settings, self.options.clone(), self.deadline);
        let mut answered = None;
        loop {
            let (lease, key) = match tries.ready().await {
                Ok(ready) => ready,
                Err(error) => return answered.ok_or(error),
            };
            let goes_on = match self.send(sender, lease, key).await {
                Ok(response) => return Ok(response),
                Err(Unanswered::Missed(lease, passed)) => tries.missed(lease, passed),
                Err(Unanswered::Failed(failure, response)) => {
                    answered = response;
                    tries.obey(*failure).await
                }
            };
            if let Err(error) = goes_on {
                return answered.ok_or(error);
            }
        }
    }

    /// The answer to an identical request of before.
    fn kept(&self) -> Option<Response> {
        let body = self.settings.cache.as_ref()?.get(&self.key?)?;
        let json = (CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
        Some(answer(reqwest::StatusCode::OK, &HeaderMap::from_iter([json]), body.into()))
    }

    async fn send(
        &self,
        sender: &mut dyn Sender,
        lease: Lease,
        key: HeaderValue,
    ) -> Result<Response, Unanswered> {
        let settings = &self.settings;
        let limit = settings.request_timeout.min(self.deadline.saturating_duration_since(Instant::now()));
        let mut request = Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(API_KEY, key);
        let answered = exchange::depart(settings, sender, request, &self.body, lease, limit).await?;
        let (rest, status) = (answered.rest, answered.response.status());
        match self.form(&answered.response) {
            Some(form) if status.is_success() => {
                let headers = answered.response.headers().clone();
                let times = (self.deadline, settings.stream_idle_timeout);
                let flow = Flow::new(Underway::new(answered, times), form, self.generates_stream);
                match flow.open(rest).await {
                    Ok(flow) => Ok(answer(status, &headers, Body::wrap_stream(flow.into_stream()))),
                    Err(unopened) => {
                        let passed_on = unopened.body.map(|body| answer(status, &headers, body.into()));
                        Err(Unanswered::Failed(Box::new(unopened.failure), passed_on))
                    }
                }
            }
            _ => self.read(answered).await,
        }
    }

    /// Reads an answer in one piece.
    async fn read(&self, answered: Answered) -> Result<Response, Unanswered> {
        let Answered { lease, renewal: _renewal, response, rest: limit } = answered;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = match timeout(limit, response.bytes()).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return Err(exchange::Unanswered::from(Failure::reqwest(lease, error)).into()),
            Err(_) => return Err(exchange::timed_out(lease, limit).into()),
        };
        let failure = if !status.is_success() {
            Failure::http(lease, status.as_u16(), body, exchange::retry_after(&headers))
        } else if let Some(google) = GoogleError::parse(&body) {
            Failure::embedded(lease, status.as_u16(), &google, body)
        } else {
            self.settings.affinity.learn(lease.project(), &headers, &body);
            let usage = exchange::usage_of(&body).unwrap_or_default();
            exchange::report(lease, Outcome::Success(usage)).await;
            if let Some((cache, key)) = self.settings.cache.as_ref().zip(self.key) {
                cache.keep(key, &body);
            }
            return Ok(answer(status, &headers, body.into()));
        };
        // With the key masked.
        let masked = match &failure.outcome {
            Outcome::HttpError { body, .. } => body.clone(),
            _ => Bytes::new(),
        };
        Err(Unanswered::Failed(Box::new(failure), Some(answer(status, &headers, masked.into()))))
    }

    /// How an answer is passed on while it comes; none: it is read whole.
    fn form(&self, response: &Response) -> Option<Form> {
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            Some(Form::Events(SseDecoder::default()))
        } else if self.generates_stream {
            Some(Form::Array(Vec::new()))
        } else if kind.is_empty() || kind.contains("json") {
            None
        } else {
            Some(Form::Opaque)
        }
    }
}

/// What a path and a body say of a request.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    model: Option<String>,
    permits: i32,
    /// What stands behind the model; empty if nothing does.
    method: String,
}

impl Target {
    fn of(path: &str, body: Option<&Value>) -> Self {
        let parts: Vec<&str> = path.split('/').collect();
        let place = parts.iter().position(|part| matches!(*part, "models" | "tunedModels"));
        let named = place.and_then(|place| Some((parts[place], *parts.get(place + 1)?)));
        let (model, method) = match named {
            Some((collection, name)) if !name.is_empty() => {
                let (id, method) = name.split_once(':').unwrap_or((name, ""));
                let model = if collection == "models" { id.to_owned() } else { format!("{collection}/{id}") };
                (Some(model), method)
            }
            _ => {
                let model = body.and_then(|body| body.get("model")?.as_str());
                (model.map(|model| model.trim_start_matches("models/").to_owned()), "")
            }
        };
        let several = body.filter(|_| method == "batchEmbedContents").and_then(|body| body.get("requests"));
        let permits = several.and_then(Value::as_array).map_or(1, |requests| requests.len().max(1));
        Self {
            model: model.filter(|model| !model.is_empty()),
            permits: i32::try_from(permits).unwrap_or(i32::MAX),
            method: method.to_owned(),
        }
    }
}

fn answer(status: reqwest::StatusCode, headers: &HeaderMap, body: Body) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers.clone();
    // The body is framed anew, and may be shorter where a key was masked.
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
        response.headers_mut().remove(name);
    }
    Response::from(response)
}

/// A key has no place in a URL.
fn without_key(url: &Url) -> Url {
    let mut clean = url.clone();
    if url.query_pairs().any(|(name, _)| name == "key") {
        let kept: Vec<_> = url.query_pairs().filter(|(name, _)| name != "key").collect();
        clean.set_query(None);
        if !kept.is_empty() {
            clean.query_pairs_mut().extend_pairs(kept);
        }
    }
    clean
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.contains("json"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_names_its_model_in_its_path_or_body() {
        let of = |path: &str, body: Value| Target::of(path, Some(&body));
        let streamed = of("/v1beta/models/gemini-x:streamGenerateContent", json!({}));
        assert_eq!(
            (streamed.model.as_deref(), streamed.method.as_str()),
            (Some("gemini-x"), "streamGenerateContent")
        );
        let batch = of("/v1/models/embed:batchEmbedContents", json!({ "requests": [{}, {}, {}] }));
        assert_eq!((batch.model.as_deref(), batch.permits), (Some("embed"), 3));
        assert_eq!(of("/v1beta/interactions", json!({ "model": "models/m" })).model.as_deref(), Some("m"));
        assert_eq!(
            of("/v1beta/tunedModels/mine:generateContent", json!({})).model.as_deref(),
            Some("tunedModels/mine")
        );
        assert_eq!(of("/v1beta/models", json!({})).model, None);
        assert_eq!(of("/upload/v1beta/files", json!({})).model, None);
    }

    #[test]
    fn a_key_in_a_url_is_taken_out() {
        let clean = |text: &str| without_key(&Url::parse(text).unwrap()).to_string();
        assert_eq!(
            clean("http://h/v1/models/m:generateContent?key=fake&alt=sse"),
            "http://h/v1/models/m:generateContent?alt=sse"
        );
        assert_eq!(clean("http://h/v1/models?key=fake"), "http://h/v1/models");
        assert_eq!(clean("http://h/v1/models?alt=sse"), "http://h/v1/models?alt=sse");
    }
}
