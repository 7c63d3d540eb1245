//! Logs as they are written.

use std::ops::RangeInclusive;

use super::fault::Findings;
use super::reference;
use super::section::Section;
use crate::log::{LogSettings, parse};

/// How many refusals may be logged a second.
pub(super) const REFUSALS: RangeInclusive<u64> = 0..=1000;

/// Reads `[log]`.
pub(super) fn read(root: &Section<'_>, found: &mut Findings) -> LogSettings {
    let default = LogSettings::default();
    let Some(section) = root.table("log", found) else { return default };
    section.only(&reference::LOG, found);
    let refusals = section.number("refusals_per_second", REFUSALS, found);
    LogSettings {
        level: read_level(&section, found),
        refusals_per_second: refusals
            .and_then(|most| u32::try_from(most).ok())
            .unwrap_or(default.refusals_per_second),
    }
}

fn read_level(section: &Section<'_>, found: &mut Findings) -> Option<String> {
    let text = section.text("level", found)?;
    let place = section.place_of("level");
    if parse(text).is_err() {
        let fix = "write error, warn, info, debug or trace, or directives such as \"info,keybroker=debug\"";
        found.fault(place, "is not a level or directive", fix);
        return None;
    }
    found.keep_name(&place, text);
    Some(text.to_owned())
}
