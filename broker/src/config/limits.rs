//! Limits as they are written, and the rules that a list of them must keep.

use std::collections::BTreeSet;

use super::fault::Findings;
use super::section::Section;
use crate::catalogue::{Dimension, LARGEST_AMOUNT, Limit, LimitRule, ModelPattern, Tier, Window};

/// Every limit that can be written, by its field.
const FIELDS: [(&str, Dimension, Window); 16] = [
    ("requests_per_second", Dimension::Requests, Window::Trailing(1)),
    ("requests_per_minute", Dimension::Requests, Window::Trailing(60)),
    ("requests_per_10_minutes", Dimension::Requests, Window::Trailing(600)),
    ("requests_per_day", Dimension::Requests, Window::PacificDay),
    ("requests_per_month", Dimension::Requests, Window::Month),
    ("input_tokens_per_second", Dimension::InputTokens, Window::Trailing(1)),
    ("input_tokens_per_minute", Dimension::InputTokens, Window::Trailing(60)),
    ("input_tokens_per_10_minutes", Dimension::InputTokens, Window::Trailing(600)),
    ("input_tokens_per_day", Dimension::InputTokens, Window::PacificDay),
    ("input_tokens_per_month", Dimension::InputTokens, Window::Month),
    ("total_tokens_per_second", Dimension::TotalTokens, Window::Trailing(1)),
    ("total_tokens_per_minute", Dimension::TotalTokens, Window::Trailing(60)),
    ("total_tokens_per_10_minutes", Dimension::TotalTokens, Window::Trailing(600)),
    ("total_tokens_per_day", Dimension::TotalTokens, Window::PacificDay),
    ("total_tokens_per_month", Dimension::TotalTokens, Window::Month),
    ("in_flight", Dimension::InFlight, Window::None),
];

/// A rule of a pool, which may be for the projects of one tier alone.
pub(super) struct PoolRule {
    pub(super) tier: Option<Tier>,
    pub(super) rule: LimitRule,
}

/// Whose limits a list is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Pool,
    ProjectOrKey,
}

/// Reads the field `limits` of a section. `quota_model` answers for model ids that count
/// under another name: a rule for one of them would hold nothing back, because limits are looked up by quota
/// model.
pub(super) fn read(
    section: &Section<'_>,
    owner: Owner,
    quota_model: &dyn Fn(&str) -> Option<String>,
    found: &mut Findings,
) -> Vec<PoolRule> {
    let mut known = vec!["model"];
    if owner == Owner::Pool {
        known.push("tier");
    }
    known.extend(FIELDS.iter().map(|(field, ..)| *field));

    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    for written in section.sections("limits", found) {
        written.only(&known, found);
        let model = read_model(&written, quota_model, found);
        let tier = if owner == Owner::Pool { read_tier(&written, found) } else { None };
        let mut limits = Vec::new();
        let mut any = false;
        for (field, dimension, window) in FIELDS {
            any |= written.has(field);
            // Nought is refused, not obeyed: in many programs it means "no limit".
            if let Some(amount) = written.number(field, 1..=LARGEST_AMOUNT, found) {
                limits.push(Limit::new(dimension, window, amount));
                let measure = (model.clone(), tier, dimension, window);
                if model.is_some() && !seen.insert(measure) {
                    let place = written.place_of(field);
                    found.fault(place, "was given for this model before", "keep one of the two");
                }
            }
        }
        if !any {
            found.fault(written.place(), "names no limit", "add one, such as requests_per_minute = 10");
        }
        if let Some(model) = model {
            rules.push(PoolRule { tier, rule: LimitRule::new(model, limits) });
        }
    }
    rules
}

/// The field `tier` of a section.
pub(super) fn read_tier(section: &Section<'_>, found: &mut Findings) -> Option<Tier> {
    match section.text("tier", found)? {
        "free" => Some(Tier::Free),
        "paid" => Some(Tier::Paid),
        _ => {
            found.fault(
                section.place_of("tier"),
                "is not a tier",
                "write \"free\" or \"paid\", or leave it out",
            );
            None
        }
    }
}

fn read_model(
    section: &Section<'_>,
    quota_model: &dyn Fn(&str) -> Option<String>,
    found: &mut Findings,
) -> Option<ModelPattern> {
    if !section.has("model") {
        return Some(ModelPattern::Any);
    }
    let text = section.text("model", found)?;
    let place = section.place_of("model");
    match text.parse::<ModelPattern>() {
        Ok(pattern) => {
            found.keep_name(&place, text);
            if let ModelPattern::Exact(name) = &pattern
                && let Some(counted_as) = quota_model(name)
            {
                let problem = format!("the model {name} counts as {counted_as}, so this would never apply");
                found.fault(place, problem, format!("write model = \"{counted_as}\""));
            }
            Some(pattern)
        }
        Err(error) => {
            found.fault(place, "is not a model pattern", format!("it {error}"));
            None
        }
    }
}

/// A project's own rules and, below them, what its pool says for its tier, as one list.
///
/// A tier's rule stands before one for every tier, so it cannot stay among the pool's. It is
/// left out where the project names the same measure for every model it is for; where the
/// project is narrower the more specific rule wins by itself, since patterns are nested or disjoint.
pub(super) fn with_tier_defaults(own: Vec<LimitRule>, pool: &[PoolRule], tier: Tier) -> Vec<LimitRule> {
    let mut rules = own.clone();
    for PoolRule { rule, .. } in pool.iter().filter(|default| default.tier == Some(tier)) {
        let overruled = |limit: &Limit| {
            let same = |other: &Limit| (other.dimension, other.window) == (limit.dimension, limit.window);
            own.iter().any(|own| own.model.covers(&rule.model) && own.limits.iter().any(same))
        };
        let limits: Vec<_> = rule.limits.iter().copied().filter(|limit| !overruled(limit)).collect();
        if !limits.is_empty() {
            rules.push(LimitRule::new(rule.model.clone(), limits));
        }
    }
    rules
}
