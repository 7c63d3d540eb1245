//! Probing as it is written.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fault::Findings;
use super::hooks::is_http;
use super::reference;
use super::section::Section;
use super::values::is_this_host;
use crate::catalogue::{Probing, is_model_name};

pub(super) const FIRST: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(24 * 3600);
pub(super) const LONGEST: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(7 * 24 * 3600);

/// Reads `[probing]`.
pub(super) fn read(root: &Section<'_>, found: &mut Findings) -> Probing {
    let default = Probing::default();
    let Some(section) = root.table("probing", found) else { return default };
    section.only(&reference::PROBING, found);
    let enabled = section.truth("enabled", found).unwrap_or(default.enabled);
    let leaked = section.truth("leaked", found).unwrap_or(default.leaked);
    if leaked && !enabled {
        let text = "has no effect, because probing is not enabled";
        found.warn(section.place_of("leaked"), text);
    }
    let first = section.duration("first", FIRST, found);
    let longest = section.duration("longest", LONGEST, found);
    let least = first.unwrap_or(default.first);
    if longest.is_some_and(|longest| longest < least) {
        let fix = "write a longer one, or a shorter `first`";
        found.fault(section.place_of("longest"), "is shorter than `first`", fix);
    }
    Probing {
        enabled,
        leaked,
        base_url: read_base_url(&section, found).unwrap_or(default.base_url),
        first: least,
        // A first interval that is longer than the default is the longest too.
        longest: longest.unwrap_or(default.longest.max(least)),
        model: read_model(&section, found).unwrap_or(default.model),
    }
}

fn read_base_url(section: &Section<'_>, found: &mut Findings) -> Option<String> {
    let text = section.text("base_url", found)?.trim();
    let place = section.place_of("base_url");
    let bare = |url: &url::Url| {
        url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    };
    let Some(url) = is_http(text).filter(bare) else {
        let fix = "write \"https://host\", with a path if need be and nothing after it";
        found.fault(place, "is not a plain http or https URL", fix);
        return None;
    };
    found.keep_name(&place, text);
    if url.scheme() == "http" && !is_this_host(url.host_str()) {
        found.warn(place, "is not https, so keys that are probed can be read on their way");
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn read_model(section: &Section<'_>, found: &mut Findings) -> Option<String> {
    let text = section.text("model", found)?;
    let bare = text.strip_prefix("models/").unwrap_or(text);
    let rule = "name one model, such as \"gemini-2.5-flash\"";
    section.checked_name("model", bare, is_model_name, rule, found).map(str::to_owned)
}
