//! Bodies as Google sends them.

use serde_json::{Value, json};

pub(super) const DAY_ID: &str = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
pub(super) const MINUTE_ID: &str = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier";
pub(super) const TOKENS_ID: &str = "GenerateContentInputTokensPerModelPerMinute-FreeTier";

/// `{"error": {...}}` with the given details.
pub(super) fn error(code: u16, status: &str, message: &str, details: Vec<Value>) -> Value {
    let mut error = json!({ "code": code, "message": message, "status": status });
    if !details.is_empty() {
        error["details"] = Value::Array(details);
    }
    json!({ "error": error })
}

/// An error whose `ErrorInfo` gives a reason.
pub(super) fn reasoned(code: u16, status: &str, message: &str, reason: &str) -> Value {
    error(code, status, message, vec![info(reason), localized(message)])
}

pub(super) fn info(reason: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": { "service": "generativelanguage.googleapis.com", "consumer": "projects/123" },
    })
}

fn localized(message: &str) -> Value {
    json!({ "@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": message })
}

pub(super) fn help() -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.Help",
        "links": [{
            "description": "Learn more about Gemini API quotas",
            "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
        }],
    })
}

pub(super) fn retry_info(delay: &str) -> Value {
    json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay })
}

pub(super) fn violation(id: &str, value: Option<&str>) -> Value {
    let mut violation = json!({
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": id,
        "quotaDimensions": { "location": "global", "model": "gemini-3.8-flash" },
    });
    if let Some(value) = value {
        violation["quotaValue"] = json!(value);
    }
    violation
}

pub(super) fn quota_failure(violations: Vec<Value>) -> Value {
    json!({ "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations })
}

const EXCEEDED: &str = "You exceeded your current quota, please check your plan and billing details.";

/// A 429 that names quotas, with an optional `RetryInfo`.
pub(super) fn quota(violations: Vec<Value>, delay: Option<&str>) -> Value {
    let mut details = vec![help(), quota_failure(violations)];
    details.extend(delay.map(retry_info));
    error(429, "RESOURCE_EXHAUSTED", EXCEEDED, details)
}

pub(super) fn minute(delay: Option<&str>) -> Value {
    quota(vec![violation(MINUTE_ID, Some("5"))], delay)
}

pub(super) fn day(delay: Option<&str>) -> Value {
    quota(vec![violation(DAY_ID, Some("20"))], delay)
}

pub(super) fn opaque() -> Value {
    error(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", vec![])
}

pub(super) fn invalid_key() -> Value {
    reasoned(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", "API_KEY_INVALID")
}

pub(super) fn leaked() -> Value {
    error(
        403,
        "PERMISSION_DENIED",
        "Your API key was reported as leaked. Please use another API key.",
        vec![],
    )
}

/// The one that echoes the whole key, twice.
pub(super) fn suspended(key: &str) -> Value {
    let message = format!("Permission denied: Consumer 'api_key:{key}' has been suspended.");
    let mut info = info("CONSUMER_SUSPENDED");
    info["metadata"]["containerInfo"] = json!(format!("api_key:{key}"));
    error(403, "PERMISSION_DENIED", &message, vec![info])
}

pub(super) fn overloaded() -> Value {
    error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.", vec![])
}
