//! Faults on order: rules that say which calls go wrong, and how.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::named_error::NamedError;
use super::shape::Shape;

/// A time in milliseconds: fixed, or random between two bounds that both belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Millis {
    /// The least.
    pub min_ms: u64,
    /// The most; the least again if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<u64>,
}

impl Millis {
    /// Always the same.
    pub const fn fixed(ms: u64) -> Self {
        Self { min_ms: ms, max_ms: None }
    }

    fn draw(self, random: &mut StdRng) -> Duration {
        let most = self.max_ms.unwrap_or(self.min_ms).max(self.min_ms);
        Duration::from_millis(random.random_range(self.min_ms..=most))
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// The answer takes this much longer. The arrival counts when it came.
    Latency(Millis),
    /// The request travels this much longer: it arrives, and counts, that much later.
    LateArrival(Millis),
    /// HTTP 200 with an answer that a safety filter withheld.
    Withheld,
    /// No answer ever comes.
    Hang,
    /// The connection is reset before any answer.
    Reset,
    /// The answer begins and the connection breaks in the middle of it.
    HalfStream,
    /// A bare status: 500, 502, 503, 504 with the body Google gives, any other with a plain one.
    Status {
        /// The HTTP status.
        code: u16,
    },
    /// One of Google's error answers.
    Error {
        /// Which.
        name: NamedError,
    },
    /// One of Google's error answers in another shape than its usual one.
    ShapedError {
        /// Which.
        name: NamedError,
        /// In which shape.
        shape: Shape,
    },
    /// HTTP 200, the first piece of a stream, and then an error object. A call that does not stream gets
    /// the plain error.
    InStreamError {
        /// Which.
        name: NamedError,
    },
}

impl Fault {
    /// Whether Google may have counted a request that ended so.
    pub(crate) fn may_be_counted(self) -> bool {
        match self {
            Self::Error { name } | Self::ShapedError { name, .. } => name.may_be_counted(),
            Self::Status { code } => code >= 500,
            // The stream had begun: the quota was looked at before.
            Self::InStreamError { .. } | Self::Withheld => true,
            Self::Latency(_) | Self::LateArrival(_) | Self::Hang | Self::Reset | Self::HalfStream => true,
        }
    }

    /// The fault's name in the request log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Latency(_) => "latency",
            Self::LateArrival(_) => "late_arrival",
            Self::Withheld => "withheld",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::HalfStream => "half_stream",
            Self::Status { .. } => "status",
            Self::Error { .. } => "error",
            Self::ShapedError { .. } => "shaped_error",
            Self::InStreamError { .. } => "in_stream_error",
        }
    }
}

/// Which calls a rule is about; what is missing matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultMatch {
    /// The fingerprint of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The model id or the quota model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The method, such as `streamGenerateContent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// One rule. Latencies of all matching rules add up; of the other faults the first that fires is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Which calls.
    #[serde(default, rename = "match")]
    pub when: FaultMatch,
    /// How likely each of them is struck, from 0 to 1; all of them if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// How many are struck before the rule is spent; no end if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What happens to them.
    pub fault: Fault,
}

impl FaultRule {
    /// A rule that strikes every call.
    pub fn always(fault: Fault) -> Self {
        Self { when: FaultMatch::default(), probability: None, count: None, fault }
    }

    /// Only the next `count` matching calls.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Each matching call with this probability.
    #[must_use]
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = Some(probability);
        self
    }

    /// Only calls with this key, by fingerprint.
    #[must_use]
    pub fn on_key(mut self, fingerprint: &str) -> Self {
        self.when.key = Some(fingerprint.to_owned());
        self
    }

    /// Only calls of this project.
    #[must_use]
    pub fn on_project(mut self, project: &str) -> Self {
        self.when.project = Some(project.to_owned());
        self
    }

    /// Only calls of this model or quota model.
    #[must_use]
    pub fn on_model(mut self, model: &str) -> Self {
        self.when.model = Some(model.to_owned());
        self
    }

    /// What is wrong with the rule itself, if anything.
    pub(crate) fn complaint(&self) -> Option<&'static str> {
        if self.probability.is_some_and(|probability| !(0.0..=1.0).contains(&probability)) {
            return Some("probability must be from 0 to 1");
        }
        match self.fault {
            Fault::Status { code } if !(400..=599).contains(&code) => {
                Some("a status fault must be from 400 to 599")
            }
            Fault::Latency(Millis { min_ms, max_ms: Some(max) })
            | Fault::LateArrival(Millis { min_ms, max_ms: Some(max) })
                if max < min_ms =>
            {
                Some("max_ms must not be below min_ms")
            }
            _ => None,
        }
    }
}

/// What a rule is matched against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) fingerprint: &'a str,
    pub(crate) project: &'a str,
    pub(crate) model: &'a str,
    pub(crate) quota_model: &'a str,
    pub(crate) method: &'a str,
}

impl FaultMatch {
    fn matches(&self, target: &Target<'_>) -> bool {
        let is = |wanted: &Option<String>, got: &str| wanted.as_deref().is_none_or(|wanted| wanted == got);
        is(&self.key, target.fingerprint)
            && is(&self.project, target.project)
            && (is(&self.model, target.model) || is(&self.model, target.quota_model))
            && is(&self.method, target.method)
    }
}

/// What the rules together do to one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mishap {
    pub(crate) late_arrival: Duration,
    pub(crate) latency: Duration,
    pub(crate) ending: Option<Fault>,
}

#[derive(Debug)]
struct Rules {
    list: Vec<FaultRule>,
    random: StdRng,
}

/// The rules in force.
#[derive(Debug)]
pub(crate) struct Faults {
    rules: Mutex<Rules>,
    // Read without the lock, so that a server without rules pays nothing for them.
    count: AtomicUsize,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        let rules = Rules { list: Vec::new(), random: StdRng::seed_from_u64(seed) };
        Self { rules: Mutex::new(rules), count: AtomicUsize::new(0) }
    }

    pub(crate) fn add(&self, rules: Vec<FaultRule>) {
        let mut held = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        held.list.extend(rules);
        self.count.store(held.list.len(), Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        let mut held = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        held.list.clear();
        self.count.store(0, Ordering::Release);
    }

    pub(crate) fn list(&self) -> Vec<FaultRule> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).list.clone()
    }

    /// What happens to a call; spends the counts of the rules that fire.
    pub(crate) fn strike(&self, target: &Target<'_>) -> Mishap {
        if self.count.load(Ordering::Acquire) == 0 {
            return Mishap::default();
        }
        let mut held = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let Rules { list, random } = &mut *held;
        let mut mishap = Mishap::default();
        for rule in list {
            let delays = matches!(rule.fault, Fault::Latency(_) | Fault::LateArrival(_));
            let spent = rule.count == Some(0) || (!delays && mishap.ending.is_some());
            if spent || !rule.when.matches(target) {
                continue;
            }
            if rule.probability.is_some_and(|probability| !random.random_bool(probability)) {
                continue;
            }
            rule.count = rule.count.map(|count| count - 1);
            match rule.fault {
                Fault::Latency(millis) => mishap.latency += millis.draw(random),
                Fault::LateArrival(millis) => mishap.late_arrival += millis.draw(random),
                ending => mishap.ending = Some(ending),
            }
        }
        mishap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target<'_> = Target {
        fingerprint: "f",
        project: "p",
        model: "m-preview",
        quota_model: "m",
        method: "generateContent",
    };

    #[test]
    fn a_counted_rule_strikes_so_often_and_no_more() {
        let faults = Faults::new(1);
        faults.add(vec![FaultRule::always(Fault::Hang).times(2)]);
        let struck: Vec<bool> = (0..4).map(|_| faults.strike(&TARGET).ending.is_some()).collect();
        assert_eq!(struck, [true, true, false, false]);
    }

    #[test]
    fn a_rule_on_a_model_matches_its_id_and_its_family() {
        let faults = Faults::new(1);
        for (model, expected) in [("m", true), ("m-preview", true), ("other", false)] {
            faults.clear();
            faults.add(vec![FaultRule::always(Fault::Reset).on_model(model)]);
            assert_eq!(faults.strike(&TARGET).ending.is_some(), expected, "{model}");
        }
    }

    #[test]
    fn latencies_add_up_and_the_first_ending_wins() {
        let faults = Faults::new(1);
        faults.add(vec![
            FaultRule::always(Fault::Latency(Millis::fixed(5))),
            FaultRule::always(Fault::Hang),
            FaultRule::always(Fault::Reset).times(1),
            FaultRule::always(Fault::Latency(Millis::fixed(7))),
        ]);
        let mishap = faults.strike(&TARGET);
        assert_eq!(mishap.latency, Duration::from_millis(12));
        assert_eq!(mishap.ending, Some(Fault::Hang));
        assert_eq!(faults.list()[2].count, Some(1), "a rule that did not fire is not spent");
    }

    #[test]
    fn the_same_seed_strikes_the_same_calls() {
        let draw = |seed| {
            let faults = Faults::new(seed);
            faults.add(vec![FaultRule::always(Fault::Hang).with_probability(0.5)]);
            (0..64).map(|_| faults.strike(&TARGET).ending.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn rules_are_read_from_plain_json() {
        let rule: FaultRule = serde_json::from_str(
            r#"{"match": {"project": "p"}, "count": 3, "fault": {"kind": "error", "name": "opaque_429"}}"#,
        )
        .unwrap();
        let expected =
            FaultRule::always(Fault::Error { name: NamedError::Opaque429 }).on_project("p").times(3);
        assert_eq!(rule, expected);
        let shaped: FaultRule =
            serde_json::from_str(r#"{"fault": {"kind": "shaped_error", "name": "leaked", "shape": "html"}}"#)
                .unwrap();
        assert_eq!(shaped.fault, Fault::ShapedError { name: NamedError::Leaked, shape: Shape::Html });
        let slow: FaultRule =
            serde_json::from_str(r#"{"fault": {"kind": "latency", "min_ms": 1, "max_ms": 9}}"#).unwrap();
        assert_eq!(slow.fault, Fault::Latency(Millis { min_ms: 1, max_ms: Some(9) }));
    }
}
