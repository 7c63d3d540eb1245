//! Google in virtual time: it counts what arrives by itself, from its own table of quotas, and refuses what
//! they do not allow. It knows nothing of leases.

use std::{collections::BTreeMap, time::Duration};

use keybroker::ledger::{Amounts, Span};
use keybroker_tests::fake_gemini::{Dimension, Limits, Tier, bodies, quota_id::Violation};
use rand::{RngExt, rngs::StdRng};

use crate::{
    exact::Exact,
    fate::{Answer, Outside, storms, suspensions},
    setting::{KeyPlace, MINUTE, PacificDay},
};

/// Of the requests that arrive in a storm so many percent are refused.
const STORM: u32 = 70;

/// What it grants a project for a quota model.
fn limits(project: &str, model: &str) -> Limits {
    let (rpm, input_tpm, rpd) = match (project, model) {
        ("free-a" | "free-b", "gemini-3-flash") => (Some(10), Some(250_000), Some(200)),
        ("free-a" | "free-b", "gemini-3-pro") => (Some(2), None, Some(50)),
        ("one-a" | "one-b", "gemini-3-flash") => (Some(60), Some(1_000_000), None),
        ("one-a" | "one-b", "gemini-3-pro") => (Some(30), Some(200_000), Some(4_000)),
        ("two-a" | "two-b", "gemini-3-flash-lite") => (Some(400), Some(100_000), None),
        ("two-a" | "two-b", "gemini-embedding-1.0") => (Some(100), None, None),
        ("two-a" | "two-b", "gemini-3-pro") => (Some(25), None, None),
        ("chat-small", "gemini-3-flash") => (Some(20), None, Some(60_000)),
        ("chat-middle", "gemini-3-flash") => (Some(40), None, Some(60_000)),
        ("chat-large", "gemini-3-flash") => (Some(80), None, Some(60_000)),
        other => panic!("nobody is offered {other:?}"),
    };
    Limits { rpm, input_tpm, rpd }
}

/// What a billing account may spend in ten minutes, in millionths of a dollar.
fn spend_rate(account: &str) -> i64 {
    match account {
        "account-one" => 2_000_000,
        "account-two" => 50_000_000,
        other => panic!("nobody pays as {other}"),
    }
}

fn tier(project: &str) -> Tier {
    match project {
        "free-a" | "free-b" => Tier::Free,
        "two-a" | "two-b" => Tier::Tier2,
        _ => Tier::Tier1,
    }
}

/// One quota: what of ours arrived, and what did in all.
#[derive(Debug)]
struct Quota {
    dimension: Dimension,
    limit: i64,
    ours: Exact,
    all: Exact,
}

impl Quota {
    fn new(dimension: Dimension, limit: u64) -> Self {
        let span = match dimension {
            Dimension::Rpm | Dimension::InputTpm => Span::Trailing(MINUTE),
            Dimension::Rpd => Span::Day,
        };
        let limit = i64::try_from(limit).expect("quotas are small");
        Self { dimension, limit, ours: Exact::new(span), all: Exact::new(span) }
    }

    fn amount(&self, actual: Amounts) -> i64 {
        match self.dimension {
            Dimension::Rpm | Dimension::Rpd => actual.permits,
            Dimension::InputTpm => actual.input,
        }
    }
}

/// An arrival of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) at: i64,
    pub(crate) key: &'a KeyPlace,
    pub(crate) model: &'a str,
    pub(crate) actual: Amounts,
    /// Whether it is a request that is wrong in itself, or that Google's servers fail on.
    pub(crate) fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Request,
    Server,
}

/// The judge.
#[derive(Debug)]
pub(crate) struct Google<'a> {
    day: &'a PacificDay,
    quotas: BTreeMap<(String, String), Vec<Quota>>,
    spends: BTreeMap<String, Exact>,
    /// Refusals that were our fault: with nobody else's requests there would have been too many too.
    pub(crate) ours_at_fault: Vec<String>,
    /// Refusals for other people's requests, by the quota.
    pub(crate) refusals: BTreeMap<&'static str, usize>,
}

impl<'a> Google<'a> {
    pub(crate) fn new(day: &'a PacificDay) -> Self {
        let (quotas, spends) = (BTreeMap::new(), BTreeMap::new());
        Self { day, quotas, spends, ours_at_fault: Vec::new(), refusals: BTreeMap::new() }
    }

    fn quotas_of(&mut self, project: &str, model: &str) -> &mut Vec<Quota> {
        self.quotas.entry((project.to_owned(), model.to_owned())).or_insert_with(|| {
            let Limits { rpm, input_tpm, rpd } = limits(project, model);
            let all = [(Dimension::Rpm, rpm), (Dimension::InputTpm, input_tpm), (Dimension::Rpd, rpd)];
            all.into_iter().filter_map(|(dimension, limit)| Some(Quota::new(dimension, limit?))).collect()
        })
    }

    /// A request of somebody else, which is refused for nothing.
    pub(crate) fn take_outside(&mut self, Outside { at, project, model }: Outside) {
        let day = self.day;
        let amounts = Amounts { permits: 1, input: 100, total: 200, spend: 0 };
        for quota in self.quotas_of(project, model) {
            quota.all.add(at, quota.amount(amounts), day);
        }
    }

    /// What it answers at once, if it does not serve the request.
    pub(crate) fn rule(&mut self, arrival: Arrival<'_>, rng: &mut StdRng) -> Option<Answer> {
        let Arrival { at, key, model, actual, fault } = arrival;
        let day = self.day;
        if suspensions(day).iter().any(|(id, from)| *id == key.id && at >= *from) {
            return Some(Answer::error(bodies::suspended(&key.secret), "key_suspended"));
        }
        if let Some(answer) = self.refuse(arrival) {
            return Some(answer);
        }
        for quota in self.quotas_of(&key.project, model) {
            let amount = quota.amount(actual);
            quota.ours.add(at, amount, day);
            quota.all.add(at, amount, day);
        }
        if let Some(account) = &key.account {
            self.spend_of(account).add(at, actual.spend, day);
        }
        let storm =
            storms(day).iter().any(|(stormy, from, to)| *stormy == model && (*from..*to).contains(&at));
        if storm && rng.random_ratio(STORM, 100) {
            return Some(Answer::error(bodies::overloaded(), "model_overloaded"));
        }
        Some(match fault? {
            Fault::Request => Answer::error(bodies::bad_request("The contents are empty."), "request_fault"),
            Fault::Server => Answer::error(bodies::internal(), "server_fault"),
        })
    }

    fn spend_of(&mut self, account: &str) -> &mut Exact {
        self.spends.entry(account.to_owned()).or_insert_with(|| Exact::new(Span::Trailing(10 * MINUTE)))
    }

    fn refuse(&mut self, arrival: Arrival<'_>) -> Option<Answer> {
        let Arrival { at, key, model, actual, .. } = arrival;
        let day = self.day;
        let tier = tier(&key.project);
        let (mut violations, mut faults, mut wait, mut daily) = (Vec::new(), Vec::new(), 0, false);
        for quota in self.quotas_of(&key.project, model) {
            let amount = quota.amount(actual);
            let ours = quota.ours.sum(at, day) + amount;
            if ours > quota.limit {
                let what = format!("{at}: {} {model} {:?}", key.project, quota.dimension);
                faults.push(format!("{what} is {ours} of {}", quota.limit));
            }
            if quota.all.sum(at, day) + amount > quota.limit {
                let embeds = model.starts_with("gemini-embedding");
                let value = quota.limit.unsigned_abs();
                violations.push(Violation::new(quota.dimension, embeds, tier, model, value));
                wait = quota.all.wait(at, amount, quota.limit, day).max(wait);
                daily |= quota.dimension == Dimension::Rpd;
            }
        }
        if let Some(account) = &key.account {
            let (limit, spent) = (spend_rate(account), self.spend_of(account).sum(at, day) + actual.spend);
            if spent > limit {
                self.ours_at_fault.push(format!("{at}: {account} spends {spent} of {limit}"));
                return Some(Answer::error(bodies::spend_rate_429(), "spend_rate"));
            }
        }
        self.ours_at_fault.append(&mut faults);
        if violations.is_empty() {
            return None;
        }
        let outcome = if daily { "daily_quota" } else { "minute_quota" };
        *self.refusals.entry(outcome).or_default() += 1;
        Some(Answer::error(
            bodies::quota_429(&violations, Duration::from_millis(wait.unsigned_abs())),
            outcome,
        ))
    }
}
