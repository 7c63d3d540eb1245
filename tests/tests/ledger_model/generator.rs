//! Random scenarios: small limits, so that they are reached, around the instants that matter.

use keybroker::ledger::{Acquire, Block, Charge, Dimension, FOREVER, LimitSpec, Renew, Settle, Span};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{KeySpec, Limits, Scenario, StepSpec};

/// A scenario of up to `steps` instants.
pub fn scenario(steps: usize) -> impl Strategy<Value = Scenario> {
    (start(), vec(key(), 1..7), limits(), vec(step(), 1..=steps))
        .prop_map(|(start, keys, limits, steps)| Scenario { start, keys, limits, steps })
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

fn key() -> impl Strategy<Value = KeySpec> {
    (0..4_usize, 0..2_usize, 0..3_i64, select(vec![1, 2, 3, 1000]))
        .prop_map(|(project, billing, class, weight)| KeySpec { project, billing, class: class / 2, weight })
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
    (limit_list(1), limit_list(3), limit_list(1), limit_list(1))
        .prop_map(|(key, project_model, billing, pool)| Limits { key, project_model, billing, pool })
}

fn step() -> impl Strategy<Value = StepSpec> {
    let advance = prop_oneof![
        4 => 0..300_i64,
        3 => 300..3_000_i64,
        2 => 3_000..70_000_i64,
        1 => 70_000..4_000_000_i64,
    ];
    let new_limits = prop_oneof![19 => Just(None), 1 => limits().prop_map(Some)];
    (advance, new_limits, vec(acquire(), 0..6), vec(settle(), 0..4), vec(renew(), 0..2)).prop_map(
        |(advance, new_limits, acquires, settles, renews)| StepSpec {
            advance,
            new_limits,
            acquires,
            settles,
            renews,
        },
    )
}

fn some_keys() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        5 => Just(Vec::new()),
        1 => vec((0..8_usize).prop_map(|index| format!("key{index}")), 1..4),
    ]
}

fn acquire() -> impl Strategy<Value = Acquire> {
    let permits = prop_oneof![5 => Just(1_i64), 1 => 1..4_i64];
    let tokens = prop_oneof![2 => Just(0_i64), 3 => 1..60_i64, 1 => 1..400_i64];
    let ttl = prop_oneof![Just(1_000_i64), Just(60_000), 1_000..90_000_i64];
    let common = prop_oneof![4 => Just(Vec::new()), 1 => Just(vec!["w/pool".to_owned()])];
    let send_within = select(vec![500_i64, 1_000, 3_000]);
    (0..2_usize, permits, tokens, ttl, send_within, some_keys(), some_keys(), common).prop_map(
        |(shard, permits, tokens, ttl, send_within, only, exclude, common)| Acquire {
            lease: String::new(),
            shard,
            permits,
            tokens,
            ttl,
            send_within,
            only,
            exclude,
            common,
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
        vec![],
    ]);
    (select(vec!["k", "q", "p", "b"]), steps, any::<bool>(), any::<bool>()).prop_map(
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
    (0..60_usize, 0..2_usize, charge, used(), used(), any::<bool>(), blocks, "[a-z]{0,3}").prop_map(
        |(lease, shard, charge, input_tokens, total_tokens, clear, blocks, memo)| {
            let clear = clear && blocks.is_empty();
            let settle = Settle {
                lease: String::new(),
                shard,
                charge,
                input_tokens,
                total_tokens,
                clear,
                blocks,
                memo,
            };
            (lease, settle)
        },
    )
}

fn renew() -> impl Strategy<Value = (usize, Renew)> {
    (0..60_usize, 0..2_usize, 1_000..90_000_i64)
        .prop_map(|(lease, shard, ttl)| (lease, Renew { lease: String::new(), shard, ttl }))
}
