//! The table: what the broker does about each signal.

use std::time::Duration;

use super::decision::{Action, Advice, Block, Charge, Decision, FOREVER, Length, Reason, Scope};
use super::quota::{LearnedQuota, Window};
use super::signal::Signal;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const TEN_MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3_600);
const SIX_HOURS: Duration = Duration::from_secs(6 * 3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The facts beside the signal that a decision depends on.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// How long the answer asked to wait.
    pub(super) hint: Option<Duration>,
    /// The longest time of the violated quotas.
    pub(super) window: Option<Window>,
    pub(super) learned: Vec<LearnedQuota>,
}

/// Looks the signal up.
pub(super) fn decide(signal: Signal, facts: Facts) -> Decision {
    Decision {
        signal,
        charge: charge(signal),
        blocks: blocks(signal, &facts),
        health: health(signal),
        advice: advice(signal, facts.hint),
        learned: facts.learned,
        alert: alert(signal),
    }
}

/// Google may have counted whatever reached it, so nothing less than certainty gives a charge back.
const fn charge(signal: Signal) -> Charge {
    match signal {
        Signal::Ok => Charge::TrueUp,
        Signal::NotSent => Charge::Refund,
        _ => Charge::Keep,
    }
}

/// What is neither blocked nor probed the first two times: whoever fails once may be unlucky.
const ON_REPETITION: [Duration; 2] = [Duration::ZERO; 2];
/// For what only a person mends: a probe now and then finds that it was.
const SLOWLY: [Duration; 4] = [TEN_MINUTES, HOUR, SIX_HOURS, DAY];
/// How long the breaker of a model stays open, time after time.
const BREAKER_SECONDS: [u64; 6] = [1, 2, 4, 8, 16, 30];

/// Who is not leased for a while, and for how long.
fn blocks(signal: Signal, facts: &Facts) -> Vec<Block> {
    let hint = facts.hint.unwrap_or_default();
    // Every step waits at least as long as Google asked.
    let at_least_hint = |steps: &[Duration]| steps.iter().map(|step| (*step).max(hint)).collect::<Vec<_>>();
    match signal {
        Signal::MinuteQuota => {
            let unsaid = if facts.window == Some(Window::Second) { SECOND } else { MINUTE };
            let step = facts.hint.unwrap_or(unsaid).max(SECOND);
            vec![block(Scope::ProjectModel, Reason::MinuteQuota, [step])]
        }
        // The hint of a spent day is often a few seconds and never enough alone. The minute is for the answer
        // that arrives as the day ends: Google's counter and the ledger's clock need not turn at once.
        Signal::DailyQuota => {
            vec![block(Scope::ProjectModel, Reason::DailyQuota, at_least_hint(&[MINUTE])).until_midnight()]
        }
        Signal::ModelNotOffered => {
            vec![block(Scope::ProjectModel, Reason::ModelNotOffered, [DAY, 7 * DAY])]
        }
        Signal::Capacity => {
            let doubling = [2, 4, 8, 16, 32, 64, 128, 256, 300].map(Duration::from_secs);
            vec![block(Scope::ProjectModel, Reason::Capacity, at_least_hint(&doubling))]
        }
        Signal::SpendRate => {
            let steps = [MINUTE, 2 * MINUTE, 5 * MINUTE, TEN_MINUTES];
            vec![block(Scope::BillingAccount, Reason::SpendRate, at_least_hint(&steps))]
        }
        // A probe a day finds the new month, or the cap that an operator raised.
        Signal::SpendCap => {
            vec![block(Scope::Project, Reason::SpendCap, at_least_hint(&[HOUR])).until_midnight()]
        }
        // A probe finds that credit was bought.
        Signal::CreditDepleted => {
            vec![block(Scope::BillingAccount, Reason::CreditDepleted, [HOUR, SIX_HOURS, DAY])]
        }
        // Google has called good keys invalid for a moment, so one verdict is checked once.
        Signal::KeyInvalid => vec![block(Scope::Key, Reason::KeyInvalid, [MINUTE, FOREVER])],
        Signal::KeyBinding => vec![block(Scope::Key, Reason::KeyBinding, SLOWLY)],
        Signal::KeyLeaked => vec![block(Scope::Key, Reason::KeyLeaked, [FOREVER])],
        // The first suspended key is only counted against its project; the second takes it along.
        Signal::KeySuspended => vec![
            block(Scope::Key, Reason::KeySuspended, [FOREVER]),
            block(Scope::Project, Reason::KeySuspended, [Duration::ZERO, FOREVER]),
        ],
        Signal::ProjectDisabled => vec![block(Scope::Project, Reason::ProjectDisabled, SLOWLY)],
        Signal::KeyRestricted => vec![block(Scope::Key, Reason::KeyRestricted, SLOWLY)],
        Signal::PermissionUnclear => {
            let steps = [&ON_REPETITION[..], &SLOWLY].concat();
            vec![block(Scope::Key, Reason::PermissionUnclear, steps)]
        }
        Signal::ModelClosed => vec![block(Scope::ProjectModel, Reason::ModelClosed, [DAY, 7 * DAY])],
        // A breaker: another key would fare no better. It holds up the whole fleet, so that no wait a proxy
        // asks for lengthens its steps; the caller waits that long, and others find out earlier.
        Signal::ModelOverloaded => {
            let steps = [&ON_REPETITION[..], &BREAKER_SECONDS.map(Duration::from_secs)].concat();
            vec![block(Scope::Model, Reason::ModelOverloaded, steps)]
        }
        Signal::Ok
        | Signal::NotSent
        | Signal::WrongProject
        | Signal::RegionUnsupported
        | Signal::RequestFault
        | Signal::ServerFault
        | Signal::NetworkFault
        | Signal::Cancelled
        | Signal::Unreadable => Vec::new(),
    }
}

/// A block that is probed after each of its steps, except after one of no time, which only counts, and
/// after the last there is.
fn block(scope: Scope, reason: Reason, steps: impl Into<Vec<Duration>>) -> Block {
    let steps = steps.into();
    let probe = steps.iter().any(|step| !step.is_zero() && *step < FOREVER);
    Block { scope, length: Length { steps, until_pacific_midnight: false }, probe, reason }
}

impl Block {
    fn until_midnight(mut self) -> Self {
        self.length.until_pacific_midnight = true;
        self
    }
}

/// What the answer says of the key itself. Quotas, projects, servers and requests say nothing of it.
const fn health(signal: Signal) -> i64 {
    match signal {
        Signal::Ok => 5,
        Signal::KeyInvalid
        | Signal::KeyBinding
        | Signal::KeyLeaked
        | Signal::KeySuspended
        | Signal::KeyRestricted
        | Signal::PermissionUnclear => -20,
        _ => 0,
    }
}

/// Whether only a person can mend it.
const fn alert(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::ModelNotOffered
            | Signal::SpendCap
            | Signal::CreditDepleted
            | Signal::KeyLeaked
            | Signal::KeySuspended
            | Signal::ProjectDisabled
    )
}

/// What the caller does. A fault of the server or the network follows the caller to every key, so it waits;
/// a fault of a key, project or account does not.
fn advice(signal: Signal, hint: Option<Duration>) -> Advice {
    let (action, wait) = match signal {
        Signal::Ok | Signal::NotSent | Signal::Cancelled => (Action::Done, None),
        Signal::MinuteQuota
        | Signal::DailyQuota
        | Signal::ModelNotOffered
        | Signal::Capacity
        | Signal::SpendRate
        | Signal::SpendCap
        | Signal::CreditDepleted
        | Signal::KeyInvalid
        | Signal::KeyBinding
        | Signal::KeyLeaked
        | Signal::KeySuspended
        | Signal::ProjectDisabled
        | Signal::KeyRestricted
        | Signal::PermissionUnclear
        | Signal::ModelClosed => (Action::RetryOtherKey, None),
        // While the breaker is open, the next Acquire is refused with the exact wait.
        Signal::ModelOverloaded => (Action::RetryAfter, Some(Duration::from_secs(BREAKER_SECONDS[0]))),
        Signal::ServerFault => (Action::RetryAfter, Some(2 * SECOND)),
        Signal::NetworkFault => (Action::RetryAfter, Some(SECOND)),
        Signal::WrongProject | Signal::RegionUnsupported | Signal::RequestFault | Signal::Unreadable => {
            (Action::DoNotRetry, None)
        }
    };
    let retry_after = wait.map(|wait| wait.max(hint.unwrap_or_default()));
    let once = signal == Signal::PermissionUnclear;
    Advice { action, retry_after, once, message: message(signal).to_owned() }
}

/// One sentence for people. It is chosen and never composed, so nothing of the body can be in it.
const fn message(signal: Signal) -> &'static str {
    match signal {
        Signal::Ok => "The request succeeded.",
        Signal::NotSent => "The request was not sent and its charge was refunded.",
        Signal::MinuteQuota => {
            "The project's quota for this minute and model is spent; another project may serve it now."
        }
        Signal::DailyQuota => {
            "The project's quota for this day and model is spent until midnight Pacific time; another project may serve it now."
        }
        Signal::ModelNotOffered => {
            "This model is not offered to the project's tier; a project of another tier may serve it."
        }
        Signal::Capacity => {
            "Google refused for lack of capacity without naming a quota; another project may serve it now."
        }
        Signal::SpendRate => {
            "The billing account spends faster than its tier allows; another account may serve it now."
        }
        Signal::SpendCap => {
            "The project has reached its monthly spending cap; another project may serve it now."
        }
        Signal::CreditDepleted => "The billing account has no credit left; another account may serve it now.",
        Signal::KeyInvalid => "The key is not valid or has expired; another key may serve it now.",
        Signal::KeyBinding => {
            "The key's kind or binding is not accepted by this API; another key may serve it now."
        }
        Signal::KeyLeaked => {
            "Google holds the key for leaked and refuses it for good; another key may serve it now."
        }
        Signal::KeySuspended => "The key is suspended; a key of another project may serve it now.",
        Signal::ProjectDisabled => "The project may not use the API; another project may serve it now.",
        Signal::KeyRestricted => {
            "A restriction set on the key refuses the request; another key may serve it now."
        }
        Signal::WrongProject => {
            "The request names a file or cache that this project cannot reach; lease a key of the project that made it."
        }
        Signal::PermissionUnclear => {
            "Permission was denied without a readable reason; another key may serve it once."
        }
        Signal::RegionUnsupported => "The region from which the request was sent is not served.",
        Signal::RequestFault => {
            "The request itself is at fault or its answer was withheld; sending it again will not help."
        }
        Signal::ModelClosed => "This model is closed to the project; another project may serve it now.",
        Signal::ModelOverloaded => "The model is overloaded for everybody; wait, or use another model.",
        Signal::ServerFault => "Google's servers failed; wait and send the request again.",
        Signal::NetworkFault => {
            "The network failed or no answer came in time; wait and send the request again."
        }
        Signal::Cancelled => "The caller gave up; the charge stays.",
        Signal::Unreadable => "The answer could not be read, so nobody is penalised and nothing is retried.",
    }
}
