//! Picking facts out of text that is not whole JSON: cut bodies, prose, HTML.

use std::sync::LazyLock;

use regex::Regex;

use super::body::{ErrorBody, Violation};
use super::{classify, delay, status};

/// Reads what can still be read. The quotes of the patterns may be escaped, because the JSON may
/// itself be a string in other JSON.
pub(super) fn from_text(text: &str) -> ErrorBody {
    static QUOTA: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"[A-Za-z]+Per(?:Day|Minute|Second)(?:[A-Z][A-Za-z]*)?(?:-[A-Za-z0-9]+)?"));
    static DELAY: LazyLock<Regex> = LazyLock::new(|| pattern(r#""retryDelay\\*"\s*:\s*\\*"([^"\\]*)\\*""#));
    static ZERO: LazyLock<Regex> = LazyLock::new(|| pattern(r#""quotaValue\\*"\s*:\s*\\*"?0\b"#));
    static CODE: LazyLock<Regex> =
        LazyLock::new(|| pattern(r#""code\\*"\s*:\s*(?:\\*"([a-z_]+)\\*"|([0-9]+)\b)"#));
    static STATUS: LazyLock<Regex> = LazyLock::new(|| pattern(r#""status\\*"\s*:\s*\\*"([A-Z_]+)\\*""#));

    let code = CODE.captures(text);
    let code_name = code.as_ref().and_then(|found| found.get(1)).map(|name| name.as_str());
    let number = code.as_ref().and_then(|found| found.get(2)).and_then(|number| number.as_str().parse().ok());
    let zero = ZERO.is_match(text).then_some(0);
    ErrorBody {
        status: number
            .and_then(status::from_number)
            .or_else(|| STATUS.captures(text).and_then(|found| status::from_name(&found[1])))
            .or_else(|| code_name.and_then(status::from_name)),
        code_name: code_name.map(str::to_owned),
        message: text.to_owned(),
        reasons: known_reasons(text),
        violations: QUOTA
            .find_iter(text)
            .take(64)
            .map(|found| Violation {
                quota_id: Some(found.as_str().to_owned()),
                value: zero,
                ..Violation::default()
            })
            .collect(),
        retry_delay: DELAY.captures_iter(text).filter_map(|found| delay::from_protobuf(&found[1])).max(),
        whole: false,
    }
}

/// The reasons the broker knows that stand in the text as whole words.
fn known_reasons(text: &str) -> Vec<String> {
    let mut words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect::<Vec<_>>();
    words.retain(|word| classify::knows_reason(word));
    words.sort_unstable();
    words.dedup();
    words.into_iter().map(str::to_owned).collect()
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is valid")
}
