//! A thin Gemini client: it leases a key for every request, reports what came of it, and obeys the
//! broker's advice. The bodies are those of the REST API, see [`types`].

mod affinity;
mod builder;
mod cache;
mod call;
mod count;
mod error;
mod estimate;
mod exchange;
mod fallback;
mod flow;
mod forward;
#[cfg(feature = "middleware")]
mod middleware;
mod sender;
mod sse;
mod stream;
mod tries;
pub mod types;
mod underway;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub use builder::GeminiBuilder;
#[cfg(feature = "cache")]
pub use cache::ResponseCache;
pub use error::{GeminiError, GoogleError, UpstreamError};
pub use estimate::estimate_input_tokens;
pub use fallback::FallbackRequest;
#[cfg(feature = "middleware")]
pub use middleware::LeaseMiddleware;
pub use stream::GenerateContentStream;

use self::{
    builder::Settings,
    call::{Answer, Call, Mode},
    fallback::Fallback,
    forward::Forward,
    types::{
        BatchEmbedContentsRequest, BatchEmbedContentsResponse, CountTokensRequest, CountTokensResponse,
        EmbedContentRequest, EmbedContentResponse, GenerateContentRequest, GenerateContentResponse,
    },
};
use crate::broker::Broker;

/// A Gemini client whose keys are leased from a broker; cheap to clone.
///
/// Every method takes a lease, sends one request with its key in the header `x-goog-api-key`, and
/// reports. What happens after a failure is the broker's [`Advice`](crate::Advice): another key
/// now, another try later, or the error. Dropping a future or a stream is safe at any point.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use keybroker_client::{Broker, Gemini, gemini::types::GenerateContentRequest};
///
/// let broker = Broker::connect("http://127.0.0.1:50051")?;
/// let gemini = Gemini::builder(&broker)
///     .pool("batch")
///     .consumer("nightly-report")
///     .deadline(Duration::from_secs(90))
///     .build()?;
/// let request = GenerateContentRequest::text("Name three rivers.");
/// let response = gemini.generate_content("gemini-2.5-flash", &request).await?;
/// println!("{}", response.text());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Gemini {
    settings: Arc<Settings>,
}

impl Gemini {
    /// A client with the default settings.
    ///
    /// # Errors
    /// [`GeminiError::Setup`] if no HTTP client can be made on this host.
    pub fn new(broker: &Broker) -> Result<Self, GeminiError> {
        Self::builder(broker).build()
    }

    /// Settings to choose first.
    pub fn builder(broker: &Broker) -> GeminiBuilder {
        GeminiBuilder::new(broker)
    }

    /// A builder that starts from the settings of this client and shares its connections, for
    /// example to give a call its own deadline or project.
    pub fn customize(&self) -> GeminiBuilder {
        GeminiBuilder::from_settings(&self.settings)
    }

    /// Asks one question and answers with the text.
    ///
    /// # Errors
    /// As for [`generate_content`](Self::generate_content).
    pub async fn ask(&self, model: &str, text: &str) -> Result<String, GeminiError> {
        let response = self.generate_content(model, &GenerateContentRequest::text(text)).await?;
        Ok(response.text())
    }

    /// Generates an answer.
    ///
    /// # Errors
    /// [`GeminiError::Broker`] if no lease was to be had, [`GeminiError::Upstream`] with Google's
    /// words if the last try was answered with an error, and the others of [`GeminiError`].
    pub async fn generate_content(
        &self,
        model: &str,
        request: &GenerateContentRequest,
    ) -> Result<GenerateContentResponse, GeminiError> {
        self.unary(model, "generateContent", to_value(request)?, 1).await
    }

    /// Generates an answer as a stream of events. Failures before the first event are failed over
    /// as in [`generate_content`](Self::generate_content); a later one is the stream's last item.
    ///
    /// The lease is renewed while the stream runs and reported when it ends, however it ends.
    ///
    /// ```no_run
    /// # async fn example(gemini: keybroker_client::Gemini) -> Result<(), keybroker_client::GeminiError> {
    /// use futures_util::StreamExt;
    /// use keybroker_client::gemini::types::GenerateContentRequest;
    ///
    /// let request = GenerateContentRequest::text("Tell a long story.");
    /// let mut stream = gemini.stream_generate_content("gemini-2.5-flash", &request).await?;
    /// while let Some(event) = stream.next().await {
    ///     print!("{}", event?.text());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`generate_content`](Self::generate_content).
    pub async fn stream_generate_content(
        &self,
        model: &str,
        request: &GenerateContentRequest,
    ) -> Result<GenerateContentStream, GeminiError> {
        self.stream_raw(model, &to_value(request)?).await
    }

    /// Counts the tokens of a prompt.
    ///
    /// # Errors
    /// As for [`generate_content`](Self::generate_content).
    pub async fn count_tokens(
        &self,
        model: &str,
        request: &CountTokensRequest,
    ) -> Result<CountTokensResponse, GeminiError> {
        let mut body = to_value(request)?;
        if let Some(inner) = body.get_mut("generateContentRequest") {
            name_model(inner, model);
        }
        self.unary(model, "countTokens", body, 1).await
    }

    /// Embeds one content.
    ///
    /// # Errors
    /// As for [`generate_content`](Self::generate_content).
    pub async fn embed_content(
        &self,
        model: &str,
        request: &EmbedContentRequest,
    ) -> Result<EmbedContentResponse, GeminiError> {
        self.unary(model, "embedContent", to_value(request)?, 1).await
    }

    /// Embeds several contents in one call, with a lease of one permit for each: that is how
    /// Google counts them.
    ///
    /// # Errors
    /// As for [`generate_content`](Self::generate_content).
    pub async fn batch_embed_contents(
        &self,
        model: &str,
        request: &BatchEmbedContentsRequest,
    ) -> Result<BatchEmbedContentsResponse, GeminiError> {
        let permits = i32::try_from(request.requests.len())
            .ok()
            .filter(|permits| *permits > 0)
            .ok_or_else(|| GeminiError::InvalidRequest { message: "give 1 to 100 texts".to_owned() })?;
        let mut body = to_value(request)?;
        for inner in body.get_mut("requests").and_then(Value::as_array_mut).into_iter().flatten() {
            name_model(inner, model);
        }
        self.unary(model, "batchEmbedContents", body, permits).await
    }

    /// Posts any JSON body to any method of a model, such as `generateContent`, with a lease of
    /// `permits`, and answers with the JSON as it came.
    ///
    /// # Errors
    /// As for [`generate_content`](Self::generate_content).
    pub async fn call_raw(
        &self,
        model: &str,
        method: &str,
        body: &Value,
        permits: i32,
    ) -> Result<Value, GeminiError> {
        self.unary(model, method, body.clone(), permits).await
    }

    /// [`stream_generate_content`](Self::stream_generate_content) with any JSON body.
    ///
    /// # Errors
    /// As for [`generate_content`](Self::generate_content).
    pub async fn stream_raw(&self, model: &str, body: &Value) -> Result<GenerateContentStream, GeminiError> {
        let method = "streamGenerateContent";
        let call = Call::new(&self.settings, model, method, body, 1, Mode::Stream)?;
        match call.run().await {
            Ok(Answer::Stream(stream)) => Ok(stream),
            Ok(Answer::Body(_)) => unreachable!("a call in stream mode answers with a stream"),
            Err(error) => {
                let value = self.fall_back(model, method, body.clone(), error).await?;
                let response = serde_json::from_value(value).map_err(|e| GeminiError::decode(&e))?;
                Ok(GenerateContentStream::of_one(response))
            }
        }
    }

    /// Sends any HTTP request to Gemini, such as one made for another SDK, as often and with such keys as the
    /// broker advises. Its URL is kept; a key that it brings along is taken out. What was made by a project (a file,
    /// a cached content, a batch) is used with keys of that project, as far as this client saw it being made.
    ///
    /// The answer is Google's, an error of the last try included. A stream is passed on as it comes; its lease
    /// is renewed meanwhile, and reported when the body was read to its end or is dropped.
    ///
    /// ```no_run
    /// # async fn example(gemini: keybroker_client::Gemini) -> Result<(), Box<dyn std::error::Error>> {
    /// let url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent";
    /// let body = r#"{"contents":[{"parts":[{"text":"Name three rivers."}]}]}"#;
    /// let request = reqwest::Client::new().post(url).header("content-type", "application/json").body(body).build()?;
    /// let response = gemini.execute(request).await?;
    /// println!("{}", response.text().await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GeminiError::InvalidRequest`] for a body that cannot be sent twice; [`GeminiError::Broker`] if no lease was
    /// to be had, and [`GeminiError::Transport`] if no answer came at all.
    pub async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, GeminiError> {
        let mut http = self.settings.client()?;
        Forward::new(&self.settings, request)?.run(&mut http).await
    }

    async fn unary<T: DeserializeOwned>(
        &self,
        model: &str,
        method: &str,
        body: Value,
        permits: i32,
    ) -> Result<T, GeminiError> {
        let call = Call::new(&self.settings, model, method, &body, permits, Mode::Unary)?;
        let answer: Bytes = match call.run().await {
            Ok(Answer::Body(bytes)) => bytes,
            Ok(Answer::Stream(_)) => unreachable!("a call in unary mode answers with a body"),
            Err(error) => {
                let value = self.fall_back(model, method, body, error).await?;
                return serde_json::from_value(value).map_err(|e| GeminiError::decode(&e));
            }
        };
        serde_json::from_slice(&answer).map_err(|error| GeminiError::decode(&error))
    }

    async fn fall_back(
        &self,
        model: &str,
        method: &str,
        body: Value,
        error: GeminiError,
    ) -> Result<Value, GeminiError> {
        match &self.settings.fallback {
            Some(Fallback(fallback)) if error.calls_for_fallback() => {
                let request = FallbackRequest { model: model.to_owned(), method: method.to_owned(), body };
                fallback(request, error).await
            }
            _ => Err(error),
        }
    }
}

impl fmt::Debug for Gemini {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gemini").field("settings", &self.settings).finish()
    }
}

fn to_value(request: &impl Serialize) -> Result<Value, GeminiError> {
    serde_json::to_value(request).map_err(|error| GeminiError::InvalidRequest { message: error.to_string() })
}

/// Requests within a request name their model themselves.
fn name_model(inner: &mut Value, model: &str) {
    if let Some(fields) = inner.as_object_mut() {
        fields.entry("model").or_insert_with(|| json!(call::resource(model)));
    }
}
