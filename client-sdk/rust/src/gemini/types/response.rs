//! The answer of `generateContent`, and each event of a stream.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Content, Extra};
use crate::outcome::Usage;

/// The answer of `generateContent`, and each event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GenerateContentResponse {
    /// The answers; usually one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// Why a prompt was blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_feedback: Option<PromptFeedback>,
    /// The tokens used so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_metadata: Option<UsageMetadata>,
    /// The exact model that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    /// Google's id of this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl GenerateContentResponse {
    /// The text of the first candidate, thoughts left out; empty if it has none.
    pub fn text(&self) -> String {
        let parts = self.candidates.first().and_then(|c| c.content.as_ref()).map(|c| &c.parts);
        parts
            .into_iter()
            .flatten()
            .filter(|p| p.thought != Some(true))
            .filter_map(|p| p.text.as_deref())
            .collect()
    }

    /// Why the answer ended or was refused; `None` while a stream goes on.
    pub fn finish_reason(&self) -> Option<&str> {
        let blocked = self.prompt_feedback.as_ref().and_then(|f| f.block_reason.as_deref());
        self.candidates.iter().find_map(|c| c.finish_reason.as_deref()).or(blocked)
    }
}

impl From<GenerateContentResponse> for Value {
    fn from(response: GenerateContentResponse) -> Self {
        // Maps with string keys and plain values always have a JSON form.
        serde_json::to_value(response).unwrap_or_default()
    }
}

/// One answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Candidate {
    /// What was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// `STOP`, `MAX_TOKENS`, `SAFETY`, ...; `None` while a stream goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// More words on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_message: Option<String>,
    /// The position among the candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<i32>,
    /// How harmful the answer seems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub safety_ratings: Vec<SafetyRating>,
    /// Sources that are quoted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub citation_metadata: Option<Value>,
    /// Sources that ground the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grounding_metadata: Option<Value>,
    /// URLs that were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_context_metadata: Option<Value>,
    /// The tokens of this candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_count: Option<i64>,
    /// The mean log probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avg_logprobs: Option<f64>,
    /// Log probabilities in detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs_result: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Why a prompt was blocked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PromptFeedback {
    /// `SAFETY`, `BLOCKLIST`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_reason: Option<String>,
    /// How harmful the prompt seems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub safety_ratings: Vec<SafetyRating>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How harmful something seems.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SafetyRating {
    /// `HARM_CATEGORY_...`.
    pub category: String,
    /// `NEGLIGIBLE` to `HIGH`.
    pub probability: String,
    /// Whether it was blocked for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The tokens used; the API leaves out what is zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UsageMetadata {
    /// Input tokens, cached ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_token_count: Option<i64>,
    /// Input tokens that came from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_content_token_count: Option<i64>,
    /// Output tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidates_token_count: Option<i64>,
    /// Thinking tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thoughts_token_count: Option<i64>,
    /// Tokens of tool results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_use_prompt_token_count: Option<i64>,
    /// All of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_token_count: Option<i64>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl From<&UsageMetadata> for Usage {
    fn from(usage: &UsageMetadata) -> Self {
        Self {
            input_tokens: usage.prompt_token_count,
            output_tokens: usage.candidates_token_count,
            total_tokens: usage.total_token_count,
            thoughts_tokens: usage.thoughts_token_count,
            cached_tokens: usage.cached_content_token_count,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_survives_with_fields_nobody_knows() {
        let body = json!({
            "candidates": [{
                "content": {"role": "model", "parts": [
                    {"text": "thinking", "thought": true},
                    {"text": "Hel", "newPartField": 1},
                    {"text": "lo"},
                ]},
                "finishReason": "STOP",
                "newField": {"a": [1, 2]},
            }],
            "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 9, "promptTokensDetails": []},
            "somethingNew": true,
        });
        let response: GenerateContentResponse = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(response.text(), "Hello");
        assert_eq!(response.finish_reason(), Some("STOP"));
        assert_eq!(Value::from(response), body);
    }

    #[test]
    fn a_blocked_prompt_has_a_finish_reason() {
        let body = json!({"promptFeedback": {"blockReason": "SAFETY"}});
        let response: GenerateContentResponse = serde_json::from_value(body).unwrap();
        assert_eq!(response.finish_reason(), Some("SAFETY"));
        assert_eq!(response.text(), "");
    }
}
