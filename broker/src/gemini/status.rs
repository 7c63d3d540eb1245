//! The three ways in which an error names its status, brought to one: HTTP's.

/// Reads a numeric code: an HTTP status, or the number of a canonical RPC code as batches and
/// operations carry it.
pub(super) fn from_number(code: u64) -> Option<u16> {
    const RPC: [u16; 16] = [499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
    match code {
        1..=16 => RPC.get(usize::try_from(code - 1).ok()?).copied(),
        300..=599 => u16::try_from(code).ok(),
        _ => None,
    }
}

/// Reads a name: `RESOURCE_EXHAUSTED`, or the snake_case code of the Interactions API.
pub(super) fn from_name(name: &str) -> Option<u16> {
    Some(match name.to_ascii_lowercase().as_str() {
        "invalid_argument" | "invalid_request" | "failed_precondition" | "out_of_range" => 400,
        "unauthenticated" | "authentication_error" => 401,
        "permission_denied" | "forbidden" => 403,
        "not_found" => 404,
        "already_exists" | "aborted" | "conflict" => 409,
        "resource_exhausted" | "quota_exceeded" | "rate_limit_exceeded" | "too_many_requests" => 429,
        "cancelled" => 499,
        "internal" | "internal_error" | "api_error" | "server_error" | "unknown" | "data_loss" => 500,
        "unimplemented" => 501,
        "unavailable" | "service_unavailable" | "overloaded" => 503,
        "deadline_exceeded" | "gateway_timeout" | "timeout" => 504,
        _ => return None,
    })
}
