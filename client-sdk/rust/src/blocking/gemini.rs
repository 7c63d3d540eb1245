//! The Gemini client whose calls wait.

use std::{fmt, future::Future, sync::Arc};

use futures_util::StreamExt;
use serde_json::Value;

use super::{broker::Broker, runtime::Worker};
use crate::gemini::{
    self, GeminiBuilder, GeminiError,
    types::{
        BatchEmbedContentsRequest, BatchEmbedContentsResponse, CountTokensRequest, CountTokensResponse,
        EmbedContentRequest, EmbedContentResponse, GenerateContentRequest, GenerateContentResponse,
    },
};

/// A thin Gemini client with leased keys, as [`crate::Gemini`].
///
/// Errors are those of its methods there, and [`Error::WithinRuntime`](crate::Error::WithinRuntime) as a
/// [`GeminiError::Broker`].
#[derive(Clone)]
pub struct Gemini {
    gemini: gemini::Gemini,
    worker: Arc<Worker>,
}

impl Gemini {
    /// A client with the default settings.
    ///
    /// # Errors
    /// [`GeminiError::Setup`].
    pub fn new(broker: &Broker) -> Result<Self, GeminiError> {
        Self::with(broker, |settings| settings)
    }

    /// A client with settings of one's own.
    ///
    /// ```
    /// use keybroker_client::blocking::{Broker, Gemini};
    ///
    /// let broker = Broker::connect("127.0.0.1:50051")?;
    /// let gemini = Gemini::with(&broker, |settings| settings.pool("batch").consumer("nightly-report"))?;
    /// # let _ = gemini;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`GeminiError::Setup`].
    pub fn with(
        broker: &Broker,
        settings: impl FnOnce(GeminiBuilder) -> GeminiBuilder,
    ) -> Result<Self, GeminiError> {
        let gemini = settings(gemini::Gemini::builder(&broker.worker.broker)).build()?;
        Ok(Self { gemini, worker: Arc::clone(&broker.worker) })
    }

    /// Asks one question and answers with the text.
    ///
    /// # Errors
    /// As for [`crate::Gemini::ask`].
    pub fn ask(&self, model: &str, text: &str) -> Result<String, GeminiError> {
        self.wait(self.gemini.ask(model, text))
    }

    /// Generates an answer.
    ///
    /// # Errors
    /// As for [`crate::Gemini::generate_content`].
    pub fn generate_content(
        &self,
        model: &str,
        request: &GenerateContentRequest,
    ) -> Result<GenerateContentResponse, GeminiError> {
        self.wait(self.gemini.generate_content(model, request))
    }

    /// Generates an answer as a stream of events, an iterator.
    ///
    /// ```no_run
    /// # fn example(gemini: keybroker_client::blocking::Gemini) -> Result<(), keybroker_client::GeminiError> {
    /// use keybroker_client::gemini::types::GenerateContentRequest;
    ///
    /// let request = GenerateContentRequest::text("Tell a long story.");
    /// for event in gemini.stream_generate_content("gemini-2.5-flash", &request)? {
    ///     print!("{}", event?.text());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`crate::Gemini::stream_generate_content`].
    pub fn stream_generate_content(
        &self,
        model: &str,
        request: &GenerateContentRequest,
    ) -> Result<GenerateContentStream, GeminiError> {
        let events = self.wait(self.gemini.stream_generate_content(model, request))?;
        Ok(GenerateContentStream { events: Some(events), worker: Arc::clone(&self.worker) })
    }

    /// Counts the tokens of a prompt.
    ///
    /// # Errors
    /// As for [`crate::Gemini::count_tokens`].
    pub fn count_tokens(
        &self,
        model: &str,
        request: &CountTokensRequest,
    ) -> Result<CountTokensResponse, GeminiError> {
        self.wait(self.gemini.count_tokens(model, request))
    }

    /// Embeds one content.
    ///
    /// # Errors
    /// As for [`crate::Gemini::embed_content`].
    pub fn embed_content(
        &self,
        model: &str,
        request: &EmbedContentRequest,
    ) -> Result<EmbedContentResponse, GeminiError> {
        self.wait(self.gemini.embed_content(model, request))
    }

    /// Embeds several contents in one call.
    ///
    /// # Errors
    /// As for [`crate::Gemini::batch_embed_contents`].
    pub fn batch_embed_contents(
        &self,
        model: &str,
        request: &BatchEmbedContentsRequest,
    ) -> Result<BatchEmbedContentsResponse, GeminiError> {
        self.wait(self.gemini.batch_embed_contents(model, request))
    }

    /// Posts any JSON body to any method of a model, with a lease of `permits`.
    ///
    /// # Errors
    /// As for [`crate::Gemini::call_raw`].
    pub fn call_raw(
        &self,
        model: &str,
        method: &str,
        body: &Value,
        permits: i32,
    ) -> Result<Value, GeminiError> {
        self.wait(self.gemini.call_raw(model, method, body, permits))
    }

    fn wait<T>(&self, call: impl Future<Output = Result<T, GeminiError>>) -> Result<T, GeminiError> {
        self.worker.wait(call)?
    }
}

impl fmt::Debug for Gemini {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.gemini.fmt(f)
    }
}

/// The events of an answer; an error is the last one. Its lease is reported when it ends or is dropped, as by
/// [`crate::gemini::GenerateContentStream`].
#[derive(Debug)]
pub struct GenerateContentStream {
    /// Gone once it has ended.
    events: Option<gemini::GenerateContentStream>,
    worker: Arc<Worker>,
}

impl Iterator for GenerateContentStream {
    type Item = Result<GenerateContentResponse, GeminiError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.worker.wait(self.events.as_mut()?.next());
        let event = next.unwrap_or_else(|error| Some(Err(error.into())));
        if !matches!(event, Some(Ok(_))) {
            self.events = None;
        }
        event
    }
}
