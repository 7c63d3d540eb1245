//! How much is wanted over a day, relative to what there is.

use std::f64::consts::TAU;

use crate::sim::setting::HOUR;

/// What is wanted in the quietest and in the busiest hour, as shares of what there is.
pub(super) const QUIET: f64 = 0.2;
pub(super) const BUSY: f64 = 1.5;

/// The load at so many milliseconds since the day began, as a share of what there is: one long hump with its top in
/// the afternoon and a smaller one in the morning.
pub(super) fn load(at: i64) -> f64 {
    let hour = at as f64 / HOUR as f64;
    let wave = |hours: f64, top: f64| ((hour - top) / hours * TAU).cos();
    let hump = 0.5 + 0.42 * wave(24.0, 15.0) + 0.08 * wave(12.0, 10.0);
    QUIET + (BUSY - QUIET) * hump.clamp(0.0, 1.0)
}
