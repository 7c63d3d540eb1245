//! Contents and their parts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Extra;

/// One turn of a conversation, or an instruction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Content {
    /// `user` or `model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What the turn consists of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Content {
    /// A turn of the user.
    pub fn user(text: impl Into<String>) -> Self {
        Self { role: Some("user".to_owned()), ..Self::text(text) }
    }

    /// A turn of the model.
    pub fn model(text: impl Into<String>) -> Self {
        Self { role: Some("model".to_owned()), ..Self::text(text) }
    }

    /// Text without a role, for instructions and embeddings.
    pub fn text(text: impl Into<String>) -> Self {
        Self { parts: vec![Part::text(text)], ..Self::default() }
    }
}

/// A part of a content: one of its data fields is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Part {
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whether this part is a thought of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thought: Option<bool>,
    /// To be sent back with the part as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thought_signature: Option<String>,
    /// Bytes sent within the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline_data: Option<Blob>,
    /// A file uploaded before; it belongs to one project, so the lease must be of that project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_data: Option<FileData>,
    /// A call the model asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_call: Option<FunctionCall>,
    /// The result of such a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_response: Option<FunctionResponse>,
    /// Code the model had executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable_code: Option<Value>,
    /// The result of that code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_execution_result: Option<Value>,
    /// Offsets and frame rate of a video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_metadata: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Part {
    /// A part of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// A part of bytes, already in base64.
    pub fn inline_data(mime_type: impl Into<String>, base64: impl Into<String>) -> Self {
        let blob = Blob { mime_type: mime_type.into(), data: base64.into(), extra: Extra::new() };
        Self { inline_data: Some(blob), ..Self::default() }
    }
}

/// Bytes sent within the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Blob {
    /// The IANA media type.
    pub mime_type: String,
    /// The bytes in base64.
    pub data: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A file uploaded before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileData {
    /// The IANA media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Where the file is.
    pub file_uri: String,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A call the model asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionCall {
    /// To be given back in the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The function.
    pub name: String,
    /// The arguments, an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The result of a call the model asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionResponse {
    /// The id of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The function.
    pub name: String,
    /// The result, an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
