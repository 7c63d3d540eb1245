//! Reading of values that are neither plain text nor plain numbers.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::fault::Findings;
use super::nearest::nearest;
use super::section::Section;
use crate::catalogue::Dollars;

impl Section<'_> {
    /// A field that, if it is there, must be true or false.
    pub(super) fn truth(&self, field: &str, found: &mut Findings) -> Option<bool> {
        match self.value(field)? {
            DeValue::Boolean(truth) => Some(*truth),
            other => {
                self.wrong_type(field, other, "true or false, without quotes", found);
                None
            }
        }
    }

    /// A field that, if it is there, must be one of some names; `noun` says of what.
    pub(super) fn choice<T: Copy>(
        &self,
        field: &str,
        noun: &str,
        choices: &[T],
        name: fn(T) -> &'static str,
        found: &mut Findings,
    ) -> Option<T> {
        let text = self.text(field, found)?;
        let chosen = choices.iter().copied().find(|choice| name(*choice) == text);
        if chosen.is_none() {
            let fix = one_of(text, choices.iter().map(|choice| name(*choice)));
            found.fault(self.place_of(field), format!("is not {noun}"), fix);
        }
        chosen
    }

    /// A field that, if it is there, must be an amount of US dollars whose millionths are within
    /// a range. It is read from its digits, since a binary fraction would not be exact.
    pub(super) fn dollars(
        &self,
        field: &str,
        range: RangeInclusive<u64>,
        found: &mut Findings,
    ) -> Option<u64> {
        let (least, most) = (Dollars(*range.start()), Dollars(*range.end()));
        let text = match self.value(field)? {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            DeValue::Integer(_) => "",
            DeValue::Float(float) => float.as_str(),
            other => {
                self.wrong_type(field, other, &format!("US dollars, {least} to {most}"), found);
                return None;
            }
        };
        let problem = match Dollars::parse(text.trim_start_matches('+')) {
            Some(Dollars(micros)) if range.contains(&micros) => return Some(micros),
            Some(_) => "is out of range",
            None => "is not an amount of dollars with at most six decimals",
        };
        let fix = format!("write US dollars, {least} to {most}, such as {field} = 2.5");
        found.fault(self.place_of(field), problem, fix);
        None
    }
}

/// Whether a host, as it stands in a URL, is this one.
pub(crate) fn is_this_host(host: Option<&str>) -> bool {
    let host = host.unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A fix for a name that is none of the known ones.
pub(super) fn one_of<'a>(mistaken: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(mistaken, known.clone()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("write \"{}\"", known.collect::<Vec<_>>().join("\" or \"")),
    }
}
