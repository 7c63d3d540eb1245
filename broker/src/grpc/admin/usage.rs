//! Queries of usage as they come over the wire, and their answers.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jiff::{ToSpan, civil::Date};
use keybroker_proto::v1::{QueryUsageRequest, QueryUsageResponse, UsageDimension as WireDimension, UsageRow};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::check::{Faults, check_consumer};
use super::request::parent;
use crate::{
    catalogue::{Dollars, is_model_name},
    config::{ID_RULE, is_id},
    gemini::Signal,
    ledger::UNREPORTED,
    usage::{Dimension, LONGEST_SPAN, Page, Place, Query, Row},
};

const DEFAULT_SIZE: usize = 50;
/// The names of so many rows stay within what clients accept as one message (4 MiB).
const LARGEST_SIZE: usize = 5000;

/// What is asked for, and where its page begins.
pub(super) struct Asked {
    /// What is asked for; no pools, as they are the broker's to know.
    pub(super) query: Query,
    /// The pool; `-` for all.
    pub(super) pool: String,
    /// How many rows at most.
    pub(super) size: usize,
    /// The last row of the page before.
    pub(super) after: Option<Place>,
}

/// What a page token holds. The days are in it so that a query of "today" goes on with the same day.
#[derive(Serialize, Deserialize)]
struct Token {
    usage: String,
    from: Date,
    to: Date,
    after: Place,
}

/// Reads a request, on a Pacific day.
pub(super) fn read(request: &QueryUsageRequest, today: Date, faults: &mut Faults) -> Asked {
    let pool = parent(&request.parent, faults).unwrap_or("-").to_owned();
    let size = usize::try_from(request.page_size).unwrap_or_else(|_| {
        faults.add("page_size", "is negative; write 1 to 5000, or leave it out for 50");
        0
    });
    let size = if size == 0 { DEFAULT_SIZE } else { size.min(LARGEST_SIZE) };
    let token = (!request.page_token.is_empty()).then(|| decode(&request.page_token));
    let days = token.as_ref().and_then(|token| Some((token.as_ref()?.from, token.as_ref()?.to)));
    let (from, to) = days_of(request, days, today, faults);
    let query =
        Query { pools: Vec::new(), from, to, only: filters(request, faults), by: by(request, faults) };
    let after = token.and_then(|token| {
        let token = token.filter(|token| token.usage == mark(&pool, &query));
        if token.is_none() {
            let text = "is not one of this query; pass on the next_page_token of the page before, and ask for \
                        the same";
            faults.add("page_token", text);
        }
        token.map(|token| token.after)
    });
    Asked { query, pool, size, after }
}

/// The first and the last day. A page goes on with the days of the one before where the request names none.
fn days_of(
    request: &QueryUsageRequest,
    known: Option<(Date, Date)>,
    today: Date,
    faults: &mut Faults,
) -> (Date, Date) {
    let mut read = |field: &str, text: &str, default: Date| {
        if text.is_empty() {
            return Some(default);
        }
        let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
        if date.is_none() {
            faults.add(field, "is not a date; write YYYY-MM-DD, such as 2026-07-14");
        }
        date
    };
    let to = read("to_date", &request.to_date, known.map_or(today, |(_, to)| to));
    let from = read("from_date", &request.from_date, known.map_or(to.unwrap_or(today), |(from, _)| from));
    let (Some(from), Some(to)) = (from, to) else { return (today, today) };
    let oldest = today.saturating_sub(LONGEST_SPAN.days());
    if from > to {
        faults.add("from_date", format!("is after the last day, {to}; write an earlier date"));
    } else if known.is_none() && from < oldest {
        let text = format!("is too long ago: usage is kept for {LONGEST_SPAN} days; write {oldest} or later");
        faults.add("from_date", text);
    } else if to > from.saturating_add((LONGEST_SPAN - 1).days()) {
        let text = format!("is too far from {from}; ask for {LONGEST_SPAN} days at most");
        faults.add("to_date", text);
    }
    (from, to)
}

fn filters(request: &QueryUsageRequest, faults: &mut Faults) -> BTreeMap<Dimension, String> {
    let mut only = BTreeMap::new();
    if let Some(consumer) = &request.consumer {
        check_consumer(consumer, faults);
        only.insert(Dimension::Consumer, consumer.clone());
    }
    let outcomes = || Signal::ALL.into_iter().map(Signal::as_str).chain([UNREPORTED]);
    let no_id = format!("is not an id; {ID_RULE}");
    let no_model = "is not a model id; write 1 to 128 letters, digits and . _ - / :".to_owned();
    let no_outcome = || {
        let known: Vec<&str> = outcomes().collect();
        format!("is not an outcome; write one of: {}", known.join(", "))
    };
    let (project, key, model) = (&request.project, &request.key_id, &request.quota_model);
    for (dimension, field, text, right, wrong) in [
        (Dimension::Project, "project", project, is_id(project), no_id.clone()),
        (Dimension::Key, "key_id", key, is_id(key), no_id),
        (Dimension::QuotaModel, "quota_model", model, is_model_name(model) && model.len() <= 128, no_model),
        (
            Dimension::Outcome,
            "outcome",
            &request.outcome,
            outcomes().any(|known| known == request.outcome),
            no_outcome(),
        ),
    ] {
        if !text.is_empty() {
            faults.check(right, field, wrong);
            only.insert(dimension, text.clone());
        }
    }
    only
}

fn by(request: &QueryUsageRequest, faults: &mut Faults) -> Vec<Dimension> {
    let mut by = Vec::new();
    for (index, dimension) in request.group_by.iter().enumerate() {
        match WireDimension::try_from(*dimension) {
            Ok(WireDimension::Date) => by.push(Dimension::Date),
            Ok(WireDimension::Pool) => by.push(Dimension::Pool),
            Ok(WireDimension::Consumer) => by.push(Dimension::Consumer),
            Ok(WireDimension::Project) => by.push(Dimension::Project),
            Ok(WireDimension::Key) => by.push(Dimension::Key),
            Ok(WireDimension::QuotaModel) => by.push(Dimension::QuotaModel),
            Ok(WireDimension::Outcome) => by.push(Dimension::Outcome),
            Ok(WireDimension::Unspecified) | Err(_) => {
                let text =
                    "is not a dimension; write DATE, POOL, CONSUMER, PROJECT, KEY, QUOTA_MODEL or OUTCOME";
                faults.add(format!("group_by[{index}]"), text);
            }
        }
    }
    by.sort_unstable();
    by.dedup();
    if by.is_empty() { Dimension::ALL.to_vec() } else { by }
}

/// Differs between queries, so that a token only goes on with its own.
fn mark(pool: &str, query: &Query) -> String {
    hex::encode(&Sha256::digest(format!("{pool}/{query:?}"))[..8])
}

fn decode(token: &str) -> Option<Token> {
    serde_json::from_slice(&BASE64.decode(token).ok()?).ok()
}

impl Asked {
    /// The token of the page after a row.
    fn token_after(&self, row: &Row) -> String {
        let asked = Query { pools: Vec::new(), ..self.query.clone() };
        let token = Token {
            usage: mark(&self.pool, &asked),
            from: asked.from,
            to: asked.to,
            after: row.place.clone(),
        };
        BASE64.encode(serde_json::to_vec(&token).expect("texts and dates can always be written as JSON"))
    }

    /// A page as it is answered.
    pub(super) fn answer(&self, page: Page) -> QueryUsageResponse {
        let last = page.rows.last().filter(|_| page.more);
        QueryUsageResponse {
            next_page_token: last.map(|last| self.token_after(last)).unwrap_or_default(),
            rows: page.rows.iter().map(row).collect(),
            from_date: self.query.from.to_string(),
            to_date: self.query.to.to_string(),
        }
    }
}

fn row(Row { place, sums }: &Row) -> UsageRow {
    let text = |dimension| place.get(dimension).to_owned();
    UsageRow {
        date: text(Dimension::Date),
        pool: text(Dimension::Pool),
        consumer: text(Dimension::Consumer),
        project: text(Dimension::Project),
        key_id: text(Dimension::Key),
        quota_model: text(Dimension::QuotaModel),
        outcome: text(Dimension::Outcome),
        leases: sums.leases,
        requests: sums.requests,
        input_tokens: sums.input_tokens,
        output_tokens: sums.output_tokens(),
        total_tokens: sums.total_tokens,
        spend_micros: sums.spend,
        spend_usd: Dollars(sums.spend.max(0).unsigned_abs()).to_string(),
        requests_over_plan: sums.over_plan,
    }
}
