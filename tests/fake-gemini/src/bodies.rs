//! Error bodies in the words and shapes that Google answers with. One function is one answer.

use std::time::Duration;

use serde_json::{Value, json};

use super::quota_id::Violation;

const SERVICE: &str = "generativelanguage.googleapis.com";

/// One error answer: the HTTP status and the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// The HTTP status.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// The body itself.
    pub text: String,
}

/// Google's usual shape.
fn google(code: u16, status: &str, message: &str, details: &[Value]) -> ErrorBody {
    let mut error = json!({"code": code, "message": message, "status": status});
    if !details.is_empty() {
        error["details"] = details.into();
    }
    let text = json!({"error": error}).to_string();
    ErrorBody { status: code, content_type: "application/json; charset=UTF-8", text }
}

/// A front end's own answer, which is not JSON.
fn html(code: u16, title: &str) -> ErrorBody {
    let text =
        format!("<!DOCTYPE html>\n<html><title>Error {code} ({title})</title><p>{code}. {title}.</html>\n");
    ErrorBody { status: code, content_type: "text/html; charset=UTF-8", text }
}

fn error_info(reason: &str, metadata: Value) -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": metadata,
    })
}

fn service_info(reason: &str) -> Value {
    error_info(reason, json!({"service": SERVICE}))
}

fn consumer_info(reason: &str) -> Value {
    error_info(reason, json!({"service": SERVICE, "consumer": "projects/123"}))
}

fn violation(violation: &Violation) -> Value {
    let mut entry = json!({
        "quotaMetric": violation.metric,
        "quotaId": violation.quota_id,
        "quotaDimensions": {"location": "global", "model": violation.model},
    });
    if violation.value > 0 {
        entry["quotaValue"] = violation.value.to_string().into();
    }
    entry
}

/// A duration as protobuf writes it: `34s`, `11.769242877s`.
pub fn protobuf_duration(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => format!("{}s", duration.as_secs()),
        nanos => format!("{}.{nanos:09}s", duration.as_secs()),
    }
}

/// Row 1 to 3: 429 for spent quotas, all of them named.
///
/// `wait` is the truth for minute limits. If a daily limit is among the violations it is ignored, and the
/// answer carries the short hint that Google gives on a refusal which lasts until midnight.
pub fn quota_429(violations: &[Violation], wait: Duration) -> ErrorBody {
    let daily = violations.iter().any(|violation| violation.daily);
    let (told, delay) =
        if daily { (Duration::new(26, 211_922_938), Duration::from_secs(26)) } else { (wait, wait) };
    let mut message = String::from(
        "You exceeded your current quota, please check your plan and billing details. For more information \
         on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.",
    );
    for Violation { metric, model, value, .. } in violations {
        message += &format!("\n* Quota exceeded for metric: {metric}, limit: {value}, model: {model}");
    }
    message += &format!("\nPlease retry in {}.", protobuf_duration(told));
    let details = [
        json!({"@type": "type.googleapis.com/google.rpc.Help", "links": [{
            "description": "Learn more about Gemini API quotas",
            "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
        }]}),
        json!({
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": violations.iter().map(violation).collect::<Vec<_>>(),
        }),
        json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": protobuf_duration(delay)}),
    ];
    google(429, "RESOURCE_EXHAUSTED", &message, &details)
}

/// Row 4: 429 that says nothing about which quota, if any.
pub fn opaque_429() -> ErrorBody {
    google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", &[])
}

/// Row 2, in the Interactions API's shape, where the code is a word.
pub fn interactions_quota_exceeded() -> ErrorBody {
    let error = json!({"code": "quota_exceeded", "message": "You exceeded your current quota."});
    let text = json!({ "error": error }).to_string();
    ErrorBody { status: 429, content_type: "application/json; charset=UTF-8", text }
}

/// Row 4, in the Interactions API's shape.
pub fn interactions_too_many_requests() -> ErrorBody {
    let error = json!({"code": "too_many_requests", "message": "Too many requests. Please retry later."});
    let text = json!({ "error": error }).to_string();
    ErrorBody { status: 429, content_type: "application/json; charset=UTF-8", text }
}

/// Row 5: the billing account spends too fast.
pub fn spend_rate_429() -> ErrorBody {
    let message = "Your billing account has exceeded its spend rate limit. Please retry later.";
    google(429, "RESOURCE_EXHAUSTED", message, &[])
}

/// Row 6: the project has reached its monthly cap.
pub fn spending_cap_429() -> ErrorBody {
    let message = "Your project has exceeded its monthly spending cap. Please raise the cap or wait.";
    google(429, "RESOURCE_EXHAUSTED", message, &[])
}

/// Row 7: the billing account's credit is used up.
pub fn credits_depleted_429() -> ErrorBody {
    let message = "Your prepayment credits are depleted. Please manage your project and billing.";
    google(429, "RESOURCE_EXHAUSTED", message, &[])
}

/// Row 7: the same as a 402.
pub fn payment_required() -> ErrorBody {
    google(402, "FAILED_PRECONDITION", "Payment is required: your prepayment credits are depleted.", &[])
}

/// Row 8: a key that Google does not know. It is a 400, not a 401.
pub fn invalid_key() -> ErrorBody {
    let message = "API key not valid. Please pass a valid API key.";
    google(400, "INVALID_ARGUMENT", message, &[service_info("API_KEY_INVALID")])
}

/// Row 8: a key past its date.
pub fn expired_key() -> ErrorBody {
    let message = "API key expired. Please renew the API key.";
    google(400, "INVALID_ARGUMENT", message, &[service_info("API_KEY_INVALID")])
}

/// Row 9: a key that is bound in a way the method does not take.
pub fn access_token_type_unsupported() -> ErrorBody {
    let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or \
                   other valid authentication credential.";
    google(401, "UNAUTHENTICATED", message, &[service_info("ACCESS_TOKEN_TYPE_UNSUPPORTED")])
}

/// Row 10: a key that was found in public.
pub fn leaked() -> ErrorBody {
    google(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key.", &[])
}

/// Row 11: a suspended key. The answer shows the whole key, twice.
pub fn suspended(key: &str) -> ErrorBody {
    let message = format!("Permission denied: Consumer 'api_key:{key}' has been suspended.");
    let metadata =
        json!({"consumer": "projects/123", "service": SERVICE, "containerInfo": format!("api_key:{key}")});
    google(403, "PERMISSION_DENIED", &message, &[error_info("CONSUMER_SUSPENDED", metadata)])
}

/// Row 12: the project has not enabled the API.
pub fn service_disabled() -> ErrorBody {
    let message = "Generative Language API has not been used in project 123 before or it is disabled.";
    google(403, "PERMISSION_DENIED", message, &[consumer_info("SERVICE_DISABLED")])
}

/// Row 12: the project is gone.
pub fn consumer_invalid() -> ErrorBody {
    let message = "Permission denied on resource project 123.";
    google(403, "PERMISSION_DENIED", message, &[consumer_info("CONSUMER_INVALID")])
}

/// Row 12: the project has no billing where it needs it.
pub fn billing_disabled() -> ErrorBody {
    let message = "This API method requires billing to be enabled on project #123.";
    google(403, "PERMISSION_DENIED", message, &[consumer_info("BILLING_DISABLED")])
}

/// Row 12: the project was shut out.
pub fn project_denied() -> ErrorBody {
    let message = "Your project has been denied access. Please contact support.";
    google(403, "PERMISSION_DENIED", message, &[])
}

/// Row 13: the key is restricted to other services.
pub fn service_blocked() -> ErrorBody {
    let message = format!("Requests to this API {SERVICE} method are blocked.");
    google(403, "PERMISSION_DENIED", &message, &[consumer_info("API_KEY_SERVICE_BLOCKED")])
}

/// Row 13: the key is restricted to other addresses.
pub fn ip_address_blocked() -> ErrorBody {
    let message = "The provided API key has an IP address restriction. The originating IP address of the call \
                   violates this restriction.";
    google(403, "PERMISSION_DENIED", message, &[consumer_info("API_KEY_IP_ADDRESS_BLOCKED")])
}

/// Row 13: the key is restricted to other sites.
pub fn referrer_blocked() -> ErrorBody {
    let message = "Requests from referer <empty> are blocked.";
    google(403, "PERMISSION_DENIED", message, &[consumer_info("API_KEY_HTTP_REFERRER_BLOCKED")])
}

/// Row 14: a file of another project.
pub fn file_forbidden() -> ErrorBody {
    let message = "You do not have permission to access the File fake-file or it may not exist.";
    google(403, "PERMISSION_DENIED", message, &[])
}

/// Row 14: the same as a 404.
pub fn resource_not_found() -> ErrorBody {
    google(404, "NOT_FOUND", "Requested entity was not found.", &[])
}

/// Row 15: no permission, and no word on why.
pub fn caller_forbidden() -> ErrorBody {
    google(403, "PERMISSION_DENIED", "The caller does not have permission", &[])
}

/// Row 16: more than one key in one request.
pub fn multiple_credentials() -> ErrorBody {
    let message = "Multiple authentication credentials received. Please pass only one.";
    google(400, "INVALID_ARGUMENT", message, &[])
}

/// Row 17: a caller in the wrong place.
pub fn location_unsupported() -> ErrorBody {
    google(400, "FAILED_PRECONDITION", "User location is not supported for the API use.", &[])
}

/// Row 18: a request that is wrong in itself.
pub fn bad_request(message: &str) -> ErrorBody {
    google(400, "INVALID_ARGUMENT", message, &[])
}

/// Row 18: a request that is too large.
pub fn too_large() -> ErrorBody {
    google(413, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes.", &[])
}

/// Row 18: no error at all, but an answer that a safety filter withheld; it comes with 200.
pub fn withheld() -> Value {
    json!({
        "candidates": [{"finishReason": "SAFETY", "index": 0}],
        "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7},
    })
}

/// Row 18: a model that does not exist.
pub fn unknown_model(version: &str, model: &str, method: &str) -> ErrorBody {
    let message = format!(
        "models/{model} is not found for API version {version}, or is not supported for {method}. Call \
         ListModels to see the list of available models and their supported methods."
    );
    google(404, "NOT_FOUND", &message, &[])
}

/// A path that is no method at all.
pub fn unknown_path() -> ErrorBody {
    html(404, "Not Found")
}

/// Row 19: a model that new projects no longer get.
pub fn retired_model(model: &str) -> ErrorBody {
    let message = format!("This model models/{model} is no longer available to new users.");
    google(404, "NOT_FOUND", &message, &[])
}

/// A call without a key.
pub fn missing_key() -> ErrorBody {
    let message = "Method doesn't allow unregistered callers (callers without established identity). Please use \
                   API Key or other form of API consumer identity to call this API.";
    google(403, "PERMISSION_DENIED", message, &[])
}

/// Row 20: the model has too many callers, whatever their keys.
pub fn overloaded() -> ErrorBody {
    google(503, "UNAVAILABLE", "The model is overloaded. Please try again later.", &[])
}

/// Row 20: the same in newer words.
pub fn high_demand() -> ErrorBody {
    let message = "This model is currently experiencing high demand. Please try again later.";
    google(503, "UNAVAILABLE", message, &[])
}

/// Row 21: a fault inside.
pub fn internal() -> ErrorBody {
    google(500, "INTERNAL", "An internal error has occurred. Please retry.", &[])
}

/// Row 21: the front end found no back end.
pub fn bad_gateway() -> ErrorBody {
    html(502, "Server Error")
}

/// Row 21: the answer took too long.
pub fn deadline_exceeded() -> ErrorBody {
    google(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete.", &[])
}

/// Any other status, with a body that only says so.
pub fn bare(status: u16) -> ErrorBody {
    google(status, "UNKNOWN", &format!("The service answered with status {status}."), &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dimension, Tier};

    fn parsed(body: &ErrorBody) -> Value {
        serde_json::from_str(&body.text).unwrap()
    }

    #[test]
    fn a_minute_refusal_names_quota_value_model_and_the_true_delay() {
        let spent = Violation::new(Dimension::Rpm, false, Tier::Free, "gemini-3-flash", 5);
        let body = parsed(&quota_429(&[spent], Duration::new(11, 769_242_877)));
        let details = &body["error"]["details"];
        let entry = &details[1]["violations"][0];
        assert_eq!(entry["quotaId"], "GenerateRequestsPerMinutePerProjectPerModel-FreeTier");
        assert_eq!(entry["quotaValue"], "5");
        assert_eq!(entry["quotaDimensions"]["model"], "gemini-3-flash");
        assert_eq!(details[2]["retryDelay"], "11.769242877s");
        assert!(body["error"]["message"].as_str().unwrap().ends_with("Please retry in 11.769242877s."));
    }

    #[test]
    fn a_daily_refusal_gives_a_short_and_misleading_delay() {
        let spent = Violation::new(Dimension::Rpd, false, Tier::Tier1, "m", 20);
        let body = parsed(&quota_429(&[spent], Duration::from_secs(40_000)));
        let details = &body["error"]["details"];
        assert_eq!(details[1]["violations"][0]["quotaId"], "GenerateRequestsPerDayPerProjectPerModel");
        assert_eq!(details[2]["retryDelay"], "26s");
    }

    #[test]
    fn a_limit_of_zero_has_no_quota_value() {
        let spent = Violation::new(Dimension::Rpm, false, Tier::Free, "m", 0);
        let body = parsed(&quota_429(&[spent], Duration::from_secs(60)));
        assert_eq!(body["error"]["details"][1]["violations"][0].get("quotaValue"), None);
        assert!(body["error"]["message"].as_str().unwrap().contains("limit: 0"));
    }

    #[test]
    fn durations_are_written_as_protobuf_writes_them() {
        assert_eq!(protobuf_duration(Duration::from_secs(34)), "34s");
        assert_eq!(protobuf_duration(Duration::from_millis(500)), "0.500000000s");
    }
}
