//! Errors in JSON: google.rpc.Status in an object `error`, with the code of HTTP, as Google's own APIs answer.

use axum::{
    Json,
    http::{
        HeaderValue, Method, StatusCode,
        header::{ALLOW, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, StatusExt};

use super::routes::NoRoute;

/// A status as an answer.
pub(crate) fn answer(status: &Status) -> Response {
    answer_as(http_status(status.code()), status)
}

/// There is nothing at the path.
pub(super) fn nothing_there() -> Status {
    Status::not_found("there is nothing at this path")
}

/// No such request is served.
pub(super) fn no_route(none: &NoRoute) -> Response {
    let NoRoute::Method(methods) = none else { return answer(&nothing_there()) };
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let methods = methods.join(", ");
    let status = Status::unimplemented(format!("this path takes: {methods}"));
    let mut answer = answer_as(StatusCode::METHOD_NOT_ALLOWED, &status);
    if let Ok(allow) = methods.parse() {
        answer.headers_mut().insert(ALLOW, allow);
    }
    answer
}

/// The same with another status of HTTP than its code has.
fn answer_as(http: StatusCode, status: &Status) -> Response {
    let mut response = (http, Json(body_as(http, status))).into_response();
    if let Some(delay) = status.get_error_details().retry_info().and_then(|info| info.retry_delay) {
        let seconds = delay.as_millis().div_ceil(1000);
        if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
            response.headers_mut().insert(RETRY_AFTER, value);
        }
    }
    response
}

/// What an answer says of a status.
pub(super) fn body(status: &Status) -> Value {
    body_as(http_status(status.code()), status)
}

fn body_as(http: StatusCode, status: &Status) -> Value {
    let details: Vec<Value> = status.get_error_details_vec().iter().filter_map(detail).collect();
    let mut error = json!({
        "code": http.as_u16(),
        "message": status.message(),
        "status": name_of(status.code()),
    });
    if !details.is_empty() {
        error["details"] = Value::Array(details);
    }
    json!({ "error": error })
}

/// The details that the contract has.
fn detail(detail: &ErrorDetail) -> Option<Value> {
    let typed = |name: &str, value: Value| {
        let mut all =
            Map::from_iter([("@type".to_owned(), json!(format!("type.googleapis.com/google.rpc.{name}")))]);
        all.extend(value.as_object().cloned().unwrap_or_default());
        Value::Object(all)
    };
    Some(match detail {
        ErrorDetail::ErrorInfo(info) => {
            let value = json!({ "reason": info.reason, "domain": info.domain, "metadata": info.metadata });
            typed("ErrorInfo", value)
        }
        ErrorDetail::BadRequest(bad) => {
            let fields = bad.field_violations.iter();
            let fields =
                fields.map(|field| json!({ "field": field.field, "description": field.description }));
            typed("BadRequest", json!({ "fieldViolations": fields.collect::<Vec<_>>() }))
        }
        ErrorDetail::RetryInfo(info) => {
            let delay = info.retry_delay?;
            typed(
                "RetryInfo",
                json!({ "retryDelay": format!("{}.{:03}s", delay.as_secs(), delay.subsec_millis()) }),
            )
        }
        ErrorDetail::QuotaFailure(failure) => {
            let quotas = failure.violations.iter();
            let quotas = quotas.map(|one| json!({ "subject": one.subject, "description": one.description }));
            typed("QuotaFailure", json!({ "violations": quotas.collect::<Vec<_>>() }))
        }
        ErrorDetail::RequestInfo(info) => typed("RequestInfo", json!({ "requestId": info.request_id })),
        _ => return None,
    })
}

/// As google.rpc.Code says.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The name of a code, as google.rpc.Code has it.
pub(crate) fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
