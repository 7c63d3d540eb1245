//! Domain types as wire types.

use std::time::Duration;

use keybroker_proto::v1::{self, Signal as WireSignal, advice::Action as WireAction};

use crate::{
    gemini::{Action, Signal},
    ledger::{Millis, SettleState},
    pool::{Grant, Reported},
};

pub(super) fn lease(grant: &Grant) -> v1::Lease {
    v1::Lease {
        lease_id: grant.lease_id.clone(),
        key_id: grant.key.id.clone(),
        api_key: grant.key.secret.expose().to_owned(),
        project: grant.project.clone(),
        quota_model: grant.quota_model.clone(),
        send_within: Some(duration(grant.send_within)),
        expires_at: Some(timestamp(grant.expires_at)),
        expires_in: Some(duration(grant.expires_in)),
        permits: i32::try_from(grant.permits).unwrap_or(i32::MAX),
        over_plan: grant.over_plan,
    }
}

pub(super) fn reported(lease_id: &str, reported: &Reported) -> v1::ReportResult {
    let state = match reported.state {
        SettleState::Settled => v1::SettleState::Settled,
        SettleState::Late => v1::SettleState::SettledLate,
        SettleState::Already => v1::SettleState::AlreadySettled,
        SettleState::Unknown => v1::SettleState::UnknownLease,
    };
    let action = match reported.action {
        Action::Done => WireAction::Done,
        Action::RetryOtherKey => WireAction::RetryOtherKey,
        Action::RetryAfter => WireAction::RetryAfter,
        Action::DoNotRetry => WireAction::DoNotRetry,
    };
    let advice = v1::Advice {
        action: action.into(),
        retry_after: reported.retry_after.map(duration),
        signal: signal(reported.signal).into(),
        message: reported.message.clone(),
        once: reported.once,
    };
    v1::ReportResult { lease_id: lease_id.to_owned(), state: state.into(), advice: Some(advice) }
}

/// The two enums name their variants alike; a test holds them equal.
fn signal(signal: Signal) -> WireSignal {
    let name = format!("SIGNAL_{}", signal.as_str().to_uppercase());
    WireSignal::from_str_name(&name).unwrap_or(WireSignal::Unspecified)
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

pub(super) fn timestamp(at: Millis) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.div_euclid(1000),
        nanos: i32::try_from(at.rem_euclid(1000) * 1_000_000).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_a_namesake_on_the_wire() {
        for each in Signal::ALL {
            assert_ne!(signal(each), WireSignal::Unspecified, "{each}");
        }
    }
}
