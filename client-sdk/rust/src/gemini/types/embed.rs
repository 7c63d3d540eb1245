//! The bodies of `embedContent`, `batchEmbedContents` and `countTokens`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Content, Extra, GenerateContentRequest};

/// The body of `embedContent`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EmbedContentRequest {
    /// The model; filled in within a batch if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What is embedded.
    pub content: Content,
    /// `RETRIEVAL_QUERY`, `RETRIEVAL_DOCUMENT`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// The title of a document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The length of the vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_dimensionality: Option<i32>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl EmbedContentRequest {
    /// One text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: Content::text(text), ..Self::default() }
    }
}

/// The answer of `embedContent`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EmbedContentResponse {
    /// The vector.
    pub embedding: ContentEmbedding,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A vector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContentEmbedding {
    /// Its values.
    pub values: Vec<f32>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The body of `batchEmbedContents`; each text costs one request of the quota.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchEmbedContentsRequest {
    /// What is embedded, at most 100.
    pub requests: Vec<EmbedContentRequest>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl BatchEmbedContentsRequest {
    /// Several texts.
    pub fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { requests: texts.into_iter().map(EmbedContentRequest::text).collect(), ..Self::default() }
    }
}

/// The answer of `batchEmbedContents`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchEmbedContentsResponse {
    /// A vector for each text, in order.
    pub embeddings: Vec<ContentEmbedding>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The body of `countTokens`: contents alone, or a whole request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CountTokensRequest {
    /// Contents alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<Content>,
    /// A whole request, tools and instructions included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate_content_request: Option<GenerateContentRequest>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl CountTokensRequest {
    /// One text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { contents: vec![Content::user(text)], ..Self::default() }
    }
}

/// The answer of `countTokens`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CountTokensResponse {
    /// All tokens.
    pub total_tokens: i64,
    /// Those that come from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_content_token_count: Option<i64>,
    /// By modality.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
