//! The tables themselves, and the first of them. Ranges and defaults are those that are used where a field is read.

use std::ops::RangeInclusive;

use super::Range::Words;
use super::Unwritten::{self, Value};
use super::{Field, Range, Table};
use crate::catalogue::DEFAULT_PLAN;
use crate::config::models;

mod quota;
mod running;

pub(in crate::config) use quota::{
    BILLING_ACCOUNT, CONSUMER, KEY, LIMITS, PLAN, POOL, POOL_LIMITS, PRICE, PROJECT, TOTALS,
};
pub(in crate::config) use running::{HOOK, IDENTITY, JWT, KUBERNETES, LOG, PROBING, SECRETS, TLS, VAULT};

/// What a margin may be, in percent.
pub(in crate::config) const MARGIN: RangeInclusive<u64> = 0..=90;
/// What a weight may be.
pub(in crate::config) const WEIGHT: RangeInclusive<u64> = 1..=1000;
/// What a priority may be.
pub(in crate::config) const PRIORITY: RangeInclusive<u64> = 0..=15;

const NONE: Unwritten = Unwritten::Words("none");
const ID: Range = Words("id");
const IDS: Range = Words("list of ids, perhaps with a star at the end");
const EVERYTHING: Unwritten = Value(|| "[\"*\"]".to_owned());
const LIST: Range = Words("list of tables");
const TABLE: Range = Words("table");
const MONEY: Range = Range::Dollars(models::PRICE);
const FALSE: Unwritten = Value(|| false.to_string());

const fn field(name: &'static str, range: Range, default: Unwritten, what: &'static str) -> Field {
    Field { name, range, default, what }
}

/// Every table that has fields.
pub static TABLES: [&Table; 20] = [
    &ROOT,
    &POOL,
    &POOL_LIMITS,
    &LIMITS,
    &TOTALS,
    &PROJECT,
    &KEY,
    &BILLING_ACCOUNT,
    &PRICE,
    &PLAN,
    &CONSUMER,
    &HOOK,
    &PROBING,
    &LOG,
    &IDENTITY,
    &TLS,
    &JWT,
    &SECRETS,
    &VAULT,
    &KUBERNETES,
];

/// What is counted, for people.
pub(super) fn counted(what: &str) -> String {
    let more = match what {
        "input_tokens" => ": tokens of prompts",
        "total_tokens" => ": of prompts and answers",
        "spend" => ": dollars, by [`[[prices]]`](#prices)",
        "in_flight" => ": requests under way at once; it has no span",
        _ => "",
    };
    format!("`{what}`{more}")
}

pub(in crate::config) static ROOT: Table = Table {
    name: "file",
    header: "",
    limits: false,
    fields: &[
        field(
            "pools",
            LIST,
            NONE,
            "[`[[pools]]`](#pools): sets of projects that a workload leases from, their strategy and limits",
        ),
        field(
            "projects",
            LIST,
            NONE,
            "[`[[projects]]`](#projects): Google Cloud projects and [their keys](#keys)",
        ),
        field(
            "billing_accounts",
            LIST,
            NONE,
            "[`[[billing_accounts]]`](#billing-accounts): limits of all projects that one account pays for",
        ),
        field(
            "model_aliases",
            Words("table of texts"),
            NONE,
            "[`[model_aliases]`](#model-aliases): which models count under another name",
        ),
        field("prices", LIST, NONE, "[`[[prices]]`](#prices): what tokens cost, for limits of money"),
        field("plans", LIST, NONE, "[`[[plans]]`](#consumers): what a user, team or service may use"),
        field("consumers", LIST, NONE, "[`[[consumers]]`](#consumers): who is under which plan"),
        field(
            "default_plan",
            Words("name of a plan, or `\"off\"`"),
            Value(|| format!("\"{DEFAULT_PLAN}\"")),
            "the plan of every consumer that is not named; `\"off\"`: they have none",
        ),
        field("hooks", LIST, NONE, "[`[[hooks]]`](#hooks): what is told to whom when something happens"),
        field("probing", TABLE, NONE, "[`[probing]`](#probing): how disabled keys are looked at again"),
        field("log", TABLE, NONE, "[`[log]`](#logs): what is logged"),
        field(
            "identities",
            LIST,
            NONE,
            "[`[[identities]]`](#identities): who may call, and what each may do; [security.md](security.md) explains it",
        ),
        field("tls", TABLE, NONE, "[`[tls]`](#tls): encryption and client certificates"),
        field("jwt", TABLE, NONE, "[`[jwt]`](#signed-tokens): signed tokens"),
        field(
            "secrets",
            TABLE,
            NONE,
            "[`[secrets]`](#secrets): how often secrets that lie elsewhere are fetched",
        ),
        field("vault", TABLE, NONE, "[`[vault]`](#secrets): where Vault is"),
    ],
};
