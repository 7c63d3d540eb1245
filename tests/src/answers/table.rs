//! The table of the 23 rows.

use std::time::Duration;

use keybroker_client::Signal;

use super::row::{
    Advised::{self, After, Never, OtherKey, OtherKeyOnce},
    Answer::{self, Error, Other, Shaped},
    Lasts::{self, For, ToPacificMidnight, UntilAnOperatorActs},
    Row,
};
use crate::fake_gemini::{Fault, NamedError as E, Shape};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const MINUTE: Duration = secs(60);
const HOUR: Duration = secs(3_600);
const DAY: Duration = secs(86_400);
const QUARANTINE: Lasts = For(secs(600));

/// The project and quota model are at fault: the next project is called, and both are out for the model.
const PROJECT_MODEL: Row = Row {
    number: 0,
    says: "",
    at_fault: "project + quota model",
    broker: "",
    caller: "other project",
    answers: &[],
    attempts: 2,
    advice: OtherKey,
    calls: &["a1", "b1"],
    cooldowns: &["project alpha, model gemini-fake", "project beta, model gemini-fake"],
    reason: "",
    lasts: Lasts::Nothing,
    out: &["a1", "a2", "b1"],
    for_all_models: false,
    alert: false,
};

/// The project is at fault: the next project is called, and both are out.
const PROJECT: Row = Row {
    at_fault: "project",
    cooldowns: &["project alpha", "project beta"],
    for_all_models: true,
    alert: true,
    ..PROJECT_MODEL
};

/// The billing account is at fault: a project of the next account is called, and both accounts are out.
const ACCOUNT: Row = Row {
    at_fault: "billing account",
    caller: "other account",
    calls: &["a1", "c1"],
    cooldowns: &["billing account account-1", "billing account account-2"],
    out: &["a1", "a2", "b1", "c1"],
    ..PROJECT
};

/// The key is at fault: the other key of the same project is called, and both are out.
const KEY: Row = Row {
    at_fault: "key",
    caller: "other key",
    calls: &["a1", "a2"],
    cooldowns: &["key a1", "key a2"],
    out: &["a1", "a2"],
    alert: false,
    ..PROJECT
};

/// The request is at fault: nobody else is called, and nobody is out.
const REQUEST: Row = Row {
    at_fault: "request",
    broker: "no penalty",
    caller: "does not retry",
    advice: Never,
    calls: &["a1"],
    ..NOBODY
};

/// Nobody is out.
const NOBODY: Row = Row {
    cooldowns: &[],
    lasts: Lasts::Nothing,
    out: &[],
    for_all_models: false,
    alert: false,
    advice: Advised::OtherKey,
    ..PROJECT_MODEL
};

const fn answered(name: E, signal: Signal) -> (Answer, Signal) {
    (Error(name), signal)
}

/// The rows in their order.
pub static ROWS: [Row; 23] = [
    Row {
        number: 1,
        says: "429, a quota per minute",
        broker: "cools it for the time named",
        answers: &[
            answered(E::Minute429, Signal::MinuteQuota),
            (Shaped(E::Minute429, Shape::Array), Signal::MinuteQuota),
        ],
        reason: "minute_quota",
        lasts: For(secs(12)),
        ..PROJECT_MODEL
    },
    Row {
        number: 2,
        says: "429, a quota per day",
        broker: "cools it to Pacific midnight",
        answers: &[
            answered(E::Daily429, Signal::DailyQuota),
            answered(E::InteractionsQuotaExceeded, Signal::DailyQuota),
            answered(E::MinuteAndDaily429, Signal::DailyQuota),
            (Shaped(E::Daily429, Shape::Array), Signal::DailyQuota),
            (Shaped(E::Daily429, Shape::Interactions), Signal::DailyQuota),
        ],
        reason: "daily_quota",
        lasts: ToPacificMidnight(MINUTE),
        ..PROJECT_MODEL
    },
    Row {
        number: 3,
        says: "429, a limit of 0",
        at_fault: "model not in this tier",
        broker: "the model is out for a day, then a week; alert",
        answers: &[
            answered(E::LimitZero429, Signal::ModelNotOffered),
            (Shaped(E::LimitZero429, Shape::Text), Signal::ModelNotOffered),
        ],
        reason: "model_not_offered",
        lasts: For(DAY),
        alert: true,
        ..PROJECT_MODEL
    },
    Row {
        number: 4,
        says: "429, no quota named",
        at_fault: "project + model, capacity",
        broker: "cools it 2 s, doubling to 5 min",
        answers: &[
            answered(E::Opaque429, Signal::Capacity),
            answered(E::InteractionsTooManyRequests, Signal::Capacity),
            (Shaped(E::Opaque429, Shape::Html), Signal::Capacity),
        ],
        reason: "capacity",
        lasts: For(secs(2)),
        ..PROJECT_MODEL
    },
    Row {
        number: 5,
        says: "429, spend rate",
        broker: "cools the account 1 to 10 min",
        answers: &[
            answered(E::SpendRate429, Signal::SpendRate),
            (Shaped(E::SpendRate429, Shape::Text), Signal::SpendRate),
        ],
        reason: "spend_rate",
        lasts: For(MINUTE),
        alert: false,
        ..ACCOUNT
    },
    Row {
        number: 6,
        says: "429, monthly spending cap",
        broker: "out, probed once a day; alert",
        answers: &[answered(E::SpendingCap429, Signal::SpendCap)],
        reason: "spend_cap",
        lasts: ToPacificMidnight(HOUR),
        ..PROJECT
    },
    Row {
        number: 7,
        says: "402 or 429, no credit left",
        broker: "out for 1 h, 6 h, a day; alert",
        answers: &[
            answered(E::CreditsDepleted429, Signal::CreditDepleted),
            answered(E::PaymentRequired, Signal::CreditDepleted),
        ],
        reason: "credit_depleted",
        lasts: For(HOUR),
        ..ACCOUNT
    },
    Row {
        number: 8,
        says: "400, key invalid or expired",
        broker: "out; one re-check after 1 min",
        answers: &[
            answered(E::Invalid, Signal::KeyInvalid),
            answered(E::Expired, Signal::KeyInvalid),
            (Shaped(E::Invalid, Shape::Interactions), Signal::KeyInvalid),
            (Shaped(E::Invalid, Shape::Text), Signal::KeyInvalid),
        ],
        reason: "key_invalid",
        lasts: For(MINUTE),
        ..KEY
    },
    Row {
        number: 9,
        says: "401, token type unsupported",
        at_fault: "key binding",
        broker: "quarantine, probed slowly",
        answers: &[
            answered(E::AccessTokenTypeUnsupported, Signal::KeyBinding),
            (Shaped(E::AccessTokenTypeUnsupported, Shape::Array), Signal::KeyBinding),
        ],
        reason: "key_binding",
        lasts: QUARANTINE,
        ..KEY
    },
    Row {
        number: 10,
        says: "403, reported as leaked",
        broker: "out for good; alert",
        answers: &[
            answered(E::Leaked, Signal::KeyLeaked),
            (Shaped(E::Leaked, Shape::Html), Signal::KeyLeaked),
            (Shaped(E::Leaked, Shape::Interactions), Signal::KeyLeaked),
        ],
        reason: "key_leaked",
        lasts: UntilAnOperatorActs,
        alert: true,
        ..KEY
    },
    Row {
        number: 11,
        says: "403, consumer suspended",
        at_fault: "key, perhaps project",
        broker: "out for good; by a second key its project too; alert",
        answers: &[
            answered(E::Suspended, Signal::KeySuspended),
            (Shaped(E::Suspended, Shape::Text), Signal::KeySuspended),
            (Shaped(E::Suspended, Shape::Array), Signal::KeySuspended),
        ],
        reason: "key_suspended",
        cooldowns: &["key a1", "key a2", "project alpha"],
        lasts: UntilAnOperatorActs,
        alert: true,
        ..KEY
    },
    Row {
        number: 12,
        says: "403, API off, no billing, denied",
        broker: "out, probed slowly; alert",
        answers: &[
            answered(E::ServiceDisabled, Signal::ProjectDisabled),
            answered(E::ConsumerInvalid, Signal::ProjectDisabled),
            answered(E::BillingDisabled, Signal::ProjectDisabled),
            answered(E::ProjectDenied, Signal::ProjectDisabled),
        ],
        reason: "project_disabled",
        lasts: QUARANTINE,
        ..PROJECT
    },
    Row {
        number: 13,
        says: "403, key restricted",
        at_fault: "key restriction",
        broker: "quarantine, probed slowly",
        answers: &[
            answered(E::ServiceBlocked, Signal::KeyRestricted),
            answered(E::IpAddressBlocked, Signal::KeyRestricted),
            answered(E::ReferrerBlocked, Signal::KeyRestricted),
        ],
        reason: "key_restricted",
        lasts: QUARANTINE,
        ..KEY
    },
    Row {
        number: 14,
        says: "403 on a file, 404 on a resource",
        at_fault: "request (wrong project)",
        caller: "only on the owner project",
        answers: &[
            answered(E::FileForbidden, Signal::WrongProject),
            answered(E::ResourceNotFound, Signal::RequestFault),
        ],
        ..REQUEST
    },
    Row {
        number: 15,
        says: "403 without a reason",
        at_fault: "unclear",
        broker: "counts; the third in a row cools the key",
        caller: "other key, once",
        answers: &[
            answered(E::CallerForbidden, Signal::PermissionUnclear),
            (Shaped(E::CallerForbidden, Shape::Html), Signal::PermissionUnclear),
        ],
        attempts: 5,
        advice: OtherKeyOnce,
        calls: &["a1", "a2"],
        ..NOBODY
    },
    Row {
        number: 16,
        says: "400, several credentials",
        answers: &[answered(E::MultipleCredentials, Signal::RequestFault)],
        ..REQUEST
    },
    Row {
        number: 17,
        says: "400, location not supported",
        at_fault: "egress or region",
        answers: &[answered(E::LocationUnsupported, Signal::RegionUnsupported)],
        ..REQUEST
    },
    Row {
        number: 18,
        says: "other 400, 404, 413, withheld",
        answers: &[
            answered(E::BadRequest, Signal::RequestFault),
            answered(E::UnknownModel, Signal::RequestFault),
            answered(E::TooLarge, Signal::RequestFault),
            (Other(Fault::Withheld), Signal::Ok),
        ],
        ..REQUEST
    },
    Row {
        number: 19,
        says: "404, closed to new users",
        at_fault: "project + model",
        broker: "the model is out for a day, then a week",
        answers: &[answered(E::RetiredModel, Signal::ModelClosed)],
        reason: "model_closed",
        lasts: For(DAY),
        ..PROJECT_MODEL
    },
    Row {
        number: 20,
        says: "503, overloaded",
        at_fault: "the model, everywhere",
        broker: "from the third in a row a breaker, 1 to 30 s",
        caller: "backs off, or other model",
        answers: &[
            answered(E::Overloaded, Signal::ModelOverloaded),
            answered(E::HighDemand, Signal::ModelOverloaded),
        ],
        attempts: 3,
        advice: After(secs(1)),
        calls: &["a1", "a2", "b1"],
        cooldowns: &["model gemini-fake"],
        reason: "model_overloaded",
        lasts: For(secs(1)),
        ..NOBODY
    },
    Row {
        number: 21,
        says: "500, 502, 504, 408, reset, timeout",
        at_fault: "server or network",
        broker: "no penalty; the charge stays",
        caller: "retries with a wait",
        answers: &[
            answered(E::Internal, Signal::ServerFault),
            answered(E::BadGateway, Signal::ServerFault),
            answered(E::DeadlineExceeded, Signal::ServerFault),
            (Other(Fault::Status { code: 408 }), Signal::ServerFault),
        ],
        advice: After(secs(2)),
        calls: &["a1", "a2"],
        ..NOBODY
    },
    Row {
        number: 22,
        says: "nothing: cancelled, died, expired",
        at_fault: "caller",
        broker: "the slot is freed; the charge stays",
        caller: "-",
        ..NOBODY
    },
    Row {
        number: 23,
        says: "nothing: never sent",
        at_fault: "nobody",
        broker: "refunds all",
        caller: "-",
        ..NOBODY
    },
];

/// A row by its number, from 1.
///
/// # Panics
/// If there is none of that number.
pub fn row(number: u8) -> &'static Row {
    ROWS.iter().find(|row| row.number == number).expect("rows are numbered from 1 to 23")
}
