//! What one settled lease tells: pure functions of the answer and the accounts it fell on.

use crate::{
    catalogue,
    events::{Event, EventKind, Numbers},
    gemini::{self, Dimension, LearnedQuota, Scope, Signal, Window},
    ledger::{self, FOREVER, Millis, Span, UNLIMITED, account::Account, calendar::Calendar},
    pool::{accounts::limit_name, millis},
};

use super::{Settled, subjects::Subjects};

/// So many percent of a limit must be used by the ledger's count for Google's refusal to be explained by it.
const EXPLAINED_PERCENT: i64 = 90;
/// In the first minutes of a day, a refusal may still speak of the day before.
const DAY_IS_YOUNG: Millis = 5 * 60_000;

/// What a block of the lease's answer began: nothing if it was only counted, as a first unclear answer is.
/// `row` is the account it fell on, as it stands now.
pub(super) fn begun(
    subjects: &Subjects,
    settled: &Settled,
    block: &gemini::Block,
    account: &str,
    row: Option<&Account>,
) -> Option<Event> {
    let step = block.length.step(0);
    let least = if step >= gemini::FOREVER { FOREVER } else { settled.at + millis(step) };
    // The ledger knows the true end: it counts blocks in a row, and days.
    let until = row.map(|row| row.blocked_until).filter(|until| *until > settled.at).unwrap_or(least);
    if until <= settled.at {
        return None;
    }
    let disabled = block.scope == Scope::Key || until >= FOREVER;
    let kind = if disabled { EventKind::KeyDisabled } else { EventKind::CooldownBegun };
    let mut event = Event::new(kind, settled.at, subjects.of_settled(account, settled));
    event.reason = subjects.text(block.reason.as_str());
    event.until = Some(until);
    Some(event)
}

/// The limits that the answer named, that the ledger had not learned before and that are not the
/// configured ones.
pub(super) fn learned(subjects: &Subjects, settled: &Settled, account: &str) -> Vec<Event> {
    let Some(project) = subjects.project(&settled.key_id).filter(|_| settled.learned_news) else {
        return Vec::new();
    };
    let configured = subjects.pool.limits_for(project, &settled.quota_model);
    // What was configured holds less its margin; so would what was learned.
    let is_configured = |measure: Measure, amount: u64| {
        let amount = subjects.pool.less_margin(Some(project), amount);
        configured.iter().any(|limit| Measure::configured(limit) == Some(measure) && limit.amount == amount)
    };
    let mut events = Vec::new();
    for quota in &settled.decision.learned {
        let (Some(measure), Some(amount)) = (Measure::learned(quota), quota.quota_value) else { continue };
        // A limit of nought says that the model is not offered, which is told as a cooldown.
        if amount == 0 || is_configured(measure, amount) {
            continue;
        }
        let mut event =
            Event::new(EventKind::LimitLearned, settled.at, subjects.of_settled(account, settled));
        event.numbers = Numbers {
            limit_name: measure.name(),
            limit: Some(i64::try_from(amount).unwrap_or(UNLIMITED)),
            ..Numbers::default()
        };
        events.push(event);
    }
    events
}

/// Whether Google refused for a quota of which much was left by the ledger's count. `row` is the account of
/// the project's quota model, read at `now`.
pub(super) fn outside_usage(
    subjects: &Subjects,
    settled: &Settled,
    account: &str,
    row: &Account,
    now: Millis,
) -> Option<Event> {
    if !matches!(settled.decision.signal, Signal::MinuteQuota | Signal::DailyQuota) {
        return None;
    }
    let numbers = settled.decision.learned.iter().find_map(|quota| unexplained(quota, row, now))?;
    let subject = subjects.of_settled(account, settled);
    let event = Event::new(EventKind::OutsideUsageSuspected, settled.at, subject);
    Some(Event { numbers, reason: subjects.text(settled.decision.signal.as_str()), ..event })
}

/// The numbers of a refused quota that the ledger's count does not explain.
fn unexplained(quota: &LearnedQuota, row: &Account, now: Millis) -> Option<Numbers> {
    let measure = Measure::learned(quota)?;
    match quota.window {
        Window::Second => return None,
        Window::Minute => {}
        Window::Day if day_age(now) < DAY_IS_YOUNG => return None,
        Window::Day => {}
    }
    let window = row.windows.iter().find(|window| Measure(window.dimension, window.span) == measure)?;
    let named = quota.quota_value.and_then(|value| i64::try_from(value).ok());
    let limit = named.or((window.limit < UNLIMITED).then_some(window.limit)).filter(|limit| *limit > 0)?;
    let used = window.used(now);
    let explained = used.saturating_mul(100) >= limit.saturating_mul(EXPLAINED_PERCENT);
    (!explained).then(|| Numbers {
        limit_name: measure.name(),
        limit: Some(limit),
        used: Some(used),
        ..Numbers::default()
    })
}

fn day_age(now: Millis) -> Millis {
    let days = Calendar::around(now).day_ends;
    days.iter().rev().find(|end| **end <= now).map_or(0, |begun| now - begun)
}

/// What a limit counts, and over which time, in the ledger's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Measure(ledger::Dimension, Span);

impl Measure {
    /// None for what the ledger does not count.
    fn learned(quota: &LearnedQuota) -> Option<Self> {
        let dimension = match quota.dimension {
            Dimension::Requests => ledger::Dimension::Requests,
            Dimension::InputTokens => ledger::Dimension::InputTokens,
            Dimension::TotalTokens => ledger::Dimension::TotalTokens,
            Dimension::Images | Dimension::Spend => return None,
        };
        let span = match quota.window {
            Window::Second => Span::Trailing(1_000),
            Window::Minute => Span::Trailing(60_000),
            Window::Day => Span::Day,
        };
        Some(Self(dimension, span))
    }

    fn configured(limit: &catalogue::Limit) -> Option<Self> {
        let dimension = match limit.dimension {
            catalogue::Dimension::Requests => ledger::Dimension::Requests,
            catalogue::Dimension::InputTokens => ledger::Dimension::InputTokens,
            catalogue::Dimension::TotalTokens => ledger::Dimension::TotalTokens,
            // No quota that Google names counts anything else.
            _ => return None,
        };
        let span = match limit.window {
            catalogue::Window::Trailing(seconds) => Span::Trailing(i64::from(seconds) * 1000),
            catalogue::Window::PacificDay => Span::Day,
            catalogue::Window::Month => Span::Month,
            catalogue::Window::None => Span::Held,
        };
        Some(Self(dimension, span))
    }

    fn name(self) -> String {
        limit_name(self.0, self.1)
    }
}
