//! Times between their protobuf and their std forms.

use std::time::Duration;

/// To protobuf; what does not fit (hundreds of billions of years) becomes the largest that does.
pub(crate) fn to_proto(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration)
        .unwrap_or(prost_types::Duration { seconds: 315_576_000_000, nanos: 0 })
}

/// From protobuf; a negative time is zero, since every time of the contract is one to wait.
pub(crate) fn from_proto(duration: prost_types::Duration) -> Duration {
    Duration::try_from(duration).unwrap_or(Duration::ZERO)
}

/// Puts an instant `ahead` of `from`, no further than about a century, so that it cannot overflow.
pub(crate) fn instant_after(from: std::time::Instant, ahead: Duration) -> std::time::Instant {
    const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    from.checked_add(ahead.min(FAR)).unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_survives_the_wire() {
        let duration = Duration::new(34, 769_242_877);
        assert_eq!(from_proto(to_proto(duration)), duration);
    }

    #[test]
    fn a_negative_duration_is_zero() {
        assert_eq!(from_proto(prost_types::Duration { seconds: -3, nanos: 0 }), Duration::ZERO);
    }

    #[test]
    fn an_endless_duration_does_not_overflow() {
        let now = std::time::Instant::now();
        assert!(instant_after(now, Duration::MAX) > now);
        assert!(to_proto(Duration::MAX).seconds > 0);
    }
}
