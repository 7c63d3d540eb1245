//! Google in virtual time: the judge of the fake Gemini, which judges every trailing window, and what it answers.

use std::time::Duration;

use jiff::Timestamp;
use keybroker::{
    gemini::{Outcome, TransportKind},
    ledger::Millis,
};

use crate::fake_gemini::{
    Dimension, Limits, Tier,
    bodies::{self, ErrorBody},
    clock::Moment,
    judge::{Cost, Excess, ModelJudge, Ruling},
    quota_id::Violation,
};

/// What a task hears of its request.
#[derive(Debug, Clone)]
pub(super) enum Told {
    Success,
    Http(Box<ErrorBody>),
    Transport(TransportKind),
    NotSent,
}

impl Told {
    pub(super) fn outcome(&self) -> Outcome<'_> {
        match self {
            Self::Success => Outcome::Success,
            Self::Http(body) => {
                Outcome::HttpError { status: body.status, body: body.text.as_bytes(), retry_after: None }
            }
            Self::Transport(kind) => Outcome::Transport(*kind),
            Self::NotSent => Outcome::NotSent,
        }
    }

    /// Its name in the log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Http(body) if body.status == 429 => "429",
            Self::Http(_) => "error",
            Self::Transport(TransportKind::Connect) => "no connection",
            Self::Transport(_) => "no answer",
            Self::NotSent => "not sent",
        }
    }
}

/// One project's quota for one model.
#[derive(Debug)]
pub(super) struct Quota {
    pub(super) project: String,
    pub(super) model: String,
    judge: ModelJudge,
    /// What it serves a minute at most.
    pub(super) rpm: u64,
    /// Requests of ours that were served.
    pub(super) served: u64,
}

impl Quota {
    pub(super) fn new(project: &str, model: &str, limits: Limits) -> Self {
        Self {
            project: project.to_owned(),
            model: model.to_owned(),
            judge: ModelJudge::new(limits),
            rpm: limits.rpm.unwrap_or(0),
            served: 0,
        }
    }

    /// Judges an arrival: the refusal, if it is one.
    pub(super) fn arrive(
        &mut self,
        start: Millis,
        now: Millis,
        requests: i64,
        input: i64,
    ) -> Option<Box<ErrorBody>> {
        let origin = Timestamp::from_millisecond(start).expect("runs begin in this century");
        let since = Duration::from_millis((now - start).unsigned_abs());
        let cost = Cost { requests: requests.unsigned_abs(), input_tokens: input.unsigned_abs() };
        match self.judge.rule(cost, Moment::after(origin, since)) {
            Ruling::Admitted => None,
            Ruling::Refused(excesses) => Some(Box::new(self.refusal(&excesses))),
        }
    }

    fn refusal(&self, excesses: &[Excess]) -> ErrorBody {
        let named =
            |excess: &Excess| Violation::new(excess.dimension, false, Tier::Tier1, &self.model, excess.limit);
        let violations: Vec<Violation> = excesses.iter().map(named).collect();
        let minutes = excesses.iter().filter(|excess| excess.dimension != Dimension::Rpd);
        let wait = minutes.filter_map(|excess| excess.wait).max().unwrap_or(Duration::from_secs(20));
        bodies::quota_429(&violations, wait)
    }
}

/// What Google answers where it is at fault itself, or the request is; `dice` is below a thousand.
pub(super) fn trouble(dice: u32, secret: &str) -> Option<Told> {
    let body = match dice {
        0..4 => bodies::overloaded(),
        4..8 => bodies::internal(),
        8..10 => bodies::bad_request("The contents are empty."),
        10..12 => bodies::opaque_429(),
        12 => bodies::invalid_key(),
        13 => bodies::suspended(secret),
        14..18 => return Some(Told::Transport(TransportKind::Timeout)),
        18..22 => return Some(Told::Transport(TransportKind::Cancelled)),
        _ => return None,
    };
    Some(Told::Http(Box::new(body)))
}
