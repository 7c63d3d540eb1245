//! What a file says of models: which names they count under, what their tokens cost, and which
//! limits need to know.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::fault::Findings;
use super::reference;
use super::section::Section;
use crate::catalogue::{Dimension, LARGEST_AMOUNT, Limit, NamePattern, Price, is_model_name};

/// What a million tokens may cost, in millionths of a dollar.
pub(super) const PRICE: RangeInclusive<u64> = 0..=LARGEST_AMOUNT;

/// What is known of models while a file is read.
pub(super) struct Models {
    pub(super) aliases: BTreeMap<String, String>,
    /// Limits of money: where each stands, and for which models.
    spend: Vec<(String, NamePattern)>,
}

impl Models {
    /// Reads `model_aliases`, which everything else that names models depends on.
    pub(super) fn read(root: &Section<'_>, found: &mut Findings) -> Self {
        Self { aliases: read_aliases(root, found), spend: Vec::new() }
    }

    /// The field `model` of a section; every model, if it is not there. A model id that counts
    /// under another name is a fault: limits and prices are looked up by quota model, so it would never apply.
    pub(super) fn pattern(&self, section: &Section<'_>, found: &mut Findings) -> Option<NamePattern> {
        if !section.has("model") {
            return Some(NamePattern::Any);
        }
        let text = section.text("model", found)?;
        let place = section.place_of("model");
        match text.parse::<NamePattern>() {
            Ok(pattern) => {
                found.keep_name(&place, text);
                if let NamePattern::Exact(name) = &pattern
                    && let Some(counted_as) = self.aliases.get(name).filter(|other| *other != name)
                {
                    let problem =
                        format!("the model {name} counts as {counted_as}, so this would never apply");
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

    /// Remembers those of some limits that count money.
    pub(super) fn want_prices(
        &mut self,
        section: &Section<'_>,
        model: &NamePattern,
        limits: &[(&'static str, Limit)],
    ) {
        let of_money = limits.iter().filter(|(_, limit)| limit.dimension == Dimension::Spend);
        self.spend.extend(of_money.map(|(field, _)| (section.place_of(field), model.clone())));
    }

    /// Finds fault with limits of money for models that have no price at all, and warns of those
    /// for models of which some have none.
    pub(super) fn check_prices(&self, prices: &[Price], found: &mut Findings) {
        let mut warned = BTreeSet::new();
        for (place, model) in &self.spend {
            let meets = |price: &Price| price.model.covers(model) || model.covers(&price.model);
            if !prices.iter().any(meets) {
                let problem = match prices.is_empty() {
                    true => "counts money, but there are no [[prices]] to count by".to_owned(),
                    false => format!("counts money, but no [[prices]] name the model {model}"),
                };
                let fix = format!("add [[prices]] with model = \"{model}\", or drop the limit");
                found.fault(place, problem, fix);
            } else if !prices.iter().any(|price| price.model.covers(model)) && warned.insert(model) {
                let text = "counts money, but some of its models may have no price, and what they cost is \
                            not known; add [[prices]] with model = ";
                found.warn(place, format!("{text}\"{model}\""));
            }
        }
    }
}

fn read_aliases(root: &Section<'_>, found: &mut Findings) -> BTreeMap<String, String> {
    let mut aliases = BTreeMap::new();
    let pairs = root.pairs("model_aliases", found);
    for (model, quota_model, place) in &pairs {
        let bare = |name: &str| name.strip_prefix("models/").unwrap_or(name).to_owned();
        let (model, quota_model) = (bare(model), bare(quota_model));
        if !is_model_name(&model) || !is_model_name(&quota_model) {
            let fix = "use letters, digits and . _ - / : @ in model names";
            found.fault(place, "is not a pair of model names", fix);
            continue;
        }
        found.keep_name(place, &model);
        found.keep_name(place, &quota_model);
        let counted_elsewhere = |other: &&(&str, &str, String)| {
            bare(other.0) == quota_model && bare(other.1) != quota_model && model != quota_model
        };
        if let Some((_, last, _)) = pairs.iter().find(counted_elsewhere) {
            let problem = format!("{quota_model} is itself an alias, and aliases are followed once");
            found.fault(place, problem, format!("write \"{}\", or drop the other alias", bare(last)));
        }
        if aliases.insert(model, quota_model).is_some() {
            found.fault(place, "the model is named twice", "write it once, without models/");
        }
    }
    aliases
}

/// Reads `[[prices]]`.
pub(super) fn read_prices(root: &Section<'_>, models: &Models, found: &mut Findings) -> Vec<Price> {
    let mut seen = BTreeSet::new();
    let mut prices = Vec::new();
    for section in root.sections("prices", found) {
        section.only(&reference::PRICE, found);
        let model = models.pattern(&section, found);
        let mut dollars = |field: &str| section.dollars(field, PRICE, found);
        let input = dollars("input_per_million");
        let cached_input = dollars("cached_input_per_million");
        let output = dollars("output_per_million");
        for field in ["input_per_million", "output_per_million"] {
            if !section.has(field) {
                let fix = format!("add {field}, in US dollars, such as {field} = 0.3");
                found.fault(section.place(), format!("has no `{field}`"), fix);
            }
        }
        if let Some(model) = &model
            && !seen.insert(model.clone())
        {
            let fix = "keep one of the two";
            found.fault(section.place_of("model"), format!("{model} was given a price before"), fix);
        }
        if let (Some(model), Some(input), Some(output)) = (model, input, output) {
            prices.push(Price { model, input, cached_input: cached_input.unwrap_or(input), output });
        }
    }
    prices
}
