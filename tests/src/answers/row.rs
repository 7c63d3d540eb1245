//! A row of the table: what Google answers, and all that must come of it.

use std::time::Duration;

use keybroker_client::Signal;

use crate::fake_gemini::{Fault, NamedError, Shape};

/// One of Google's answers and what it leads to.
///
/// The stage has five keys, which are leased in this order: `a1` and `a2` of project `alpha`, `b1` of `beta`
/// (both of `account-1`), `c1` of `gamma` (`account-2`) and `d1` of `delta` (`account-3`). The answer is
/// given to every call until the caller gives up.
#[derive(Debug)]
pub struct Row {
    /// Its number.
    pub number: u8,
    /// What Google says, for people.
    pub says: &'static str,
    /// Who is at fault, for people.
    pub at_fault: &'static str,
    /// What the broker does, for people.
    pub broker: &'static str,
    /// What the caller does, for people.
    pub caller: &'static str,
    /// The answers that mean this, each with what the broker reads in it. Empty: a row without an answer,
    /// which is wholly [`beyond`](super::beyond).
    pub answers: &'static [(Answer, Signal)],
    /// How many requests the caller may send.
    pub attempts: u32,
    /// The advice.
    pub advice: Advised,
    /// The keys that were called, in their order, until the caller gave up.
    pub calls: &'static [&'static str],
    /// What is cooling down after that.
    pub cooldowns: &'static [&'static str],
    /// Why.
    pub reason: &'static str,
    /// For how long.
    pub lasts: Lasts,
    /// The keys that are out for the model.
    pub out: &'static [&'static str],
    /// Whether they are out for other models too.
    pub for_all_models: bool,
    /// Whether an operator is told.
    pub alert: bool,
}

/// What Google does to a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    /// An error answer.
    Error(NamedError),
    /// The same in another shape.
    Shaped(NamedError, Shape),
    /// Something else.
    Other(Fault),
}

impl Answer {
    /// As the fake Gemini is told.
    pub fn fault(self) -> Fault {
        match self {
            Self::Error(name) => Fault::Error { name },
            Self::Shaped(name, shape) => Fault::ShapedError { name, shape },
            Self::Other(fault) => fault,
        }
    }
}

/// What the caller is advised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advised {
    /// Another key, now.
    OtherKey,
    /// The same, and no third try.
    OtherKeyOnce,
    /// Later.
    After(Duration),
    /// Never.
    Never,
}

/// How long a cooldown lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// There is none.
    Nothing,
    /// So long.
    For(Duration),
    /// To the next midnight in California, and so long at least.
    ToPacificMidnight(Duration),
    /// Until an operator acts.
    UntilAnOperatorActs,
}
