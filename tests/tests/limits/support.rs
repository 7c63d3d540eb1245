//! What these tests ask, report and look up.

use std::time::Duration;

use keybroker_proto::v1::{
    AcquireRequest, Constraints, Lease, LeaseReport, LimitStatus, ResetCooldownsRequest, Success, Usage,
    lease_report::Outcome,
};
use keybroker_tests::{
    fake_gemini::{bodies, quota_id::Violation},
    harness::api::{Api, MODEL, answered, ask, reported},
};

/// A request of a pool.
pub(super) fn of_pool(pool: &str) -> AcquireRequest {
    AcquireRequest { pool: pool.to_owned(), ..ask(MODEL) }
}

/// A request for a project's keys.
pub(super) fn of_project(project: &str) -> AcquireRequest {
    let constraints = Constraints { project: project.to_owned(), ..Constraints::default() };
    AcquireRequest { constraints: Some(constraints), ..ask(MODEL) }
}

/// Leases that must be granted.
pub(super) async fn leases(api: &Api, request: &AcquireRequest, count: usize) -> Vec<Lease> {
    let mut leases = Vec::new();
    for _ in 0..count {
        leases.push(api.acquire(request.clone()).await.unwrap());
    }
    leases
}

/// Reports a success with that usage.
pub(super) fn used(lease: &Lease, input: i64, cached: i64, output: i64) -> LeaseReport {
    let usage = Usage {
        input_tokens: Some(input),
        output_tokens: Some(output),
        total_tokens: Some(input + output),
        cached_tokens: Some(cached),
        thoughts_tokens: None,
    };
    reported(&lease.lease_id, Outcome::Success(Success { usage: Some(usage) }))
}

/// A quota of requests per day that Google names.
pub(super) const A_DAY: &str = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
/// A quota of requests per minute.
pub(super) const A_MINUTE: &str = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier";
/// A quota of input tokens per minute.
pub(super) const TOKENS: &str = "GenerateContentInputTokensPerModelPerMinute-FreeTier";

/// Reports that Google refused with these quotas: ids and values.
pub(super) fn refused_by_google(lease: &Lease, model: &str, quotas: &[(&str, u64)]) -> LeaseReport {
    let violation = |(quota_id, value): &(&str, u64)| Violation {
        metric: "generativelanguage.googleapis.com/fake".to_owned(),
        quota_id: (*quota_id).to_owned(),
        model: model.to_owned(),
        value: *value,
        daily: quota_id.contains("PerDay"),
    };
    let violations: Vec<Violation> = quotas.iter().map(violation).collect();
    let body = bodies::quota_429(&violations, Duration::from_secs(30));
    answered(&lease.lease_id, i32::from(body.status), body.text)
}

/// Ends the cooldowns of a pool; how many.
pub(super) async fn reset(api: &Api, pool: &str) -> i32 {
    let request = ResetCooldownsRequest { name: format!("pools/{pool}"), quota_model: String::new() };
    api.admin().reset_cooldowns(request).await.unwrap().into_inner().reset_count
}

/// How a limit stands.
pub(super) async fn limit_of(api: &Api, pool: &str, subject: &str, limit: &str) -> LimitStatus {
    let limits = api.try_inspect(pool).await.unwrap().limits;
    let found = limits
        .iter()
        .find(|status| (status.subject.as_str(), status.limit_name.as_str()) == (subject, limit));
    found.unwrap_or_else(|| panic!("no {limit} of {subject} in {limits:#?}")).clone()
}
