//! Reports: what came of a lease, turned into what the ledger keeps and what the worker does next.

use std::time::Duration;

use super::{AcquireError, Pool, accounts::AccountOf, millis, note::Note, watch::Settled};
use crate::{
    catalogue::{self, Catalogue, LARGEST_AMOUNT, LearnLimits},
    gemini::{self, Action, Charge, Decision, Outcome, Scope, Signal, TransportKind},
    lease_id::LeaseId,
    ledger::{
        self, Block, Edit, EditAction, FOREVER, LimitSpec, Millis, Settle, SettleState, Span,
        calendar::Calendar,
    },
};

/// One report, checked.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// The lease.
    pub lease: LeaseId<'a>,
    /// What came of it.
    pub outcome: Outcome<'a>,
    /// Tokens, as far as they are known.
    pub usage: Usage,
}

/// Tokens used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens.
    pub input_tokens: Option<i64>,
    /// Those of the input tokens that were cached.
    pub cached_tokens: Option<i64>,
    /// Input and output tokens.
    pub total_tokens: Option<i64>,
}

/// The answer to a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// What it did to its lease.
    pub state: SettleState,
    /// The key of the lease; empty if the report settled nothing.
    pub key_id: String,
    /// What the worker does next.
    pub action: Action,
    /// After how long.
    pub retry_after: Option<Duration>,
    /// Whether the next try is the last.
    pub once: bool,
    /// What the answer meant.
    pub signal: Signal,
    /// One sentence.
    pub message: String,
    /// The quota model under which Google counts the lease's, if that is another one: to be learned.
    pub counted_as: Option<String>,
}

impl Pool {
    /// Settles a lease by what came of it.
    ///
    /// # Errors
    /// If the ledger gave no answer; reporting again is safe.
    pub async fn report(&self, report: &Report<'_>) -> Result<Reported, AcquireError> {
        let decision = gemini::read(&report.outcome);
        let settle = settle(&self.config, &self.catalogue(), report, &decision);
        if !settle.blocks.is_empty() {
            self.early.cooled_down();
        }
        let frees = self.early.are_made_by(&settle);
        let answered = self.committer.settle(report.lease.shard.into(), settle).await;
        let (answer, now) = answered.map_err(|error| self.failed(error))?;
        let state = answer.0;
        if matches!(state, SettleState::Settled | SettleState::Late) {
            self.stats.settled();
            self.count(report, &decision, &answer.1);
            self.describe_report(&report.lease, &decision, &answer.1);
            // Whoever waits may find the slot that this lease held, or what it gave back.
            if frees {
                self.queues.freed();
            }
            self.log(report, &decision, &answer.1);
            self.watch.settled(&decision, || Settled {
                key_id: answer.1.clone(),
                quota_model: report.lease.quota_model().to_owned(),
                note: Note::decode(&answer.3),
                decision: decision.clone(),
                learned_news: answer.4,
                at: now,
            });
            self.take_over(report, &decision, &answer.1, now).await;
        }
        let counted_as = decision.counted_as(report.lease.quota_model()).map(str::to_owned);
        Ok(match state {
            SettleState::Already => Reported::from_memo(&answer.2),
            SettleState::Unknown => Reported::unknown(&report.outcome),
            SettleState::Settled | SettleState::Late => Reported {
                state,
                key_id: answer.1,
                action: decision.advice.action,
                retry_after: decision.advice.retry_after,
                once: decision.advice.once,
                signal: decision.signal,
                message: decision.advice.message,
                counted_as,
            },
        })
    }

    fn count(&self, report: &Report<'_>, decision: &Decision, key_id: &str) {
        let project = self.keys.get(key_id).map_or("", |(_, project)| project.id.as_str());
        let (model, signal) = (report.lease.quota_model(), decision.signal.as_str());
        self.metrics.settled(&self.name, model, project, signal, report.usage.input_tokens);
        let status = match report.outcome {
            Outcome::Success => Ok(200),
            Outcome::HttpError { status, .. } => Ok(status),
            Outcome::Transport(TransportKind::Connect) => Err("connect"),
            Outcome::Transport(TransportKind::Timeout) => Err("timeout"),
            Outcome::Transport(TransportKind::Reset) => Err("reset"),
            Outcome::Transport(TransportKind::Cancelled) => Err("cancelled"),
            Outcome::NotSent => return,
        };
        self.metrics.gemini_answered(&self.name, status);
        decision.learned.iter().for_each(|quota| self.metrics.quota_exceeded(&self.name, &quota.quota_id));
    }

    fn log(&self, report: &Report<'_>, decision: &Decision, key_id: &str) {
        let pool = self.config.name.as_str();
        let (signal, model) = (decision.signal, report.lease.quota_model());
        let blocks = decision.blocks.iter().map(|block| block.reason.as_str()).collect::<Vec<_>>().join(",");
        if let Outcome::HttpError { status, body, .. } = report.outcome {
            let secrets = self.keys.values().map(|(key, _)| &key.secret).chain(&self.former);
            let secrets = secrets.map(|secret| secret.expose());
            tracing::debug!(pool, key_id, status, body = gemini::redact(body, secrets), "Gemini's answer");
        }
        if decision.alert {
            tracing::error!(pool, key_id, model, %signal, blocks, "an operator must act: {}", decision.advice.message);
        } else if !decision.blocks.is_empty() {
            tracing::warn!(pool, key_id, model, %signal, blocks, "cooling down");
        } else {
            tracing::debug!(pool, key_id, model, %signal, "lease settled");
        }
    }
}

/// What the ledger keeps of a report: a pure function of the catalogue and the report, so that a simulation
/// can ask it too. The shard is the caller's to name.
pub fn settle(
    pool: &catalogue::Pool,
    catalogue: &Catalogue,
    report: &Report<'_>,
    decision: &Decision,
) -> Settle {
    let quota_model = report.lease.quota_model();
    let charge = match decision.charge {
        Charge::Refund => ledger::Charge::Refund,
        Charge::TrueUp => ledger::Charge::TrueUp,
        // What Google said it used is known, also of an answer that broke off.
        Charge::Keep if report.usage.input_tokens.is_some() => ledger::Charge::TrueUp,
        Charge::Keep => ledger::Charge::Keep,
    };
    Settle {
        lease: report.lease.unique.to_owned(),
        shard: 0,
        charge,
        input_tokens: report.usage.input_tokens.unwrap_or(-1),
        total_tokens: report.usage.total_tokens.unwrap_or(-1),
        spend: spent(catalogue, quota_model, report.usage).unwrap_or(-1),
        clear: decision.signal == Signal::Ok,
        blocks: decision.blocks.iter().map(block).collect(),
        memo: memo(decision),
        health: decision.health,
        learned: learned(pool, quota_model, decision),
        outcome: decision.signal.as_str().to_owned(),
    }
}

/// What was spent, in millionths of a US dollar, if price and tokens are known.
fn spent(catalogue: &Catalogue, quota_model: &str, usage: Usage) -> Option<i64> {
    let (input, total) = (usage.input_tokens?, usage.total_tokens?);
    let price = catalogue.price_of(quota_model)?;
    let tokens = |tokens: i64| tokens.max(0).unsigned_abs();
    let cached = tokens(usage.cached_tokens.unwrap_or(0));
    i64::try_from(price.spend(tokens(input), cached, tokens(total - input))).ok()
}

/// The limits that Google named for the lease's quota model, less the pool's margin.
fn learned(pool: &catalogue::Pool, quota_model: &str, decision: &Decision) -> Vec<LimitSpec> {
    if pool.learn_limits == LearnLimits::Off {
        return Vec::new();
    }
    let own =
        |quota: &&gemini::LearnedQuota| quota.quota_model.as_deref().is_none_or(|own| own == quota_model);
    let limit = |quota: &gemini::LearnedQuota| {
        let dimension = match quota.dimension {
            gemini::Dimension::Requests => ledger::Dimension::Requests,
            gemini::Dimension::InputTokens => ledger::Dimension::InputTokens,
            gemini::Dimension::TotalTokens => ledger::Dimension::TotalTokens,
            gemini::Dimension::Images | gemini::Dimension::Spend => return None,
        };
        let span = match quota.window {
            gemini::Window::Second => Span::Trailing(1_000),
            gemini::Window::Minute => Span::Trailing(60_000),
            gemini::Window::Day => Span::Day,
        };
        let amount = pool.less_margin(None, quota.quota_value?.min(LARGEST_AMOUNT));
        Some(LimitSpec(dimension, span, i64::try_from(amount).ok()?))
    };
    decision.learned.iter().filter(own).filter_map(limit).collect()
}

impl Pool {
    /// Google counts the model under another name: the cooldown holds under that name too, before
    /// anybody asks under it.
    async fn take_over(&self, report: &Report<'_>, decision: &Decision, key_id: &str, now: Millis) {
        let Some(quota_model) = decision.counted_as(report.lease.quota_model()) else { return };
        let Some((_, project)) = self.keys.get(key_id) else { return };
        let account = AccountOf::ProjectModel(&project.id, quota_model).id();
        for block in decision.blocks.iter().filter(|block| block.scope == Scope::ProjectModel) {
            let step = block.length.steps.first().map_or(0, |step| millis(*step));
            let midnight = Calendar::around(now).day_end(now) - now;
            let length = if block.length.until_pacific_midnight { step.max(midnight) } else { step };
            let reason = block.reason.as_str().to_owned();
            let edit = Edit { account: account.clone(), action: EditAction::Block, length, reason };
            if let Err(error) = self.committer.edit(edit).await {
                // The next refusal under that name teaches it.
                let _ = self.failed(error);
            }
        }
    }
}

fn block(block: &gemini::Block) -> Block {
    let role = match block.scope {
        Scope::Key => "k/",
        Scope::ProjectModel => "q/",
        Scope::Project => "p/",
        Scope::BillingAccount => "b/",
        Scope::Model => "m/",
    };
    let step = |step: &Duration| if *step >= gemini::FOREVER { FOREVER } else { millis(*step) };
    Block {
        role: role[..1].to_owned(),
        steps: block.length.steps.iter().map(step).collect(),
        until_day_end: block.length.until_pacific_midnight,
        probe: block.probe,
        reason: block.reason.as_str().to_owned(),
    }
}

/// What a repeated report is told: action, wait and signal in a few characters.
fn memo(decision: &Decision) -> String {
    let action = match decision.advice.action {
        Action::Done => 'd',
        Action::RetryOtherKey if decision.advice.once => 'p',
        Action::RetryOtherKey => 'o',
        Action::RetryAfter => 'a',
        Action::DoNotRetry => 'n',
    };
    let wait = decision.advice.retry_after.map_or(String::new(), |wait| millis(wait).to_string());
    format!("{action}:{wait}:{}", decision.signal)
}

impl Reported {
    fn from_memo(memo: &str) -> Self {
        let mut parts = memo.split(':');
        let action = parts.next();
        let once = action == Some("p");
        let action = match action {
            Some("o" | "p") => Action::RetryOtherKey,
            Some("a") => Action::RetryAfter,
            Some("n") => Action::DoNotRetry,
            _ => Action::Done,
        };
        let retry_after = parts.next().and_then(|wait| wait.parse().ok()).map(Duration::from_millis);
        let name = parts.next().unwrap_or_default();
        let signal =
            Signal::ALL.into_iter().find(|signal| signal.as_str() == name).unwrap_or(Signal::NotSent);
        let message = "this lease was reported before; that advice stands".to_owned();
        Self {
            state: SettleState::Already,
            key_id: String::new(),
            action,
            retry_after,
            once,
            signal,
            message,
            counted_as: None,
        }
    }

    /// The answer to a report of a lease that is not known here.
    pub fn unknown(outcome: &Outcome<'_>) -> Self {
        let decision = gemini::read(outcome);
        Self {
            state: SettleState::Unknown,
            key_id: String::new(),
            action: decision.advice.action,
            retry_after: decision.advice.retry_after,
            once: decision.advice.once,
            signal: decision.signal,
            message: "no such lease is known: it was never granted here, or it was forgotten after its time"
                .to_owned(),
            counted_as: None,
        }
    }
}
