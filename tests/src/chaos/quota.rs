//! What the fleet may use: the brokers' configuration, the fake Gemini's, and the windows that are held
//! against what arrived. All three come from one list of projects.

use std::{fmt::Write as _, time::Duration};

use super::worker::MODEL;
use crate::fake_gemini::{FakeGeminiConfig, Limits};

/// The pools. Their names lie in different slots of a cluster, on different primaries.
pub const POOLS: [&str; 3] = ["alpha", "beta", "gamma"];
/// How long a lease lives without a report: short, so that what the dead held comes back within a run.
pub const LEASE_TTL: Duration = Duration::from_secs(3);
/// How long after a grant a request may be sent.
pub const SEND_WITHIN: Duration = Duration::from_millis(500);
/// Requests in flight at once, of each project.
const IN_FLIGHT: u64 = 12;

/// A project of each pool.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    per_second: Option<u64>,
    per_minute: Option<u64>,
    /// The limit per second after the deploy, which is never above Google's.
    deployed_per_second: Option<u64>,
}

/// `burst` and `brisk` are never used up for long, so leases always follow each other. `minute` is used up
/// within the first second: a grant that is forgotten after that is seen at once. `steady` is used up slowly,
/// so that there are grants to forget at any time.
const KINDS: [Kind; 4] = [
    Kind { name: "burst", per_second: Some(7), per_minute: None, deployed_per_second: Some(7) },
    Kind { name: "brisk", per_second: Some(6), per_minute: None, deployed_per_second: Some(4) },
    Kind { name: "minute", per_second: None, per_minute: Some(25), deployed_per_second: None },
    Kind { name: "steady", per_second: Some(4), per_minute: Some(30), deployed_per_second: Some(3) },
];

/// Which configuration a broker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// The one that every run begins with.
    First,
    /// The one with changed limits, which a rolling deploy brings.
    Second,
}

/// A window that no arrival may exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The project.
    pub project: String,
    /// How long it is.
    pub span: Duration,
    /// How many requests may arrive in any such time.
    pub limit: u64,
}

fn projects() -> impl Iterator<Item = (&'static str, String, &'static Kind)> {
    POOLS.iter().flat_map(|pool| KINDS.iter().map(move |kind| (*pool, format!("{pool}-{}", kind.name), kind)))
}

fn keys(project: &str) -> [(String, String); 2] {
    ["1", "2"].map(|key| (format!("{project}-{key}"), format!("fake-key-of-{project}-{key}")))
}

/// The model that a worker asks for: an alias of its own, by which its arrivals are told from others'.
pub fn model_of(worker: usize) -> String {
    format!("{MODEL}-{worker}")
}

/// The configuration file of a broker.
pub fn broker_file(edition: Edition, workers: usize) -> String {
    let mut text = String::from("[model_aliases]\n");
    for worker in 0..workers {
        let _ = writeln!(text, "{} = \"{MODEL}\"", model_of(worker));
    }
    for pool in POOLS {
        let (ttl, within) = (LEASE_TTL.as_secs(), SEND_WITHIN.as_millis());
        let _ = writeln!(
            text,
            "\n[[pools]]\nname = \"{pool}\"\nlease_ttl = \"{ttl}s\"\nsend_within = \"{within}ms\""
        );
    }
    for (pool, project, kind) in projects() {
        let per_second = match edition {
            Edition::First => kind.per_second,
            Edition::Second => kind.deployed_per_second,
        };
        let _ = writeln!(text, "\n[[projects]]\nid = \"{project}\"\npool = \"{pool}\"\nkeys = [");
        for (id, secret) in keys(&project) {
            let _ = writeln!(text, "  {{ id = \"{id}\", secret = \"{secret}\" }},");
        }
        let _ = write!(text, "]\nlimits = [{{ in_flight = {IN_FLIGHT}");
        for (name, limit) in [("requests_per_second", per_second), ("requests_per_minute", kind.per_minute)] {
            if let Some(limit) = limit {
                let _ = write!(text, ", {name} = {limit}");
            }
        }
        text.push_str(" }]\n");
    }
    text
}

/// The fake Gemini, which refuses what exceeds a limit per minute.
pub fn gemini(workers: usize, seed: u64) -> FakeGeminiConfig {
    let mut config = FakeGeminiConfig { seed, log_capacity: 1 << 20, ..FakeGeminiConfig::default() };
    for worker in 0..workers {
        config = config.with_alias(&model_of(worker), MODEL);
    }
    for (_, project, kind) in projects() {
        for (_, secret) in keys(&project) {
            config = config.with_key(&secret, &project);
        }
        config = config.with_limits(&project, MODEL, Limits { rpm: kind.per_minute, ..Limits::default() });
    }
    config
}

/// The windows that Google's limits allow, whatever the brokers are told.
pub fn windows() -> Vec<Window> {
    windows_by(|kind| kind.per_second)
}

/// The windows that hold once every broker has the second edition.
pub fn deployed_windows() -> Vec<Window> {
    windows_by(|kind| kind.deployed_per_second)
}

fn windows_by(per_second: impl Fn(&Kind) -> Option<u64>) -> Vec<Window> {
    let each = |(_, project, kind): (_, String, &'static Kind)| {
        [(1, per_second(kind)), (60, kind.per_minute)].into_iter().filter_map(move |(span, limit)| {
            Some(Window { project: project.clone(), span: Duration::from_secs(span), limit: limit? })
        })
    };
    projects().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deploy_changes_limits_and_never_exceeds_googles() {
        let (first, second) = (windows(), deployed_windows());
        assert_eq!(first.len(), second.len());
        assert!(first.iter().zip(&second).all(|(first, second)| second.limit <= first.limit));
        assert_ne!(first, second);
        assert_ne!(broker_file(Edition::First, 2), broker_file(Edition::Second, 2));
    }
}
