//! Refusals, told apart by what they name and when they end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keybroker_proto::v1::AcquireRequest;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::api::{Api, Details};

/// Why a lease was refused.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The gRPC code.
    pub code: Code,
    /// The reason of its `ErrorInfo`.
    pub reason: String,
    /// What its `QuotaFailure` names; empty if it has none.
    pub subject: String,
    /// What is said of that.
    pub description: String,
    /// The whole message.
    pub message: String,
    /// When a lease can be given, by the ledger's clock in milliseconds; 0 if that is not said.
    pub retry_at: i64,
    /// The same as a time from then.
    pub retry_after: Option<Duration>,
}

impl Refused {
    /// Reads a refusal.
    ///
    /// # Panics
    /// If it names more than one thing that is spent.
    pub fn of(status: &Status) -> Self {
        let details = Details::of(status);
        let spent = status.get_error_details().quota_failure().map(|failure| failure.violations.clone());
        let mut spent = spent.unwrap_or_default();
        assert!(spent.len() <= 1, "one thing is named: {spent:?}");
        let spent = spent.pop();
        let retry_at = details.metadata.get("retry_at_unix_ms").and_then(|at| at.parse().ok());
        Self {
            code: status.code(),
            reason: details.reason,
            subject: spent.as_ref().map(|spent| spent.subject.clone()).unwrap_or_default(),
            description: spent.map(|spent| spent.description).unwrap_or_default(),
            message: status.message().to_owned(),
            retry_at: retry_at.unwrap_or_default(),
            retry_after: details.retry_after,
        }
    }

    /// Whether it is of a limit of that name, reached by that subject.
    ///
    /// # Panics
    /// If it is not.
    pub fn is_of_limit(&self, subject: &str, limit: &str) {
        assert_eq!(
            (self.code, self.reason.as_str()),
            (Code::ResourceExhausted, "QUOTA_EXHAUSTED"),
            "{self:?}"
        );
        assert_eq!(self.subject, subject, "{self:?}");
        let told = format!("{subject}: the limit of {limit} is reached");
        assert!(self.description.contains(&told), "{told:?} is not in {:?}", self.description);
    }
}

/// The refusal of a request that must be refused.
///
/// # Panics
/// If it is granted.
pub async fn refused(api: &Api, request: AcquireRequest) -> Refused {
    match api.acquire(request.clone()).await {
        Ok(lease) => panic!("{request:?} is granted with key {}", lease.key_id),
        Err(status) => Refused::of(&status),
    }
}

/// Now, in milliseconds since the Unix epoch: brokers and Redis of a test have the same clock.
///
/// # Panics
/// If the clock is before that.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    i64::try_from(since.as_millis()).expect("it is earlier than the year 292 million")
}
