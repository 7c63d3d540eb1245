//! Limits: what is counted, over which span, and how much of it is allowed.

use std::collections::BTreeMap;
use std::fmt;

use super::money::Dollars;
use super::pattern::NamePattern;

/// The largest amount a limit may have. It keeps sums of amounts exact in a double, which is the
/// only number Lua knows.
pub const LARGEST_AMOUNT: u64 = 1_000_000_000_000;

/// Limits for the quota models that a pattern names. Each model is counted by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// Which quota models.
    pub model: NamePattern,
    /// What they are limited to.
    pub limits: Vec<Limit>,
}

/// At most so much of something within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit {
    /// What is counted.
    pub dimension: Dimension,
    /// Over which span.
    pub window: Window,
    /// How much at most, in requests, tokens or millionths of a dollar: 1 to [`LARGEST_AMOUNT`].
    pub amount: u64,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Requests sent.
    Requests,
    /// Tokens of prompts.
    InputTokens,
    /// Tokens of prompts and answers.
    TotalTokens,
    /// Millionths of a US dollar, by the prices of the catalogue.
    Spend,
    /// Requests under way at once.
    InFlight,
}

/// The span a limit counts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// Every span of so many seconds, however aligned: 1, 60 or 600.
    Trailing(u32),
    /// A day that begins at midnight in Los Angeles.
    PacificDay,
    /// A calendar month, which begins at midnight in Los Angeles too.
    Month,
    /// No span: what is under way now ([`Dimension::InFlight`]).
    None,
}

impl LimitRule {
    /// A rule for the quota models that a pattern names.
    pub fn new(model: NamePattern, limits: Vec<Limit>) -> Self {
        Self { model, limits }
    }
}

impl Limit {
    /// At most `amount` within a window.
    pub fn new(dimension: Dimension, window: Window, amount: u64) -> Self {
        Self { dimension, window, amount }
    }

    /// At most so many requests in any trailing minute.
    pub fn requests_per_minute(amount: u64) -> Self {
        Self::new(Dimension::Requests, Window::Trailing(60), amount)
    }
}

/// Limits by what they measure: at most one for each.
pub(super) type Measures = BTreeMap<(Dimension, Window), u64>;

/// For each measure that a matching rule names, the amount of the most specific one; of two that
/// are equally specific, the smaller amount.
pub(super) fn most_specific(rules: &[LimitRule], quota_model: &str) -> Measures {
    let mut chosen: BTreeMap<(Dimension, Window), (usize, u64)> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| rule.model.matches(quota_model)) {
        let specificity = rule.model.specificity();
        for limit in &rule.limits {
            let standing =
                chosen.entry((limit.dimension, limit.window)).or_insert((specificity, limit.amount));
            if specificity > standing.0 || (specificity == standing.0 && limit.amount < standing.1) {
                *standing = (specificity, limit.amount);
            }
        }
    }
    chosen.into_iter().map(|(measure, (_, amount))| (measure, amount)).collect()
}

/// A list of limits by what they measure; of two for the same, the smaller amount.
pub(super) fn by_measure(limits: &[Limit]) -> Measures {
    let mut measures = Measures::new();
    for limit in limits {
        let amount = measures.entry((limit.dimension, limit.window)).or_insert(limit.amount);
        *amount = limit.amount.min(*amount);
    }
    measures
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "requests",
            Self::InputTokens => "input_tokens",
            Self::TotalTokens => "total_tokens",
            Self::Spend => "spend",
            Self::InFlight => "in_flight",
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trailing(1) => f.write_str("second"),
            Self::Trailing(60) => f.write_str("minute"),
            Self::Trailing(600) => f.write_str("10_minutes"),
            Self::Trailing(seconds) => write!(f, "{seconds}_seconds"),
            Self::PacificDay => f.write_str("day"),
            Self::Month => f.write_str("month"),
            Self::None => f.write_str("none"),
        }
    }
}

/// The limit as configuration has it, such as `requests_per_minute = 10` or `spend_per_day = 2.5`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dimension)?;
        if self.window != Window::None {
            write!(f, "_per_{}", self.window)?;
        }
        match self.dimension {
            Dimension::Spend => write!(f, " = {}", Dollars(self.amount)),
            _ => write!(f, " = {}", self.amount),
        }
    }
}
