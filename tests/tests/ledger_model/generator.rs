//! Random scenarios: small limits, so that they are reached, around the instants that matter.

use keybroker::ledger::{
    Acquire, Amounts, Block, Charge, Dimension, Edit, EditAction, FOREVER, LimitSpec, Order, Renew, Settle,
    Span,
};
use proptest::{bool::weighted, collection::vec, option, prelude::*, sample::select};

use super::{COMMONS, KeySpec, Limits, Scenario, StepSpec};

/// A scenario of up to `steps` instants.
pub fn scenario(steps: usize) -> impl Strategy<Value = Scenario> {
    let keys = prop_oneof![3 => vec(key(4), 1..7), 1 => vec(key(6), 7..13)];
    of_parts(keys, vec(step(12), 1..=steps))
}

/// A scenario with more keys than an acquire tries.
pub fn large_scenario(steps: usize) -> impl Strategy<Value = Scenario> {
    let keys = prop_oneof![vec(key(3), 257..400), vec(key(40), 257..600), vec(key(1_000), 257..600)];
    of_parts(keys, vec(step(400), 1..=steps))
}

fn of_parts(
    keys: impl Strategy<Value = Vec<KeySpec>>,
    steps: impl Strategy<Value = Vec<StepSpec>>,
) -> impl Strategy<Value = Scenario> {
    let order =
        select(vec![Order::Share, Order::Share, Order::Health, Order::LeastRecent, Order::LeastUtilized]);
    (start(), keys, limits(), order, weighted(0.3), steps).prop_map(
        |(start, keys, limits, order, learning, steps)| Scenario {
            start,
            keys,
            limits,
            order,
            learning,
            steps,
        },
    )
}

/// Shortly before Pacific midnights, among them both changes of daylight time and a month's end.
fn start() -> impl Strategy<Value = i64> {
    let midnights = [
        1_772_956_800_000, // 2026-03-08 00:00 PST, the day that has 23 hours
        1_773_039_600_000, // 2026-03-09 00:00 PDT
        1_793_516_400_000, // 2026-11-01 00:00 PDT, the day that has 25 hours and begins a month
        1_793_606_400_000, // 2026-11-02 00:00 PST
        1_784_012_345_678, // no midnight at all
    ];
    (select(midnights.to_vec()), 0..5_000_i64).prop_map(|(at, before)| at - before)
}

fn key(projects: usize) -> impl Strategy<Value = KeySpec> {
    let weight = select(vec![1, 2, 3, 1000]);
    let unapplied = if projects < 10 { 0.02 } else { 0.000_1 };
    (0..projects, 0..2_usize, 0..3_i64, weight, weighted(unapplied)).prop_map(
        |(project, billing, class, weight, unapplied)| {
            let class = if class == 2 { 15 } else { 0 };
            KeySpec { project, billing, class, weight, unapplied }
        },
    )
}

fn limit() -> impl Strategy<Value = LimitSpec> {
    prop_oneof![
        4 => (1..6_i64).prop_map(|most| LimitSpec(Dimension::Requests, Span::Trailing(60_000), most)),
        1 => (1..4_i64).prop_map(|most| LimitSpec(Dimension::Requests, Span::Trailing(1_000), most)),
        1 => (2..8_i64).prop_map(|most| LimitSpec(Dimension::Requests, Span::Trailing(600_000), most)),
        2 => (20..200_i64).prop_map(|most| LimitSpec(Dimension::InputTokens, Span::Trailing(60_000), most)),
        1 => (20..300_i64).prop_map(|most| LimitSpec(Dimension::TotalTokens, Span::Day, most)),
        2 => (1..9_i64).prop_map(|most| LimitSpec(Dimension::Requests, Span::Day, most)),
        1 => (1..12_i64).prop_map(|most| LimitSpec(Dimension::Requests, Span::Month, most)),
        2 => (1..4_i64).prop_map(|most| LimitSpec(Dimension::InFlight, Span::Held, most)),
        1 => (50..500_i64).prop_map(|most| LimitSpec(Dimension::Spend, Span::Trailing(600_000), most)),
        1 => (50..900_i64).prop_map(|most| LimitSpec(Dimension::Spend, Span::Month, most)),
    ]
}

fn limit_list(most: usize) -> impl Strategy<Value = Vec<LimitSpec>> {
    vec(limit(), 0..=most).prop_map(|mut limits| {
        let mut seen = Vec::new();
        limits.retain(|LimitSpec(dimension, span, _)| {
            let new = !seen.contains(&(*dimension, *span));
            seen.push((*dimension, *span));
            new
        });
        limits
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    (limit_list(1), limit_list(3), limit_list(1), limit_list(1), limit_list(2)).prop_map(
        |(key, project_model, billing, pool, consumer)| Limits {
            key,
            project_model,
            billing,
            pool,
            consumer,
        },
    )
}

fn step(acquires: usize) -> impl Strategy<Value = StepSpec> {
    let advance = prop_oneof![
        4 => 0..300_i64,
        3 => 300..3_000_i64,
        2 => 3_000..70_000_i64,
        1 => 70_000..4_000_000_i64,
    ];
    let new_limits = prop_oneof![14 => Just(None), 1 => limits().prop_map(Some)];
    let edits = prop_oneof![12 => Just(Vec::new()), 1 => vec(edit(), 1..3)];
    (advance, new_limits, requests(acquires), vec(settle(), 0..4), vec(renew(), 0..2), edits).prop_map(
        |(advance, new_limits, acquires, settles, renews, edits)| StepSpec {
            advance,
            new_limits,
            acquires,
            settles,
            renews,
            edits,
        },
    )
}

fn edit() -> impl Strategy<Value = Edit> {
    let account = select(vec![
        "k/key0", "k/key1", "k/none", "q/p0/m1", "q/p1/m1", "p/p0", "b/b0", "w/pool", "c/a", "m/m1", "m/m1",
        "x/key0", "x/key1",
    ]);
    let action = select(vec![EditAction::Reset, EditAction::Recover, EditAction::Block, EditAction::Unlearn]);
    (account, action, 0..90_000_i64).prop_map(|(account, action, length)| Edit {
        account: account.to_owned(),
        action,
        length,
        reason: "edited".to_owned(),
    })
}

fn some_keys() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        5 => Just(Vec::new()),
        1 => vec((0..14_usize).prop_map(|index| format!("key{index}")), 1..6),
    ]
}

/// What one batch asks for: different requests, or one of them many times.
fn requests(most: usize) -> impl Strategy<Value = Vec<Acquire>> {
    prop_oneof![
        9 => vec(acquire(), 0..6),
        1 => (acquire(), 0..most).prop_map(|(one, times)| vec![one; times]),
    ]
}

/// Numbers of shards as [`super::SHARDS`] has them, and now and then one beyond.
fn shard() -> impl Strategy<Value = usize> {
    prop_oneof![9 => Just(0_usize), 9 => Just(1), 4 => Just(2), 1 => 3..6_usize]
}

/// Numbers of [`super::COMMONS`], and now and then one beyond.
fn common() -> impl Strategy<Value = Vec<usize>> {
    let some = prop_oneof![
        3 => Just(vec![0]),
        1 => Just(vec![0, 0]),
        8 => vec(0..COMMONS.len(), 1..4),
        1 => Just(vec![COMMONS.len()]),
    ];
    prop_oneof![2 => Just(Vec::new()), 1 => some]
}

fn acquire() -> impl Strategy<Value = Acquire> {
    let lease =
        prop_oneof![30 => Just(String::new()), 1 => (0..40_usize).prop_map(|lease| lease.to_string())];
    let permits = prop_oneof![10 => Just(1_i64), 2 => 1..4_i64, 1 => 4..20_i64];
    let tokens = prop_oneof![2 => Just(0_i64), 3 => 1..60_i64, 1 => 1..400_i64];
    let amounts = (permits, tokens, 0..40_i64, 0..30_i64).prop_map(|(permits, input, output, spend)| {
        Amounts { permits, input, total: if input == 0 { 0 } else { input + output }, spend }
    });
    let ttl = prop_oneof![Just(1_000_i64), Just(60_000), 1_000..90_000_i64];
    let send_within = select(vec![500_i64, 1_000, 3_000]);
    let words = (select(vec!["", "a\u{1f}m1", "b\u{1f}m1"]), select(vec!["", "note"]));
    (lease, shard(), amounts, ttl, send_within, some_keys(), some_keys(), common(), words).prop_map(
        |(lease, shard, amounts, ttl, send_within, only, exclude, common, (usage, note))| Acquire {
            lease,
            shard,
            amounts,
            ttl,
            send_within,
            only,
            exclude,
            common,
            usage: usage.to_owned(),
            note: note.to_owned(),
        },
    )
}

fn block() -> impl Strategy<Value = Block> {
    let steps = select(vec![
        vec![1_000],
        vec![0],
        vec![34_000],
        vec![2_000, 4_000, 8_000],
        vec![5_000, FOREVER],
        vec![0, 3_000, 20_000],
        vec![],
    ]);
    (select(vec!["k", "q", "p", "b", "c", "w"]), steps, any::<bool>(), any::<bool>()).prop_map(
        |(role, steps, until_day_end, probe)| Block {
            role: role.to_owned(),
            steps,
            until_day_end: until_day_end && probe,
            probe,
            reason: format!("because_{role}"),
        },
    )
}

fn settle() -> impl Strategy<Value = (usize, Settle)> {
    let charge = select(vec![Charge::Keep, Charge::Refund, Charge::TrueUp, Charge::TrueUp]);
    let used = || option::of(0..100_i64).prop_map(|used| used.unwrap_or(-1));
    let blocks = prop_oneof![3 => Just(Vec::new()), 1 => vec(block(), 1..3)];
    let learned = prop_oneof![9 => Just(Vec::new()), 1 => vec(limit(), 1..3)];
    let standing = (select(vec![0, 0, 5, -20, -90]), learned);
    let words = ("[a-z]{0,3}", select(vec!["", "ok", "minute_quota"]));
    (0..60_usize, shard(), charge, (used(), used(), used()), any::<bool>(), blocks, standing, words).prop_map(
        |(lease, shard, charge, used, clear, blocks, (health, learned), (memo, outcome))| {
            let clear = clear && blocks.is_empty();
            let settle = Settle {
                lease: String::new(),
                shard,
                charge,
                input_tokens: used.0,
                total_tokens: used.1,
                spend: used.2,
                clear,
                blocks,
                memo,
                health,
                learned,
                outcome: outcome.to_owned(),
            };
            (lease, settle)
        },
    )
}

fn renew() -> impl Strategy<Value = (usize, Renew)> {
    (0..60_usize, shard(), 1_000..90_000_i64)
        .prop_map(|(lease, shard, ttl)| (lease, Renew { lease: String::new(), shard, ttl }))
}
