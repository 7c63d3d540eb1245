//! Tools the model may use.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Extra;

/// A tool: functions of the caller, or one of Google's own, switched on by an empty object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tool {
    /// Functions the model may ask the caller to run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub function_declarations: Vec<FunctionDeclaration>,
    /// Search results as grounding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub google_search: Option<Value>,
    /// The older form of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub google_search_retrieval: Option<Value>,
    /// Places as grounding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub google_maps: Option<Value>,
    /// Execution of code the model writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_execution: Option<Value>,
    /// Reading of URLs in the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_context: Option<Value>,
    /// Retrieval from file search stores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_search: Option<Value>,
    /// Use of a computer's screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computer_use: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A function the model may ask the caller to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionDeclaration {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// `BLOCKING` or `NON_BLOCKING`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behavior: Option<String>,
    /// Its parameters, as a Schema object of the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Its parameters, as a JSON Schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_json_schema: Option<Value>,
    /// Its result, as a Schema object of the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Value>,
    /// Its result, as a JSON Schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_json_schema: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How tools are used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToolConfig {
    /// How functions are called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function_calling_config: Option<FunctionCallingConfig>,
    /// Place and language for retrieval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieval_config: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How functions are called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionCallingConfig {
    /// `AUTO`, `ANY`, `NONE` or `VALIDATED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The functions that may be called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_function_names: Vec<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}
