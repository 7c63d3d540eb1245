//! Making an upstream body fit for a log, a store or an answer.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::secret::key_marks;

/// The most bytes of text that [`redact`] returns, the mark of a cut not counted.
pub const MAX_REDACTED: usize = 4 * 1024;

/// Stands where a secret was. It holds nothing that a key is made of.
const MASK: &str = "***";

/// Stands at the end of a text that was cut.
const CUT: &str = "…";

/// A body may have been cut in the middle of a key; so many characters of one at its end are masked too.
const SHORTEST_REST: usize = 4;

/// A secret that begins in the part that is kept may reach this far beyond it and is still seen whole.
const OVERHANG: usize = 4 * 1024;

/// Decodes a body, takes every secret out of it and shortens it to [`MAX_REDACTED`] bytes.
///
/// Masked are the pool's own keys wherever they stand, whatever has the form of a Google key, and the values
/// of `?key=`, `Bearer` and `api_key:`. Google itself echoes whole keys in some of its errors.
#[must_use]
pub fn redact<'k>(body: &[u8], pool_keys: impl Iterator<Item = &'k str>) -> String {
    let cut = body.len().min(MAX_REDACTED + OVERHANG);
    let text = String::from_utf8_lossy(&body[..cut]);
    let mut secrets = Vec::new();
    for key in pool_keys.filter(|key| !key.is_empty()) {
        secrets.extend(text.match_indices(key).map(|(at, found)| at..at + found.len()));
        secrets.extend(rest_of_key(&text, key));
    }
    for pattern in PATTERNS.iter() {
        secrets.extend(pattern.captures_iter(&text).filter_map(|found| {
            let whole = found.get(0)?;
            Some(found.get(1).unwrap_or(whole).range())
        }));
    }
    secrets.sort_unstable_by_key(|secret| secret.start);
    masked(&text, &secrets)
}

/// The forms of secrets; where a pattern has a group, the group is the secret.
///
/// The forms of Google's keys are taken wider than they are: a key that was cut, or of a new length, is still
/// a key, and masking a word too much costs nothing.
static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let of_google = key_marks().map(|mark| format!("{}[0-9A-Za-z_-]{{8,}}", regex::escape(mark)));
    let named = [
        r#"(?i)(?:[?&;]|%3f|%26)key(?:=|%3d)([^&\s"'<>\\]+)"#,
        r#"(?i)\bbearer\s+([^\s"',;<>\\]+)"#,
        r#"(?i)api[_-]?key\\?["']?\s*[:=]\s*\\?["']?([^\s"'&,;<>{}\\]+)"#,
    ];
    let all = of_google.chain(named.map(str::to_owned));
    all.map(|pattern| Regex::new(&pattern).expect("the pattern is valid")).collect()
});

/// Where the text ends in the beginning of a key.
fn rest_of_key(text: &str, key: &str) -> Option<Range<usize>> {
    // A cut inside a character has become a replacement character.
    let end = text.trim_end_matches('\u{fffd}').len();
    key.char_indices()
        .map(|(at, _)| at)
        .filter(|at| *at >= SHORTEST_REST)
        .rev()
        .find(|at| text[..end].ends_with(&key[..*at]))
        .map(|at| end - at..end)
}

/// The text with the secrets masked, which are sorted by their start and may overlap.
fn masked(text: &str, secrets: &[Range<usize>]) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_REDACTED) + CUT.len());
    let mut done = 0;
    for secret in secrets {
        if secret.start > done || (secret.start == done && done == 0) {
            out.push_str(&text[done..secret.start]);
            out.push_str(MASK);
        }
        done = done.max(secret.end);
    }
    out.push_str(&text[done..]);
    if out.len() > MAX_REDACTED {
        let end = (0..=MAX_REDACTED).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
        out.truncate(end);
        out.push_str(CUT);
    }
    out
}
