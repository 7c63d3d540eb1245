//! Money is counted in whole millionths of a US dollar: fractions would not add up the same everywhere.

use std::fmt;

/// How many millionths a dollar has.
const MICROS: u64 = 1_000_000;

/// The digits after the point that a millionth of a dollar has.
const PLACES: usize = 6;

/// An amount of money in millionths of a US dollar, written in dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dollars(
    /// Millionths.
    pub u64,
);

impl Dollars {
    /// Reads plain decimal dollars such as `2`, `2.5` or `0.000001`, exactly. Nothing if the text
    /// is anything else, is finer than a millionth, or is too large to be counted.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > PLACES {
            return None;
        }
        let whole = whole.parse::<u64>().ok()?.checked_mul(MICROS)?;
        whole.checked_add(format!("{fraction:0<PLACES$}").parse().ok()?).map(Self)
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / MICROS, self.0 % MICROS);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{fraction:0>PLACES$}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}
