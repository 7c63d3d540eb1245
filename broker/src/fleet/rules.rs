//! Limits as they are written at run time, by the names of the configuration.

use std::collections::BTreeMap;

use crate::{
    catalogue::{LARGEST_AMOUNT, Limit, LimitRule},
    config::{LIMIT_FIELDS, nearest},
    registry::WrittenRule,
    secret::{HOLDS_A_KEY, holds_a_key},
};

/// Reads rules; each fault names its field below `field`.
pub(super) fn parse(
    rules: &[WrittenRule],
    field: &str,
    faults: &mut Vec<(String, String)>,
) -> Vec<LimitRule> {
    let mut parsed = Vec::with_capacity(rules.len());
    for (index, rule) in rules.iter().enumerate() {
        let place = format!("{field}[{index}]");
        let model = if rule.model.is_empty() { "*" } else { &rule.model };
        let model = match model.parse() {
            Ok(_) if holds_a_key(model) => {
                faults.push((format!("{place}.model"), HOLDS_A_KEY.to_owned()));
                None
            }
            Ok(model) => Some(model),
            Err(error) => {
                faults.push((format!("{place}.model"), format!("is not a model pattern; it {error}")));
                None
            }
        };
        if rule.limits.is_empty() {
            faults
                .push((place.clone(), "names no limit; add one, such as requests_per_minute: 10".to_owned()));
        }
        let limits: Vec<Limit> =
            rule.limits.iter().filter_map(|(name, amount)| limit(name, *amount, &place, faults)).collect();
        parsed.extend(model.map(|model| LimitRule::new(model, limits)));
    }
    for (index, rule) in parsed.iter().enumerate() {
        let same = |other: &&LimitRule| other.model == rule.model;
        if parsed[..index].iter().find(same).is_some_and(|other| shares_a_measure(other, rule)) {
            faults.push((
                field.to_owned(),
                format!("limits the same twice for {}; keep one of the two", rule.model),
            ));
        }
    }
    parsed
}

fn shares_a_measure(one: &LimitRule, other: &LimitRule) -> bool {
    let same = |a: &Limit, b: &Limit| (a.dimension, a.window) == (b.dimension, b.window);
    one.limits.iter().any(|a| other.limits.iter().any(|b| same(a, b)))
}

fn limit(name: &str, amount: u64, place: &str, faults: &mut Vec<(String, String)>) -> Option<Limit> {
    let names = || LIMIT_FIELDS.iter().map(|(name, ..)| *name);
    let Some((_, dimension, window)) = LIMIT_FIELDS.iter().find(|(known, ..)| *known == name) else {
        let fix = match nearest(name, names()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
        };
        faults.push((format!("{place}.limits"), format!("names a limit that there is not; {fix}")));
        return None;
    };
    if !(1..=LARGEST_AMOUNT).contains(&amount) {
        faults.push((
            format!("{place}.limits[{name}]"),
            format!("is out of range; write 1 to {LARGEST_AMOUNT}"),
        ));
        return None;
    }
    Some(Limit::new(*dimension, *window, amount))
}

/// Rules as they are written.
pub(super) fn written(rules: &[LimitRule]) -> Vec<WrittenRule> {
    let written = |rule: &LimitRule| WrittenRule {
        model: rule.model.to_string(),
        limits: rule.limits.iter().map(named).collect::<BTreeMap<_, _>>(),
    };
    rules.iter().map(written).collect()
}

fn named(limit: &Limit) -> (String, u64) {
    let known = LIMIT_FIELDS
        .iter()
        .find(|(_, dimension, window)| (*dimension, *window) == (limit.dimension, limit.window));
    (known.map_or_else(|| limit.to_string(), |(name, ..)| (*name).to_owned()), limit.amount)
}
