//! The body of `generateContent` and `streamGenerateContent`.

use serde::{Deserialize, Serialize};

use super::{Content, Extra, GenerationConfig, Tool, ToolConfig};

/// The body of `generateContent` and `streamGenerateContent`.
///
/// ```
/// use keybroker_client::gemini::types::{GenerateContentRequest, GenerationConfig};
///
/// let mut request = GenerateContentRequest::text("Name three rivers.");
/// request.generation_config = Some(GenerationConfig { temperature: Some(0.2), ..Default::default() });
/// request.extra.insert("labels".into(), serde_json::json!({"team": "maps"}));
/// # let _ = request;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GenerateContentRequest {
    /// The conversation so far, the last turn being the one to answer.
    pub contents: Vec<Content>,
    /// Instructions that stand above the conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_instruction: Option<Content>,
    /// How the answer is generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_config: Option<GenerationConfig>,
    /// What is blocked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub safety_settings: Vec<SafetySetting>,
    /// Tools the model may use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// How they are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_config: Option<ToolConfig>,
    /// A cached content, `cachedContents/{id}`; it belongs to one project, so the lease must be of
    /// that project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_content: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl GenerateContentRequest {
    /// One question of a user.
    pub fn text(text: impl Into<String>) -> Self {
        Self { contents: vec![Content::user(text)], ..Self::default() }
    }
}

/// What is blocked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SafetySetting {
    /// `HARM_CATEGORY_...`.
    pub category: String,
    /// `BLOCK_NONE`, `BLOCK_ONLY_HIGH`, ...
    pub threshold: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
