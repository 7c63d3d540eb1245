//! Clocks: this host's against those by which leases are counted.

use jiff::SignedDuration;

use super::finding::{Check, Severity};

/// How far apart clocks may be.
const NEAR: SignedDuration = SignedDuration::from_secs(1);
/// Beyond this, days and certificates are wrong as well.
const FAR: SignedDuration = SignedDuration::from_secs(60);

/// A clock that was read.
pub(super) struct Clock {
    /// Whose.
    pub(super) place: String,
    /// By which findings about it are known.
    pub(super) id: &'static str,
    /// How far it is ahead of the other.
    pub(super) ahead: SignedDuration,
    /// Of which other.
    pub(super) of: &'static str,
}

pub(super) fn check(clocks: &[Clock]) -> Check {
    if clocks.is_empty() {
        return Check::skipped("clocks", "no Redis and no broker to compare with");
    }
    let mut check = Check::of("clocks");
    let worst = clocks.iter().map(|clock| clock.ahead.abs()).max().unwrap_or_default();
    check.seen = format!("{} compared, at most {} ms apart", clocks.len(), worst.as_millis());
    for Clock { place, id, ahead, of } in clocks.iter().filter(|clock| clock.ahead.abs() > NEAR) {
        let severity = if ahead.abs() > FAR { Severity::Error } else { Severity::Warning };
        let way = if ahead.is_negative() { "behind" } else { "ahead of" };
        let what = format!("its clock is {:.1} s {way} {of}", ahead.abs().as_secs_f64());
        check.add(severity, id, place, what, "have every host follow one time server (NTP)");
    }
    check
}
