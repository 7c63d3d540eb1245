//! Plans and consumers: what the file says of them, and what holds for those it does not name.

use std::collections::{BTreeMap, HashMap};

use super::fault::Findings;
use super::limits::read_over_all_models;
use super::models::Models;
use super::nearest::nearest;
use super::reference;
use super::section::{ID_RULE, Section, is_id};
use crate::catalogue::{Catalogue, DEFAULT_CONSUMER_RATE, DEFAULT_PLAN, Plan, PlanMode, is_consumer_id};

/// The variable that changes how much consumers may use that are not named.
pub(super) const RATE_VARIABLE: &str = "KEYBROKER_CONSUMER_RATE_LIMIT";

/// The word for no plan, which no plan may have for a name.
pub(super) const OFF: &str = "off";

/// What a file says of consumers.
#[derive(Default)]
pub(super) struct WrittenConsumers {
    plans: Vec<(String, Plan)>,
    consumers: Vec<WrittenConsumer>,
    /// The default plan's name, or nothing for none, and where it stands.
    default_plan: Option<(String, Option<String>)>,
}

/// One of `[[consumers]]`.
struct WrittenConsumer {
    place: String,
    plan_place: String,
    id: String,
    plan: String,
}

/// What the environment says of consumers that are not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumerRate {
    /// Nothing.
    Unsaid,
    /// They are not limited.
    Off,
    /// So many requests a minute.
    Rate(u64),
}

/// Reads `[[plans]]`, `[[consumers]]` and `default_plan`.
pub(super) fn read(root: &Section<'_>, models: &mut Models, found: &mut Findings) -> WrittenConsumers {
    let plans = root.sections("plans", found);
    let consumers = root.sections("consumers", found);
    WrittenConsumers {
        plans: plans.iter().filter_map(|section| read_plan(section, models, found)).collect(),
        consumers: consumers.iter().filter_map(|section| read_consumer(section, found)).collect(),
        default_plan: read_default(root, found),
    }
}

fn read_plan(section: &Section<'_>, models: &mut Models, found: &mut Findings) -> Option<(String, Plan)> {
    section.only(&reference::PLAN, found);
    let name = section.required_id("name", "team", found);
    let mode = section.choice("mode", "a mode", &PlanMode::ALL, PlanMode::as_str, found);
    let limits = read_over_all_models(section, models, found);
    let (name, place) = (name?, section.place_of("name"));
    if name == OFF {
        found.fault(place, "is the word for no plan", "choose another name");
        return None;
    }
    Some((place, Plan { name: name.to_owned(), mode: mode.unwrap_or_default(), limits }))
}

fn read_consumer(section: &Section<'_>, found: &mut Findings) -> Option<WrittenConsumer> {
    section.only(&reference::CONSUMER, found);
    if !section.has("id") {
        found.fault(section.place(), "has no `id`", "add id = \"...\", as requests name the consumer");
    }
    let rule = "use 1 to 128 visible ASCII characters without spaces";
    let id = section.text("id", found);
    let id = id.and_then(|id| section.checked_name("id", id, is_consumer_id, rule, found));
    let plan = section.required_id("plan", "team", found);
    Some(WrittenConsumer {
        place: section.place_of("id"),
        plan_place: section.place_of("plan"),
        id: id?.to_owned(),
        plan: plan?.to_owned(),
    })
}

fn read_default(root: &Section<'_>, found: &mut Findings) -> Option<(String, Option<String>)> {
    let text = root.text("default_plan", found)?;
    let name = root.checked_name("default_plan", text, is_id, ID_RULE, found)?;
    Some((root.place_of("default_plan"), (name != OFF).then(|| name.to_owned())))
}

/// Puts plans and consumers into the catalogue, and the built-in plan where it holds.
pub(super) fn settle(
    written: WrittenConsumers,
    rate: ConsumerRate,
    catalogue: &mut Catalogue,
    found: &mut Findings,
) {
    let WrittenConsumers { plans, consumers, default_plan } = written;
    add_plans(plans, &mut catalogue.plans, found);
    // A plan that was written under the built-in one's name takes its place.
    let replaced = catalogue.plans.contains_key(DEFAULT_PLAN);
    if !replaced {
        let built_in = match rate {
            ConsumerRate::Rate(requests) => Plan::built_in(requests),
            ConsumerRate::Unsaid | ConsumerRate::Off => Plan::built_in(DEFAULT_CONSUMER_RATE),
        };
        catalogue.plans.insert(DEFAULT_PLAN.to_owned(), built_in);
    }
    let told = replaced || default_plan.is_some();
    catalogue.default_plan = match default_plan {
        Some((place, Some(name))) => known_plan(&name, &place, &catalogue.plans, found).then_some(name),
        Some((_, None)) => None,
        None if !told && rate == ConsumerRate::Off => None,
        None => Some(DEFAULT_PLAN.to_owned()),
    };
    add_consumers(consumers, catalogue, found);
    let holds = catalogue.consumers.values().chain(&catalogue.default_plan).any(|plan| plan == DEFAULT_PLAN);
    if !replaced && !holds {
        catalogue.plans.remove(DEFAULT_PLAN);
    }
    let read = match rate {
        ConsumerRate::Unsaid => true,
        ConsumerRate::Off => !told,
        ConsumerRate::Rate(_) => !replaced && holds,
    };
    if !read {
        let text = "is not read, because the file says what holds for consumers that are not named";
        found.warn(RATE_VARIABLE, text);
    }
}

fn add_plans(written: Vec<(String, Plan)>, plans: &mut BTreeMap<String, Plan>, found: &mut Findings) {
    let mut places: HashMap<String, String> = HashMap::new();
    for (place, plan) in written {
        if let Some(first) = places.get(&plan.name) {
            let problem = format!("the plan {} was written before ({first})", plan.name);
            found.fault(place, problem, "put both into one [[plans]], or name one otherwise");
            continue;
        }
        places.insert(plan.name.clone(), place);
        plans.insert(plan.name.clone(), plan);
    }
}

fn add_consumers(written: Vec<WrittenConsumer>, catalogue: &mut Catalogue, found: &mut Findings) {
    let mut places: HashMap<String, String> = HashMap::new();
    for WrittenConsumer { place, plan_place, id, plan } in written {
        if let Some(first) = places.get(&id) {
            let problem = format!("the consumer {id} was written before ({first})");
            found.fault(place, problem, "give each consumer one plan");
            continue;
        }
        places.insert(id.clone(), place);
        if known_plan(&plan, &plan_place, &catalogue.plans, found) {
            catalogue.consumers.insert(id, plan);
        }
    }
}

/// Whether there is a plan of that name, which is a fault if not.
pub(super) fn known_plan(
    name: &str,
    place: &str,
    plans: &BTreeMap<String, Plan>,
    found: &mut Findings,
) -> bool {
    if plans.contains_key(name) {
        return true;
    }
    let fix = match nearest(name, plans.keys().map(String::as_str)) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => {
            let names: Vec<&str> = plans.keys().map(String::as_str).collect();
            format!("add it as [[plans]], or name one of: {}", names.join(", "))
        }
    };
    found.fault(place, format!("there is no plan {name}"), fix);
    false
}
