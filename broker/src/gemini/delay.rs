//! How long Google asks a caller to wait, in the forms in which it says so.

use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;

/// No quota of Google lives longer than a month, so a longer wait is garbage and not a hint.
const LONGEST: Duration = Duration::from_secs(32 * 86_400);

/// The wait, unless it is absurd.
pub(super) fn sane(delay: Duration) -> Option<Duration> {
    (delay <= LONGEST).then_some(delay)
}

/// Reads a protobuf Duration in its JSON form: decimal seconds with an `s`, as in `11.769242877s`.
pub(super) fn from_protobuf(text: &str) -> Option<Duration> {
    let seconds = text.trim().strip_suffix('s')?;
    quantity(seconds, 1_000_000_000).and_then(from_nanos)
}

/// Finds `retry in 26.2s` in a message. The time is written as Go writes durations, so
/// `533.97ms` and `1h2m3.5s` are seen as well.
pub(super) fn from_message(text: &str) -> Option<Duration> {
    static SENTENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)\bretry in ((?:[0-9]+(?:\.[0-9]+)?(?:ms|us|µs|ns|h|m|s))+)")
            .expect("the pattern is valid")
    });
    SENTENCE.captures(text).and_then(|found| from_go(&found[1]))
}

fn from_go(text: &str) -> Option<Duration> {
    static PART: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)([0-9]+(?:\.[0-9]+)?)(ms|us|µs|ns|h|m|s)").expect("the pattern is valid")
    });
    let mut total: u128 = 0;
    for part in PART.captures_iter(text) {
        let unit = match part[2].to_lowercase().as_str() {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "ns" => 1,
            _ => 1_000,
        };
        total = total.checked_add(quantity(&part[1], unit)?)?;
    }
    from_nanos(total)
}

/// A decimal number of units, in nanoseconds; `None` for anything but digits and one point.
fn quantity(text: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    // Twelve digits of seconds are thirty thousand years; more digits could only overflow.
    if !digits(whole) || !digits(fraction) || whole.len() > 12 {
        return None;
    }
    let kept = &fraction[..fraction.len().min(9)];
    let places = u32::try_from(kept.len()).expect("at most nine places are kept");
    let whole: u128 = whole.parse().ok()?;
    let part: u128 = kept.parse().ok()?;
    Some(whole * unit + part * unit / 10_u128.pow(places))
}

fn from_nanos(nanos: u128) -> Option<Duration> {
    u64::try_from(nanos).ok().map(Duration::from_nanos).and_then(sane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_durations_are_read_to_the_nanosecond() {
        for (text, expected) in [
            ("34s", Duration::from_secs(34)),
            ("11.769242877s", Duration::new(11, 769_242_877)),
            ("0s", Duration::ZERO),
            ("0.5s", Duration::from_millis(500)),
            ("85783s", Duration::from_secs(85_783)),
        ] {
            assert_eq!(from_protobuf(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn garbage_negative_and_absurd_durations_are_ignored() {
        for text in [
            "",
            "s",
            "-3s",
            "34",
            "1e3s",
            "3.s",
            ".5s",
            "3 4s",
            "NaNs",
            "infs",
            "2764801s",
            "99999999999999999999s",
            "١s",
        ] {
            assert_eq!(from_protobuf(text), None, "{text}");
        }
        assert_eq!(from_protobuf("2764800s"), Some(LONGEST));
    }

    #[test]
    fn the_sentence_in_a_message_is_read() {
        for (text, expected) in [
            ("Quota exceeded.\nPlease retry in 26.2s.", Some(Duration::from_millis(26_200))),
            ("please RETRY IN 533.5ms.", Some(Duration::from_micros(533_500))),
            ("Please retry in 1h2m3.5s.", Some(Duration::from_millis(3_723_500))),
            ("Please retry in 7us", Some(Duration::from_micros(7))),
            ("Please retry in -4s.", None),
            ("Please retry in 99999999999h.", None),
            ("Please retry later.", None),
        ] {
            assert_eq!(from_message(text), expected, "{text}");
        }
    }
}
