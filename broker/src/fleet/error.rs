//! Why a change was not made.

use super::Obstacle;
use crate::{
    ledger::LedgerError,
    registry::{RegistryError, seal::MASTER_KEY},
};

/// Why a change was not made, or something could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FleetError {
    /// Fields, each with what is wrong and the fix.
    #[error("{}", list(.0))]
    Invalid(Vec<(String, String)>),
    /// A field names what is in another pool.
    #[error("{0} {1}")]
    Elsewhere(&'static str, Obstacle),
    /// There is no such key.
    #[error("there is no key {0}; `keybroker keys list` shows all keys")]
    UnknownKey(String),
    /// There is no such pool.
    #[error("there is no pool {name}; there are: {}", known.join(", "))]
    UnknownPool {
        /// The pool asked for.
        name: String,
        /// The pools there are.
        known: Vec<String>,
    },
    /// What is to be made is there already.
    #[error("{0}")]
    AlreadyThere(Obstacle),
    /// Only the configuration can change it.
    #[error("{0} is configured in the file; change it there")]
    Configured(String),
    /// Key texts cannot be sealed.
    #[error(
        "no key can be stored without a master key: set {MASTER_KEY} to the same value for every broker; \
         `keybroker generate-master-key` prints a new one"
    )]
    NoMasterKey,
    /// A pool still has keys.
    #[error(
        "pool {pool} still has {keys} keys that were created at run time; delete them first, or set force"
    )]
    PoolNotEmpty {
        /// The pool.
        pool: String,
        /// How many.
        keys: usize,
    },
    /// The caller knows an older state.
    #[error("{0} was changed since that etag was read; read it again")]
    EtagMismatch(String),
    /// Others change the registry all the time.
    #[error("others change the registry at the same time; try again")]
    Busy,
    /// The registry gave no answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The ledger gave no answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl FleetError {
    /// As it is told to somebody who knows these pools: of others it names nothing.
    #[must_use]
    pub fn told(self, knows: impl Fn(&str) -> bool) -> Self {
        match self {
            Self::Elsewhere(field, why) => {
                Self::Invalid(vec![(field.to_owned(), why.told(knows).to_owned())])
            }
            Self::AlreadyThere(why) => Self::AlreadyThere(Obstacle::open(why.told(knows))),
            Self::UnknownPool { name, mut known } => {
                known.retain(|pool| knows(pool));
                Self::UnknownPool { name, known }
            }
            other => other,
        }
    }
}

fn list(faults: &[(String, String)]) -> String {
    faults.iter().map(|(field, wrong)| format!("{field} {wrong}")).collect::<Vec<_>>().join("; ")
}
