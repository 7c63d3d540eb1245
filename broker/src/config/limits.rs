//! Limits as they are written, and the rules that a list of them must keep.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::fault::Findings;
use super::models::Models;
use super::reference;
use super::section::Section;
use crate::catalogue::{Dimension, LARGEST_AMOUNT, Limit, LimitRule, NamePattern, Tier, Window};

/// What a limit may be, in requests, tokens or millionths of a dollar.
pub(super) const AMOUNT: RangeInclusive<u64> = 1..=LARGEST_AMOUNT;

/// Every limit that can be written, by its field.
pub(crate) const FIELDS: [(&str, Dimension, Window); 21] = [
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
    ("spend_per_second", Dimension::Spend, Window::Trailing(1)),
    ("spend_per_minute", Dimension::Spend, Window::Trailing(60)),
    ("spend_per_10_minutes", Dimension::Spend, Window::Trailing(600)),
    ("spend_per_day", Dimension::Spend, Window::PacificDay),
    ("spend_per_month", Dimension::Spend, Window::Month),
    ("in_flight", Dimension::InFlight, Window::None),
];

/// A rule of a pool, which may be for the projects of one tier alone.
pub(crate) struct PoolRule {
    pub(crate) tier: Option<Tier>,
    pub(crate) rule: LimitRule,
}

/// The limits that are written in a section itself, each with its field.
fn limits_in(section: &Section<'_>, found: &mut Findings) -> Vec<(&'static str, Limit)> {
    let read = |(field, dimension, window): (&'static str, Dimension, Window)| {
        // Nought is refused, not obeyed: in many programs it means "no limit".
        let amount = match dimension {
            Dimension::Spend => section.dollars(field, AMOUNT, found),
            _ => section.number(field, AMOUNT, found),
        };
        amount.map(|amount| (field, Limit::new(dimension, window, amount)))
    };
    FIELDS.into_iter().filter_map(read).collect()
}

/// Finds fault with a section that should have limits and has none.
fn must_name_any(section: &Section<'_>, found: &mut Findings) {
    if !FIELDS.iter().any(|(field, ..)| section.has(field)) {
        found.fault(section.place(), "names no limit", "add one, such as requests_per_minute = 10");
    }
}

/// Limits that are counted over all models together, written in a section itself.
pub(super) fn read_over_all_models(
    section: &Section<'_>,
    models: &mut Models,
    found: &mut Findings,
) -> Vec<Limit> {
    let limits = limits_in(section, found);
    models.want_prices(section, &NamePattern::Any, &limits);
    limits.into_iter().map(|(_, limit)| limit).collect()
}

/// The field `totals` of a section.
pub(super) fn read_totals(section: &Section<'_>, models: &mut Models, found: &mut Findings) -> Vec<Limit> {
    let Some(totals) = section.table("totals", found) else { return Vec::new() };
    totals.only(&reference::TOTALS, found);
    must_name_any(&totals, found);
    read_over_all_models(&totals, models, found)
}

/// The limits of a pool's projects, each perhaps for one tier.
pub(super) fn read_pool_rules(
    section: &Section<'_>,
    models: &mut Models,
    found: &mut Findings,
) -> Vec<PoolRule> {
    read_rules(section, "limits", true, models, found)
}

/// A list of limits of models, which knows no tiers.
pub(super) fn read_model_rules(
    section: &Section<'_>,
    field: &str,
    models: &mut Models,
    found: &mut Findings,
) -> Vec<LimitRule> {
    read_rules(section, field, false, models, found).into_iter().map(|written| written.rule).collect()
}

fn read_rules(
    section: &Section<'_>,
    field: &str,
    tiered: bool,
    models: &mut Models,
    found: &mut Findings,
) -> Vec<PoolRule> {
    let table = if tiered { &reference::POOL_LIMITS } else { &reference::LIMITS };
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    for written in section.sections(field, found) {
        written.only(table, found);
        let model = models.pattern(&written, found);
        let tier = if tiered { read_tier(&written, found) } else { None };
        must_name_any(&written, found);
        let limits = limits_in(&written, found);
        let Some(model) = model else { continue };
        for (field, limit) in &limits {
            if !seen.insert((model.clone(), tier, limit.dimension, limit.window)) {
                let place = written.place_of(field);
                found.fault(place, "was given for this model before", "keep one of the two");
            }
        }
        models.want_prices(&written, &model, &limits);
        let limits = limits.into_iter().map(|(_, limit)| limit).collect();
        rules.push(PoolRule { tier, rule: LimitRule::new(model, limits) });
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

/// A project's own rules and, below them, what its pool says for its tier, as one list.
///
/// A tier's rule stands before one for every tier, so it cannot stay among the pool's. It is
/// left out where the project names the same measure for every model it is for; where the
/// project is narrower the more specific rule wins by itself, since patterns are nested or disjoint.
pub(crate) fn with_tier_defaults(own: Vec<LimitRule>, pool: &[PoolRule], tier: Tier) -> Vec<LimitRule> {
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
