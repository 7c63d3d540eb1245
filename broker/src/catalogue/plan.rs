//! Consumers: who asks, and what each of them may use.

use super::limit::Limit;

/// The name of the plan that holds for consumers that are not named, unless another one is.
pub const DEFAULT_PLAN: &str = "default";

/// How many requests a minute the built-in plan allows each consumer.
pub const DEFAULT_CONSUMER_RATE: u64 = 20;

/// What each consumer under it may use, over all keys and models together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its name, an id.
    pub name: String,
    /// What happens to a request over it.
    pub mode: PlanMode,
    /// The limits of each consumer; none at all if there are none. No margin lowers them: they are
    /// the operator's own, not Google's.
    pub limits: Vec<Limit>,
}

/// What happens to a request that is over its consumer's plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlanMode {
    /// It is refused.
    #[default]
    Hard,
    /// It is served, and marked as over the plan.
    Soft,
}

impl Plan {
    /// The built-in plan: so many requests in any trailing minute, hard.
    pub fn built_in(requests_per_minute: u64) -> Self {
        let limits = vec![Limit::requests_per_minute(requests_per_minute)];
        Self { name: DEFAULT_PLAN.to_owned(), mode: PlanMode::Hard, limits }
    }
}

impl PlanMode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Hard, Self::Soft];

    /// Its name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
        }
    }

    /// The mode of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name)
    }
}

/// Whether a text can be a consumer's id: 1 to 128 bytes of visible ASCII, so that e-mail addresses can.
pub fn is_consumer_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
