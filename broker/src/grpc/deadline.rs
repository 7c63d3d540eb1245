//! The deadline of a call, by its header `grpc-timeout`.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Request;

use super::check::Faults;

/// The header.
const HEADER: &str = "grpc-timeout";
/// The most digits that it may have.
const MOST_DIGITS: usize = 8;
/// How long before its deadline a call that waits is answered, so that its caller hears the refusal: a tenth
/// of what there was, within these bounds.
const AHEAD: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// When a call arrived, from which its time runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived(pub(crate) Instant);

/// Until when a call's answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deadline {
    /// When the caller no longer listens.
    pub(super) at: Instant,
    /// When the call is to be answered at the latest.
    pub(super) answer_by: Instant,
}

/// The deadline of a request, if it has one.
pub(super) fn of<T>(request: &Request<T>, faults: &mut Faults) -> Option<Deadline> {
    let value = request.metadata().get(HEADER)?;
    let Some(timeout) = value.to_str().ok().and_then(parse) else {
        faults.add(HEADER, "is not a time; write 1 to 8 digits and one of H M S m u n, such as 500m");
        return None;
    };
    let arrived = request.extensions().get::<Arrived>().map_or_else(Instant::now, |arrived| arrived.0);
    let (least, most) = AHEAD;
    let ahead = (timeout / 10).clamp(least, most).min(timeout);
    Some(Deadline { at: arrived + timeout, answer_by: arrived + (timeout - ahead) })
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=MOST_DIGITS).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(timeout: &str) -> (Option<Deadline>, bool) {
        let mut request = Request::new(());
        request.metadata_mut().insert(HEADER, timeout.parse().unwrap());
        let mut faults = Faults::default();
        (of(&request, &mut faults), faults.into_result().is_err())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_answered_a_little_before_its_deadline_and_never_after_it() {
        let now = Instant::now();
        for (text, timeout, ahead) in
            [("100m", 100, 10), ("10S", 10_000, 250), ("8m", 8, 5), ("2000u", 2, 2), ("0S", 0, 0)]
        {
            let (deadline, faulty) = with(text);
            let deadline = deadline.unwrap();
            assert!(!faulty, "{text}");
            assert_eq!(deadline.at - now, Duration::from_millis(timeout), "{text}");
            assert_eq!(deadline.at - deadline.answer_by, Duration::from_millis(ahead), "{text}");
        }
    }

    #[test]
    fn the_longest_time_that_can_be_written_is_one() {
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
    }

    #[test]
    fn what_is_no_time_is_a_fault() {
        for text in ["", "5", "S", "-5S", "1.5S", "123456789S", "5s", "5 S", "S5", "+5S"] {
            assert_eq!(with(text), (None, true), "{text:?}");
        }
        assert_eq!(of(&Request::new(()), &mut Faults::default()), None, "none is asked for");
    }
}
