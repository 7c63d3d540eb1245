//! Keys in the environment, in every form that people already use for them.

use std::path::Path;

use secrecy::zeroize::Zeroizing;

use super::Env;
use super::consumers::{ConsumerRate, OFF, RATE_VARIABLE};
use super::fault::Findings;
use super::key_text::{Lookup, malformed, read_file, words};
use crate::catalogue::{DEFAULT_CONSUMER_RATE, Limit, LimitRule, NamePattern, Tier};
use crate::secret::{Secret, mask};

/// Variables that hold plain keys. `GEMINI_API_KEY` has numbered ones beside it.
const PLAIN: [&str; 4] = ["GEMINI_KEYS", "GEMINI_API_KEYS", "GEMINI_API_KEY", "GOOGLE_API_KEY"];

/// How far the numbers of `GEMINI_API_KEY_1` go.
const LAST_NUMBERED: u32 = 100;

/// Variables that name a file with one key a line.
const KEY_FILES: [&str; 2] = ["KEYBROKER_KEY_FILE", "GEMINI_KEY_FILE"];

/// The most requests in a minute that a rate variable may say.
const LARGEST_RATE: u64 = 1_000_000;

/// A key found in the environment.
pub(super) struct Entry {
    /// The variable or file, and which of its entries.
    pub(super) place: String,
    /// The variable alone.
    pub(super) variable: String,
    pub(super) secret: Secret,
    pub(super) tier: Tier,
    pub(super) limits: Vec<LimitRule>,
}

/// What the environment holds, and where it was looked for.
pub(super) struct Environment {
    pub(super) entries: Vec<Entry>,
    /// Each variable or file that was looked at and what was there, for when no key was found.
    pub(super) looked_at: Vec<String>,
    /// Those of them that held a key.
    pub(super) variables: Vec<String>,
}

/// How the keys of one variable are to be used.
#[derive(Clone)]
struct Terms {
    tier: Tier,
    limits: Vec<LimitRule>,
}

/// Gathers the keys of every form, all forms together.
///
/// The free and paid forms come first, so that a key given in a plain form too keeps the terms
/// it was given there. Of those two the free one does: it is the one that promises less.
pub(super) fn read(lookup: &mut Lookup<'_>, found: &mut Findings) -> Environment {
    let env = lookup.env;
    let mut environment = Environment { entries: Vec::new(), looked_at: Vec::new(), variables: Vec::new() };
    let free = Terms::metered(Tier::Free, rate(env, "GEMINI_FREE_RATE_LIMIT", 60, found));
    let paid = Terms::metered(Tier::Paid, rate(env, "GEMINI_PAID_RATE_LIMIT", 1000, found));
    let plain = Terms { tier: Tier::Unknown, limits: Vec::new() };
    environment.variable(env, "GEMINI_FREE_KEYS", &free, found);
    environment.variable(env, "GEMINI_PAID_KEY", &paid, found);
    for name in PLAIN {
        environment.variable(env, name, &plain, found);
    }
    let mut numbered = 0;
    for number in 1..=LAST_NUMBERED {
        let name = format!("GEMINI_API_KEY_{number}");
        if is_set(env, &name) {
            numbered += 1;
            environment.variable(env, &name, &plain, found);
        }
    }
    if numbered == 0 {
        environment.looked_at.push("GEMINI_API_KEY_1 to GEMINI_API_KEY_100 (not set)".to_owned());
    }
    let mut read = Vec::new();
    for name in KEY_FILES {
        match env(name).filter(|path| !path.trim().is_empty()) {
            None => environment.looked_at.push(format!("{name} (not set)")),
            Some(path) if read.contains(&path) => {}
            Some(path) => {
                environment.key_file(name, &path, &plain, lookup, found);
                read.push(path);
            }
        }
    }
    environment
}

impl Terms {
    fn metered(tier: Tier, requests_per_minute: u64) -> Self {
        let limit = Limit::requests_per_minute(requests_per_minute);
        Self { tier, limits: vec![LimitRule::new(NamePattern::Any, vec![limit])] }
    }
}

impl Environment {
    fn variable(&mut self, env: Env<'_>, name: &str, terms: &Terms, found: &mut Findings) {
        if !is_set(env, name) {
            self.looked_at.push(format!("{name} (not set)"));
            return;
        }
        let value = Zeroizing::new(env(name).unwrap_or_default());
        let texts: Vec<&str> =
            value.split([',', '\n', '\r']).map(str::trim).filter(|text| !text.is_empty()).collect();
        let mut usable = 0;
        for (index, text) in texts.iter().enumerate() {
            let place =
                if texts.len() == 1 { name.to_owned() } else { format!("{name} entry {}", index + 1) };
            usable += usize::from(self.entry(place, name, text, terms, found));
        }
        if usable > 0 {
            self.variables.push(name.to_owned());
        }
        self.looked_at.push(format!("{name} ({usable} usable of {})", texts.len()));
    }

    fn key_file(
        &mut self,
        name: &str,
        path: &str,
        terms: &Terms,
        lookup: &mut Lookup<'_>,
        found: &mut Findings,
    ) {
        // The path is never shown: a key may have been put where it belongs.
        let path = Path::new(path.trim());
        let text = match read_file(path) {
            Ok(text) => text,
            Err(error) => {
                let problem = format!("the file it names cannot be read: {error}");
                found.fault(name, problem, "name a readable file with one key a line, or unset it");
                return;
            }
        };
        lookup.files.push(path.to_owned());
        let (mut usable, mut given) = (0, 0);
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            // A key has no whitespace, so a note after one is told from it by the space before.
            let line = line.split_once(" #").map_or(line, |(key, _)| key.trim_end());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            given += 1;
            let place = format!("{name} line {}", index + 1);
            usable += usize::from(self.entry(place, name, line, terms, found));
        }
        if usable > 0 {
            self.variables.push(name.to_owned());
        }
        self.looked_at.push(format!("the file of {name} ({usable} usable of {given})"));
    }

    /// Takes one text in, or names it and passes it over. Says which.
    fn entry(
        &mut self,
        place: String,
        variable: &str,
        text: &str,
        terms: &Terms,
        found: &mut Findings,
    ) -> bool {
        found.keep_secret(text);
        for word in words(text) {
            found.keep_secret(word);
        }
        if let Some(problem) = malformed(text) {
            found.warn(place, format!("{} {problem}; skipped", mask(text)));
            return false;
        }
        let Terms { tier, limits } = terms.clone();
        let (variable, secret) = (variable.to_owned(), Secret::from(text));
        self.entries.push(Entry { place, variable, secret, tier, limits });
        true
    }
}

fn is_set(env: Env<'_>, name: &str) -> bool {
    env(name).map(Zeroizing::new).is_some_and(|value| !value.trim().is_empty())
}

/// What [`RATE_VARIABLE`] says.
pub(super) fn consumer_rate(env: Env<'_>, found: &mut Findings) -> ConsumerRate {
    let Some(text) = env(RATE_VARIABLE).filter(|text| !text.trim().is_empty()) else {
        return ConsumerRate::Unsaid;
    };
    if text.trim() == OFF {
        return ConsumerRate::Off;
    }
    let Some(rate) = parsed_rate(&text) else {
        let fix = format!(
            "set requests per minute, 1 to {LARGEST_RATE}, or \"{OFF}\", or unset it for {DEFAULT_CONSUMER_RATE}"
        );
        found.fault(RATE_VARIABLE, "is not a rate", fix);
        return ConsumerRate::Unsaid;
    };
    ConsumerRate::Rate(rate)
}

fn parsed_rate(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|rate| (1..=LARGEST_RATE).contains(rate))
}

fn rate(env: Env<'_>, name: &str, default: u64, found: &mut Findings) -> u64 {
    let Some(text) = env(name).filter(|text| !text.trim().is_empty()) else { return default };
    match parsed_rate(&text) {
        Some(rate) => rate,
        None => {
            let fix = format!("set requests per minute, 1 to {LARGEST_RATE}, or unset it for {default}");
            found.fault(name, "is not a rate", fix);
            default
        }
    }
}
