//! Bad input, field by field: all that is wrong is named at once.

use std::{collections::HashMap, time::Duration};

use keybroker_proto::v1::{
    AcquireRequest, LeaseReport, Tier, lease_report::Outcome as WireOutcome, transport_error::Kind,
};
use tonic::Status;

use super::status::bad_request;
use crate::{
    catalogue::{is_consumer_id, is_model_name},
    gemini::{MAX_BODY, Outcome, TransportKind},
    lease_id::LeaseId,
    pool::{Report, Usage, Wish},
    secret::{HOLDS_A_KEY, holds_a_key},
};

const MOST_PERMITS: i32 = 1000;
const MOST_TOKENS: i64 = 1_000_000_000_000;
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const MOST_WAIT: Duration = Duration::from_secs(600);
const MOST_EXCLUDED: usize = 256;
const MOST_LABELS: usize = 16;
const LONGEST_LABEL: (usize, usize) = (63, 256);
const LONGEST_NAME: usize = 128;

/// What is wrong with a request.
#[derive(Default)]
pub(super) struct Faults(Vec<(String, String)>);

impl Faults {
    pub(super) fn add(&mut self, field: impl Into<String>, wrong: impl Into<String>) {
        self.0.push((field.into(), wrong.into()));
    }

    pub(super) fn check(&mut self, right: bool, field: &str, wrong: impl Into<String>) {
        if !right {
            self.add(field, wrong);
        }
    }

    /// What callers choose stands in logs, metrics, the ledger and records, where no key may stand.
    pub(super) fn no_key(&mut self, field: &str, text: &str) {
        if holds_a_key(text) {
            self.add(field, HOLDS_A_KEY);
        }
    }

    pub(super) fn into_result(self) -> Result<(), Status> {
        if self.0.is_empty() { Ok(()) } else { Err(bad_request(self.0)) }
    }
}

/// Checks an acquire; the quota model is left as the model's id. With faults, the wish is not one.
pub(super) fn wish(request: &AcquireRequest, faults: &mut Faults) -> Wish {
    let model = request.model.strip_prefix("models/").unwrap_or(&request.model);
    if model.is_empty() {
        faults.add(
            "model",
            "is empty; name the Gemini model that will be called, such as \"gemini-2.5-flash\"",
        );
    } else {
        let right = is_model_name(model) && model.len() <= LONGEST_NAME && !model.contains('#');
        faults.check(right, "model", "is not a model id; write 1 to 128 letters, digits and . _ - / :");
    }
    faults.no_key("model", model);
    let tokens = request.input_tokens;
    faults.check((0..=MOST_TOKENS).contains(&tokens), "input_tokens", "is out of range; write 0 to 10^12");
    let output = request.output_tokens;
    faults.check((0..=MOST_TOKENS).contains(&output), "output_tokens", "is out of range; write 0 to 10^12");
    let permits = request.permits.unwrap_or(1);
    faults.check(
        (1..=MOST_PERMITS).contains(&permits),
        "permits",
        format!("is {permits}; write 1 to {MOST_PERMITS}"),
    );
    let ttl = ttl(request.ttl.as_ref(), faults);
    let wait = request.wait.as_ref().map_or(Some(Duration::ZERO), duration);
    faults.check(wait.is_some_and(|wait| wait <= MOST_WAIT), "wait", "is out of range; write 0s to 600s");
    check_consumer(&request.consumer, faults);
    check_labels("labels", &request.labels, faults);

    let constraints = request.constraints.clone().unwrap_or_default();
    let project = &constraints.project;
    faults.check(project.len() <= LONGEST_NAME, "constraints.project", "is longer than 128 bytes");
    faults.no_key("constraints.project", project);
    check_labels("constraints.labels", &constraints.labels, faults);
    for (field, list) in [
        ("constraints.exclude_key_ids", &constraints.exclude_key_ids),
        ("constraints.exclude_projects", &constraints.exclude_projects),
    ] {
        faults.check(
            list.len() <= MOST_EXCLUDED,
            field,
            format!("names {}; at most {MOST_EXCLUDED}", list.len()),
        );
        let short = list.iter().all(|id| id.len() <= LONGEST_NAME);
        faults.check(short, field, "names one that is longer than 128 bytes");
        if list.iter().any(|id| holds_a_key(id)) {
            faults.add(field, HOLDS_A_KEY);
        }
    }
    let tier = Tier::try_from(constraints.tier);
    faults.check(
        tier.is_ok(),
        "constraints.tier",
        "is not a tier; write TIER_FREE or TIER_PAID, or leave it out",
    );
    Wish {
        quota_model: model.to_owned(),
        input_tokens: tokens,
        output_tokens: output,
        ttl,
        consumer: request.consumer.clone(),
        identity: None,
        wait: wait.unwrap_or_default(),
        deadline: None,
        permits: i64::from(permits),
        project: constraints.project,
        tier: tier.unwrap_or(Tier::Unspecified),
        exclude_key_ids: constraints.exclude_key_ids,
        exclude_projects: constraints.exclude_projects,
        key_labels: constraints.labels.into_iter().collect(),
        note: String::new(),
    }
}

/// Checks the name of a consumer, which logs, events and exports of usage show as it is.
pub(super) fn check_consumer(consumer: &str, faults: &mut Faults) {
    faults.no_key("consumer", consumer);
    faults.check(
        consumer.is_empty() || is_consumer_id(consumer),
        "consumer",
        "is not a consumer's id; write 1 to 128 visible ASCII characters, such as an e-mail address, or leave it out",
    );
}

fn check_labels(field: &str, labels: &HashMap<String, String>, faults: &mut Faults) {
    let (longest_name, longest_value) = LONGEST_LABEL;
    let short = |(name, value): (&String, &String)| {
        (1..=longest_name).contains(&name.len()) && value.len() <= longest_value
    };
    labels.iter().flat_map(|(name, value)| [name, value]).for_each(|text| faults.no_key(field, text));
    let right = labels.len() <= MOST_LABELS && labels.iter().all(short);
    faults.check(
        right,
        field,
        "are too many or too long; at most 16, names of 1 to 63 bytes, values to 256 bytes",
    );
}

/// Checks a lease's time to live.
pub(super) fn ttl(ttl: Option<&prost_types::Duration>, faults: &mut Faults) -> Option<Duration> {
    let ttl = ttl.map(|ttl| duration(ttl).filter(|ttl| TTL.contains(ttl)));
    if ttl == Some(None) {
        faults.add("ttl", "is out of range; write 1s to 3600s, or leave it out for the pool's default");
    }
    ttl.flatten()
}

/// Checks a report; `field` says where it stands in the request.
pub(super) fn report<'a>(report: &'a LeaseReport, field: &str, faults: &mut Faults) -> Option<Report<'a>> {
    let lease = LeaseId::parse(&report.lease_id);
    if lease.is_none() {
        faults.add(format!("{field}.lease_id"), "is not a lease id; pass on what Acquire returned");
    }
    let outcome = outcome(report, field, faults);
    Some(Report { lease: lease?, outcome: outcome?, usage: usage(report) })
}

fn outcome<'a>(report: &'a LeaseReport, field: &str, faults: &mut Faults) -> Option<Outcome<'a>> {
    match report.outcome.as_ref() {
        None => {
            faults.add(field, "has no outcome; set success, http_error, transport_error or not_sent");
            None
        }
        Some(WireOutcome::Success(_)) => Some(Outcome::Success),
        Some(WireOutcome::NotSent(_)) => Some(Outcome::NotSent),
        Some(WireOutcome::HttpError(error)) => {
            let status = u16::try_from(error.status).ok().filter(|status| (100..=599).contains(status));
            if status.is_none() {
                faults.add(
                    format!("{field}.http_error.status"),
                    format!("is {}; write 100 to 599", error.status),
                );
            }
            let body = &error.body[..error.body.len().min(MAX_BODY)];
            let retry_after = error.retry_after.as_ref().and_then(duration);
            Some(Outcome::HttpError { status: status?, body, retry_after })
        }
        Some(WireOutcome::TransportError(error)) => {
            let kind = match error.kind() {
                Kind::Connect => TransportKind::Connect,
                Kind::Timeout => TransportKind::Timeout,
                Kind::Reset => TransportKind::Reset,
                Kind::Cancelled => TransportKind::Cancelled,
                Kind::Unspecified => {
                    faults.add(
                        format!("{field}.transport_error.kind"),
                        "is not set; write CONNECT, TIMEOUT, RESET or CANCELLED",
                    );
                    return None;
                }
            };
            Some(Outcome::Transport(kind))
        }
    }
}

fn usage(report: &LeaseReport) -> Usage {
    let usage = match report.outcome.as_ref() {
        Some(WireOutcome::Success(success)) => success.usage.as_ref(),
        Some(WireOutcome::TransportError(error)) => error.usage.as_ref(),
        _ => None,
    };
    let sane = |tokens: Option<i64>| tokens.filter(|tokens| (0..=MOST_TOKENS).contains(tokens));
    usage.map_or_else(Usage::default, |usage| {
        let input_tokens = sane(usage.input_tokens);
        // Google leaves out what is nought.
        let answer =
            sane(usage.output_tokens).map(|output| output + sane(usage.thoughts_tokens).unwrap_or(0));
        let sum = input_tokens.zip(answer).map(|(input, output)| input + output);
        Usage {
            input_tokens,
            cached_tokens: sane(usage.cached_tokens),
            total_tokens: sane(usage.total_tokens).or(sum),
        }
    })
}

pub(super) fn duration(wire: &prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(wire.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(wire.seconds).ok()?, nanos))
}
