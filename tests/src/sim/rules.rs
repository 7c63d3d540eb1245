//! The rules that every run is held to, and how a broken one is told.

use std::fmt;

use keybroker::ledger::Millis;

/// What must hold, whatever is lost, late, doubled or dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// No trailing window or day at Google exceeds what the limits allow.
    NoOverSpend,
    /// A grant brings none of its accounts over a limit, counting what may still arrive.
    WithinLimits,
    /// What each account counts is the sum of what was granted and not given back: all or none is charged, a
    /// refusal charges nothing, what died stays charged, a repeated or late report changes no more than it may.
    Charges,
    /// The gauge of requests in flight is the number of leases that are held.
    InFlight,
    /// A lease is granted once.
    GrantedOnce,
    /// A lease is settled at most once.
    SettledOnce,
    /// A repeated report gets the first advice.
    FirstAdvice,
    /// A lease is known for as long as the ledger promises.
    Remembered,
    /// A renewal extends a lease that is held, and no other.
    Renewal,
    /// What cools down is not leased, and the first lease afterwards is out alone.
    Cooldown,
    /// A refusal's instant is the earliest at which the request is granted.
    RefusalInstant,
    /// Once the trouble is over, whoever waits is served.
    Starvation,
    /// Where more is wanted than there is, what there is gets used.
    Utilisation,
    /// The ledger answers what a broker asks.
    Answers,
    /// Nothing panics.
    NoPanic,
}

impl Rule {
    /// The rule in a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NoOverSpend => "no trailing window or day at Google is over its limit",
            Self::WithinLimits => "no grant brings an account over its limit",
            Self::Charges => "every account counts exactly what was granted and not given back",
            Self::InFlight => "the in-flight gauge is the number of leases held",
            Self::GrantedOnce => "a lease is granted once",
            Self::SettledOnce => "a lease is settled at most once",
            Self::FirstAdvice => "a repeated report gets the first advice",
            Self::Remembered => "a lease is known for as long as the ledger promises",
            Self::Renewal => "a renewal extends a held lease, and no other",
            Self::Cooldown => "what cools down is not leased, and a probe is out alone",
            Self::RefusalInstant => "a refusal names the earliest instant at which the request is granted",
            Self::Starvation => "whoever waits is served once the trouble is over",
            Self::Utilisation => "what there is gets used where more is wanted",
            Self::Answers => "the ledger answers what a broker asks",
            Self::NoPanic => "nothing panics",
        }
    }
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// When, in milliseconds since the run began.
    pub at: Millis,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms: {}: {}", self.at, self.rule.sentence(), self.what)
    }
}
