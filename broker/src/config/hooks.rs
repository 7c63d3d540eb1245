//! Hooks as they are written.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use url::Url;

use super::fault::Findings;
use super::file::read_labels;
use super::key_text::Lookup;
use super::nearest::nearest;
use super::reference;
use super::section::Section;
use super::values::one_of;
use crate::catalogue::{Catalogue, EventKind, Hook, HookAction, HookFormat};
use crate::secret::Secret;

pub(super) const COOLDOWN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
pub(super) const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
pub(super) const DEFAULT_COOLDOWN: Duration = Duration::from_secs(300);
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const ATTEMPTS: RangeInclusive<u64> = 1..=10;
pub(super) const DEFAULT_ATTEMPTS: u32 = 3;

/// The word for every event.
const EVERY: &str = "*";

/// The most characters of an address, and of a program's name or one of its arguments.
const LONGEST_TEXT: usize = 2048;

/// The most arguments of a program, its name included.
const MOST_ARGUMENTS: usize = 64;

/// One of `[[hooks]]`.
pub(super) struct WrittenHook {
    place: String,
    pools: Vec<(String, String)>,
    hook: Hook,
}

/// Reads `[[hooks]]`.
pub(super) fn read(root: &Section<'_>, lookup: &mut Lookup<'_>, found: &mut Findings) -> Vec<WrittenHook> {
    let sections = root.sections("hooks", found);
    sections.iter().filter_map(|section| read_hook(section, lookup, found)).collect()
}

fn read_hook(section: &Section<'_>, lookup: &mut Lookup<'_>, found: &mut Findings) -> Option<WrittenHook> {
    section.only(&reference::HOOK, found);
    let name = section.required_id("name", "alerts", found);
    let events = read_events(section, found);
    let labels = read_labels(section, found);
    let pools = section.texts("pools", "[\"default\"]", found);
    let action = read_action(section, lookup, found);
    let cooldown = section.duration("cooldown", COOLDOWN, found).unwrap_or(DEFAULT_COOLDOWN);
    let timeout = section.duration("timeout", TIMEOUT, found).unwrap_or(DEFAULT_TIMEOUT);
    let attempts = section.number("attempts", ATTEMPTS, found);
    let attempts = attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(DEFAULT_ATTEMPTS);
    let name = name?.to_owned();
    let (action, pools_named) = (action?, pools.iter().map(|(pool, _)| (*pool).to_owned()).collect());
    let hook = Hook { name, events, labels, pools: pools_named, action, cooldown, timeout, attempts };
    let pools = pools.into_iter().map(|(pool, place)| (pool.to_owned(), place)).collect();
    Some(WrittenHook { place: section.place_of("name"), pools, hook })
}

fn read_events(section: &Section<'_>, found: &mut Findings) -> BTreeSet<EventKind> {
    let texts = section.texts("events", "[\"key_disabled\", \"pool_exhausted\"]", found);
    let mut events = BTreeSet::new();
    if !section.has("events") {
        let fix = "add events = [\"key_disabled\"], or [\"*\"] for every event";
        found.fault(section.place(), "has no `events`", fix);
    }
    let every = texts.iter().any(|(text, _)| *text == EVERY);
    for (text, place) in &texts {
        match EventKind::parse(text) {
            None if *text == EVERY => {}
            Some(_) if every => {
                let fix = "write \"*\" alone, or only the events that are meant";
                found.fault(place, "is named beside \"*\", which is every event", fix);
            }
            Some(event) => {
                if !events.insert(event) {
                    found.fault(place, format!("the event {event} is named twice"), "name it once");
                }
            }
            None => {
                let names = EventKind::ALL.iter().map(|event| event.as_str());
                found.fault(place, "is not an event", one_of(text, names));
            }
        }
    }
    if every {
        events.extend(EventKind::ALL);
    }
    events
}

fn read_action(section: &Section<'_>, lookup: &mut Lookup<'_>, found: &mut Findings) -> Option<HookAction> {
    let format = section.choice("format", "a format", &HookFormat::ALL, HookFormat::as_str, found);
    match (section.has("url"), section.has("command")) {
        (true, true) => {
            let fix = "keep one of the two; a second hook can do the other";
            found.fault(section.place_of("command"), "stands beside `url`", fix);
            None
        }
        (false, false) => {
            let fix = "add url = \"https://...\", or command = [\"/path/to/program\"]";
            found.fault(section.place(), "has neither `url` nor `command`", fix);
            None
        }
        (true, false) => {
            let url = read_url(section, lookup, found)?;
            Some(HookAction::Post { url, format: format.unwrap_or_default() })
        }
        (false, true) => {
            if section.has("format") {
                let fix = "leave it out: a program gets the event as JSON";
                found.fault(section.place_of("format"), "is for `url` alone", fix);
            }
            read_command(section, found).map(|command| HookAction::Run { command })
        }
    }
}

fn read_url(section: &Section<'_>, lookup: &mut Lookup<'_>, found: &mut Findings) -> Option<Secret> {
    let place = section.place_of("url");
    let written = section.text("url", found)?;
    let text = lookup.text(written, "URL", &place, found)?;
    let text = text.trim();
    let sound = text.len() <= LONGEST_TEXT && is_http(text).is_some();
    if !sound {
        let fix =
            "write \"https://...\" or \"http://...\", or \"env:NAME\" or \"file:/path\" where it stands";
        found.fault(place, "is not an http or https URL", fix);
        return None;
    }
    Some(Secret::from(text))
}

/// The URL, if a text is one of http or https with a host.
pub(super) fn is_http(text: &str) -> Option<Url> {
    let plain = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    let url = Url::parse(text).ok().filter(|_| plain)?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

fn read_command(section: &Section<'_>, found: &mut Findings) -> Option<Vec<String>> {
    let example = "[\"/usr/local/bin/notify\", \"--now\"]";
    let texts = section.texts("command", example, found);
    let (program, place) = texts.first()?;
    if !program.starts_with('/') {
        let fix = format!("begin with one, such as {example}");
        found.fault(place, "is not the absolute path of a program", fix);
    }
    if texts.len() > MOST_ARGUMENTS {
        let problem = format!("has more than {MOST_ARGUMENTS} texts");
        found.fault(section.place_of("command"), problem, "write a script and call that");
    }
    let sound = |text: &str| text.chars().count() <= LONGEST_TEXT && !text.contains('\0');
    for (text, place) in &texts {
        if sound(text) {
            found.keep_name(place, text);
        } else {
            found.fault(place, "cannot be an argument", "use at most 2048 characters, none of them nought");
        }
    }
    Some(texts.into_iter().map(|(text, _)| text.to_owned()).collect())
}

/// Puts hooks into the catalogue, once all pools are known.
pub(super) fn settle(written: Vec<WrittenHook>, catalogue: &mut Catalogue, found: &mut Findings) {
    let mut places: HashMap<String, String> = HashMap::new();
    for WrittenHook { place, pools, hook } in written {
        if let Some(first) = places.get(&hook.name) {
            let problem = format!("the hook {} was written before ({first})", hook.name);
            found.fault(place, problem, "give each hook a name of its own");
            continue;
        }
        places.insert(hook.name.clone(), place);
        for (pool, place) in pools {
            check_pool(&pool, &place, catalogue, found);
        }
        catalogue.hooks.push(hook);
    }
}

fn check_pool(pool: &str, place: &str, catalogue: &Catalogue, found: &mut Findings) {
    if catalogue.pools.contains_key(pool) {
        return;
    }
    let names: Vec<&str> = catalogue.pools.keys().map(String::as_str).collect();
    let fix = match nearest(pool, names.iter().copied()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("name one of: {}", names.join(", ")),
    };
    found.fault(place, "names a pool that is not there", fix);
}
