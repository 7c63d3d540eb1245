//! Hooks: what is told to whom when something happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::secret::Secret;

/// Something that happened and that an operator may want to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A key is leased no more until it is found well or an operator says so.
    KeyDisabled,
    /// A disabled key is leased again.
    KeyRecovered,
    /// Nothing is leased from something until an instant.
    CooldownBegun,
    /// That instant has come.
    CooldownEnded,
    /// All keys of a pool but one cannot be leased.
    PoolNearlyExhausted,
    /// No key of a pool can be leased.
    PoolExhausted,
    /// Google named a limit that was not known.
    LimitLearned,
    /// Google refuses well below what was counted: someone else uses the project.
    OutsideUsageSuspected,
    /// The ledger does not answer, so nothing is leased.
    LedgerUnavailable,
    /// Another text took the place of a key's.
    KeyRotated,
    /// No lease of a text is out any more that another took the place of.
    KeyRotationDone,
    /// A source of secrets fails; what it gave before stands.
    SecretSourceFailed,
    /// It gives something again.
    SecretSourceRecovered,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::KeyDisabled,
        Self::KeyRecovered,
        Self::CooldownBegun,
        Self::CooldownEnded,
        Self::PoolNearlyExhausted,
        Self::PoolExhausted,
        Self::LimitLearned,
        Self::OutsideUsageSuspected,
        Self::LedgerUnavailable,
        Self::KeyRotated,
        Self::KeyRotationDone,
        Self::SecretSourceFailed,
        Self::SecretSourceRecovered,
    ];

    /// Its name in configuration and in what is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeyDisabled => "key_disabled",
            Self::KeyRecovered => "key_recovered",
            Self::CooldownBegun => "cooldown_begun",
            Self::CooldownEnded => "cooldown_ended",
            Self::PoolNearlyExhausted => "pool_nearly_exhausted",
            Self::PoolExhausted => "pool_exhausted",
            Self::LimitLearned => "limit_learned",
            Self::OutsideUsageSuspected => "outside_usage_suspected",
            Self::LedgerUnavailable => "ledger_unavailable",
            Self::KeyRotated => "key_rotated",
            Self::KeyRotationDone => "key_rotation_done",
            Self::SecretSourceFailed => "secret_source_failed",
            Self::SecretSourceRecovered => "secret_source_recovered",
        }
    }

    /// Whether somebody may have to act.
    pub fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::KeyDisabled
                | Self::PoolExhausted
                | Self::OutsideUsageSuspected
                | Self::LedgerUnavailable
                | Self::SecretSourceFailed
        )
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is done when one of some events happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its name, an id, unique in the catalogue.
    pub name: String,
    /// The events it is for; at least one.
    pub events: BTreeSet<EventKind>,
    /// Labels that the request must have had, all of them.
    pub labels: BTreeMap<String, String>,
    /// The pools it is for; every pool if none is named.
    pub pools: BTreeSet<String>,
    /// What is done.
    pub action: HookAction,
    /// How long after one time it is not done again, by the whole fleet: 0 to 24 h.
    pub cooldown: Duration,
    /// How long one try may take: 100 ms to 60 s.
    pub timeout: Duration,
    /// How often it is tried: 1 to 10.
    pub attempts: u32,
}

/// What a hook does.
#[derive(Clone, PartialEq, Eq)]
pub enum HookAction {
    /// Posts to an address.
    Post {
        /// An http or https URL. It is a secret: some services put a token in it.
        url: Secret,
        /// The form of what is posted.
        format: HookFormat,
    },
    /// Runs a local program.
    Run {
        /// Its absolute path, then its arguments.
        command: Vec<String>,
    },
}

/// Without the arguments of a program, since a token may be among them.
impl fmt::Debug for HookAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Post { url, format } => {
                f.debug_struct("Post").field("url", url).field("format", format).finish()
            }
            Self::Run { command } => f.debug_tuple("Run").field(&command.first()).finish_non_exhaustive(),
        }
    }
}

/// The form in which an event is posted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookFormat {
    /// The event as JSON.
    #[default]
    Json,
    /// A message for an incoming webhook of Slack.
    Slack,
    /// A message for a webhook of Discord.
    Discord,
}

impl Hook {
    /// Whether it is for an event in a pool, of a request with these labels.
    pub fn is_for(&self, event: EventKind, pool: &str, labels: &BTreeMap<String, String>) -> bool {
        self.events.contains(&event)
            && (self.pools.is_empty() || self.pools.contains(pool))
            && self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

impl HookFormat {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::Json, Self::Slack, Self::Discord];

    /// Its name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Slack => "slack",
            Self::Discord => "discord",
        }
    }

    /// The form of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }
}
