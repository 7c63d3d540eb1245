//! What is leased, and how much of it.

use super::super::Range::{Number, OneOf, Span, Truth, Words};
use super::super::Table;
use super::super::Unwritten::{self, Required, Value};
use super::{FALSE, ID, LIST, MARGIN, MONEY, NONE, PRIORITY, TABLE, WEIGHT, field};
use crate::catalogue::{
    DEFAULT_LEASE_TTL, DEFAULT_POOL, DEFAULT_SEND_WITHIN, LearnLimits, PlanMode, Strategy,
};
use crate::config::file;

pub(in crate::config) static POOL: Table = Table {
    name: "pool",
    header: "[[pools]]\n",
    limits: false,
    fields: &[
        field("name", ID, Value(|| format!("\"{DEFAULT_POOL}\"")), "the pool's name, as requests give it"),
        field(
            "strategy",
            OneOf(|| Strategy::ALL.map(Strategy::as_str).to_vec()),
            Value(|| format!("\"{}\"", Strategy::default().as_str())),
            "in which order keys are leased; see [strategies](#strategies)",
        ),
        field(
            "send_within",
            Span(file::SEND_WITHIN),
            Unwritten::Span(DEFAULT_SEND_WITHIN),
            "how long after a grant its request may still be sent. Counts last so much longer, since Google counts on arrival",
        ),
        field(
            "lease_ttl",
            Span(file::LEASE_TTL),
            Unwritten::Span(DEFAULT_LEASE_TTL),
            "how long a lease lives unless it is reported or renewed",
        ),
        field(
            "margin_percent",
            Number(MARGIN),
            Value(|| 0.to_string()),
            "lowers every limit; see [margin](#margin)",
        ),
        field(
            "smooth_bursts",
            Truth,
            FALSE,
            "spreads a minute's requests over its seconds; see [smoothing](#smoothing)",
        ),
        field(
            "learn_limits",
            OneOf(|| LearnLimits::ALL.map(LearnLimits::as_str).to_vec()),
            Value(|| format!("\"{}\"", LearnLimits::default().as_str())),
            "what becomes of a limit that Google names in a refusal; see [learned limits](#learned-limits)",
        ),
        field(
            "limits",
            LIST,
            NONE,
            "of **each project** of the pool that has none of its own for that field; an entry may have `tier` and is then for projects of that tier",
        ),
        field("totals", TABLE, NONE, "of **all keys of the pool together**"),
        field(
            "model_totals",
            LIST,
            NONE,
            "of **each model by itself over all projects** of the pool; chosen like `limits`",
        ),
    ],
};

pub(in crate::config) static POOL_LIMITS: Table = Table {
    name: "limits of a pool",
    header: "[[pools]]\n[[pools.limits]]\n",
    limits: true,
    fields: &[
        field(
            "model",
            Words("name, beginning with `*`, or `*`"),
            Value(|| "\"*\"".to_owned()),
            "the models that it is for, each counted by itself",
        ),
        field(
            "tier",
            Words("`\"free\"`, `\"paid\"`"),
            Unwritten::Words("every tier"),
            "the projects that it is for",
        ),
    ],
};

pub(in crate::config) static LIMITS: Table = Table {
    name: "limits",
    header: "[[projects]]\n[[projects.limits]]\n",
    limits: true,
    fields: &[field(
        "model",
        Words("name, beginning with `*`, or `*`"),
        Value(|| "\"*\"".to_owned()),
        "the models that it is for, each counted by itself",
    )],
};

pub(in crate::config) static TOTALS: Table =
    Table { name: "totals", header: "[[projects]]\n[projects.totals]\n", limits: true, fields: &[] };

pub(in crate::config) static PROJECT: Table = Table {
    name: "project",
    header: "[[projects]]\n",
    limits: false,
    fields: &[
        field("id", ID, Required, "Google's name of the project, unique in the file"),
        field(
            "pool",
            Words("id of a pool"),
            Value(|| format!("\"{DEFAULT_POOL}\"")),
            "a project belongs to **one** pool, since its quota is counted in one place",
        ),
        field(
            "tier",
            Words("`\"free\"`, `\"paid\"`"),
            Unwritten::Words("not said"),
            "a request for paid keys never gets one whose project does not say so",
        ),
        field("billing_account", ID, NONE, "the account that pays; all its projects are in one pool"),
        field("margin_percent", Number(MARGIN), Unwritten::Words("the pool's"), "lowers every limit"),
        field(
            "smooth_bursts",
            Truth,
            Unwritten::Words("the pool's"),
            "spreads a minute's requests over its seconds",
        ),
        field(
            "limits",
            LIST,
            Unwritten::Words("the pool's"),
            "of each model by itself, all keys of the project together; stands before the pool's field by field",
        ),
        field("totals", TABLE, NONE, "of all its keys and models together"),
        field("keys", LIST, NONE, "see [keys](#keys)"),
    ],
};

pub(in crate::config) static KEY: Table = Table {
    name: "key",
    header: "[[projects]]\n[[projects.keys]]\n",
    limits: false,
    fields: &[
        field(
            "id",
            ID,
            Unwritten::Words("from the key's fingerprint"),
            "its name in logs and answers, unique in the file",
        ),
        field(
            "secret",
            Words("text"),
            Required,
            "where the key lies: `\"env:NAME\"`, `\"file:PATH\"`, `\"command:PROGRAM ARGUMENTS\"`, `\"vault:MOUNT/PATH#FIELD\"` (see [secrets](#secrets)); or the key itself",
        ),
        field(
            "weight",
            Number(WEIGHT),
            Value(|| 1.to_string()),
            "its share, where the [strategy](#strategies) reads it",
        ),
        field(
            "priority",
            Number(PRIORITY),
            Unwritten::Words("see [strategies](#strategies)"),
            "its class, lower first, where the strategy reads it",
        ),
        field(
            "labels",
            Words("table of texts, to 128 characters"),
            NONE,
            "your notes; requests may ask for keys with all of some labels",
        ),
        field("limits", LIST, NONE, "of this key alone, beside its project's, each model by itself"),
        field("totals", TABLE, NONE, "of this key alone, all models together"),
    ],
};

pub(in crate::config) static BILLING_ACCOUNT: Table = Table {
    name: "billing account",
    header: "[[billing_accounts]]\n",
    limits: false,
    fields: &[
        field("id", ID, Required, "as projects name it in `billing_account`"),
        field("totals", TABLE, Required, "of all its projects, keys and models together"),
    ],
};

pub(in crate::config) static PRICE: Table = Table {
    name: "price",
    header: "[[prices]]\n",
    limits: false,
    fields: &[
        field(
            "model",
            Words("name, beginning with `*`, or `*`"),
            Value(|| "\"*\"".to_owned()),
            "the quota models that it is for; the most specific entry stands",
        ),
        field("input_per_million", MONEY, Required, "a million tokens of prompts"),
        field(
            "cached_input_per_million",
            MONEY,
            Unwritten::Words("`input_per_million`"),
            "a million tokens of prompts that were cached",
        ),
        field("output_per_million", MONEY, Required, "a million tokens of answers, thinking included"),
    ],
};

pub(in crate::config) static PLAN: Table = Table {
    name: "plan",
    header: "[[plans]]\n",
    limits: true,
    fields: &[
        field("name", Words("id, but not `off`"), Required, "as consumers and identities name it"),
        field(
            "mode",
            OneOf(|| PlanMode::ALL.map(PlanMode::as_str).to_vec()),
            Value(|| format!("\"{}\"", PlanMode::default().as_str())),
            "a request over the plan is refused; or served and marked as over the plan",
        ),
    ],
};

pub(in crate::config) static CONSUMER: Table = Table {
    name: "consumer",
    header: "[[consumers]]\n",
    limits: false,
    fields: &[
        field(
            "id",
            Words("1 to 128 visible ASCII characters"),
            Required,
            "as requests name it, such as an e-mail address",
        ),
        field("plan", Words("name of a plan"), Required, "what it may use"),
    ],
};
