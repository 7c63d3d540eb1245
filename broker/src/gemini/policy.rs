//! The table: what the broker does about each signal.

use std::time::Duration;

use super::decision::{Action, Advice, Block, Charge, Decision, FOREVER, Length, Reason, Scope};
use super::quota::{LearnedQuota, Window};
use super::signal::Signal;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
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
        blocks: block(signal, &facts).into_iter().collect(),
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

/// Who is not leased for a while, and for how long.
fn block(signal: Signal, facts: &Facts) -> Option<Block> {
    let hint = facts.hint.unwrap_or_default();
    // Every step waits at least as long as Google asked.
    let at_least_hint = |steps: &[Duration]| steps.iter().map(|step| (*step).max(hint)).collect::<Vec<_>>();
    let slowly = [10 * MINUTE, HOUR, 6 * HOUR, DAY];
    let (scope, reason, steps, until_pacific_midnight) = match signal {
        Signal::MinuteQuota => {
            let unsaid = if facts.window == Some(Window::Second) { SECOND } else { MINUTE };
            let step = facts.hint.unwrap_or(unsaid).max(SECOND);
            (Scope::ProjectModel, Reason::MinuteQuota, vec![step], false)
        }
        // The hint of a spent day is often a few seconds and never enough alone. The minute is for the answer
        // that arrives as the day ends: Google's counter and the ledger's clock need not turn at once.
        Signal::DailyQuota => (Scope::ProjectModel, Reason::DailyQuota, at_least_hint(&[MINUTE]), true),
        Signal::ModelNotOffered => (Scope::ProjectModel, Reason::ModelNotOffered, vec![DAY, 7 * DAY], false),
        Signal::Capacity => {
            let doubling = [2, 4, 8, 16, 32, 64, 128, 256, 300].map(Duration::from_secs);
            (Scope::ProjectModel, Reason::Capacity, at_least_hint(&doubling), false)
        }
        Signal::SpendRate => {
            let steps = [MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE];
            (Scope::BillingAccount, Reason::SpendRate, at_least_hint(&steps), false)
        }
        // A probe a day finds the new month, or the cap that an operator raised.
        Signal::SpendCap => (Scope::Project, Reason::SpendCap, at_least_hint(&[HOUR]), true),
        // A probe finds that credit was bought.
        Signal::CreditDepleted => {
            (Scope::BillingAccount, Reason::CreditDepleted, vec![HOUR, 6 * HOUR, DAY], false)
        }
        // Google has called good keys invalid for a moment, so one verdict is checked once.
        Signal::KeyInvalid => (Scope::Key, Reason::KeyInvalid, vec![MINUTE, FOREVER], false),
        Signal::KeyBinding => (Scope::Key, Reason::KeyBinding, slowly.to_vec(), false),
        Signal::KeyLeaked => (Scope::Key, Reason::KeyLeaked, vec![FOREVER], false),
        Signal::KeySuspended => (Scope::Key, Reason::KeySuspended, vec![FOREVER], false),
        Signal::ProjectDisabled => (Scope::Project, Reason::ProjectDisabled, slowly.to_vec(), false),
        Signal::KeyRestricted => (Scope::Key, Reason::KeyRestricted, slowly.to_vec(), false),
        Signal::ModelClosed => (Scope::ProjectModel, Reason::ModelClosed, vec![DAY, 7 * DAY], false),
        Signal::Ok
        | Signal::NotSent
        | Signal::WrongProject
        | Signal::PermissionUnclear
        | Signal::RegionUnsupported
        | Signal::RequestFault
        | Signal::ModelOverloaded
        | Signal::ServerFault
        | Signal::NetworkFault
        | Signal::Cancelled
        | Signal::Unreadable => return None,
    };
    // A block that never ends has no first lease after it.
    let probe = steps != [FOREVER];
    Some(Block { scope, length: Length { steps, until_pacific_midnight }, probe, reason })
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
        Signal::ModelOverloaded => (Action::RetryAfter, Some(5 * SECOND)),
        Signal::ServerFault => (Action::RetryAfter, Some(2 * SECOND)),
        Signal::NetworkFault => (Action::RetryAfter, Some(SECOND)),
        Signal::WrongProject | Signal::RegionUnsupported | Signal::RequestFault | Signal::Unreadable => {
            (Action::DoNotRetry, None)
        }
    };
    let retry_after = wait.map(|wait| wait.max(hint.unwrap_or_default()));
    Advice { action, retry_after, message: message(signal).to_owned() }
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
