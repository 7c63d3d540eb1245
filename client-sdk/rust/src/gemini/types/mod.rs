//! The REST bodies of the Gemini API.
//!
//! The common fields are typed; every object also has `extra`, which carries whatever else the API
//! knows, in both directions, so that nothing is impossible. Names of enums are plain strings,
//! since Google adds new ones at any time.

mod content;
mod embed;
mod generation;
mod request;
mod response;
mod tools;

use serde_json::{Map, Value};

pub use content::{Blob, Content, FileData, FunctionCall, FunctionResponse, Part};
pub use embed::{
    BatchEmbedContentsRequest, BatchEmbedContentsResponse, ContentEmbedding, CountTokensRequest,
    CountTokensResponse, EmbedContentRequest, EmbedContentResponse,
};
pub use generation::{GenerationConfig, ImageConfig, ThinkingConfig};
pub use request::{GenerateContentRequest, SafetySetting};
pub use response::{Candidate, GenerateContentResponse, PromptFeedback, SafetyRating, UsageMetadata};
pub use tools::{FunctionCallingConfig, FunctionDeclaration, Tool, ToolConfig};

/// The fields of an object that are not typed here.
pub type Extra = Map<String, Value>;
