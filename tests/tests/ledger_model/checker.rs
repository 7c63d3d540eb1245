//! What must hold of any ledger's answers, by the definition of each limit alone: no use is made
//! of windows, sub-buckets or accounts of the ledger.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use keybroker::ledger::{
    AcquireState, Batch, Charge, Dimension, FOREVER, LimitSpec, RenewState, Reply, SettleState, Span,
    calendar::Calendar, kernel::Kernel,
};

use super::{COMMONS, Limits, MODELS, Scenario, Step};

/// A limit that was exceeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub step: usize,
    pub account: String,
    pub limit: LimitSpec,
    pub counted: i64,
}

/// Since when each kind of account has had a limit on a (dimension, span): what came before the
/// limit does not count against it.
#[derive(Default)]
struct Since(Vec<(char, Dimension, Span, usize)>);

impl Since {
    fn take_in(&mut self, limits: &Limits, step: usize) {
        let kinds = [
            ('q', &limits.project_model),
            ('k', &limits.key),
            ('b', &limits.billing),
            ('w', &limits.pool),
            ('c', &limits.consumer),
        ];
        let old = std::mem::take(&mut self.0);
        for (kind, limits) in kinds {
            for LimitSpec(dimension, span, _) in limits {
                let known = old.iter().find(|known| (known.0, known.1, known.2) == (kind, *dimension, *span));
                self.0.push((kind, *dimension, *span, known.map_or(step, |known| known.3)));
            }
        }
    }

    fn of(&self, account: &str, limit: &LimitSpec) -> usize {
        let same = |known: &&(char, Dimension, Span, usize)| {
            account.starts_with(known.0) && (known.1, known.2) == (limit.0, limit.1)
        };
        self.0.iter().find(same).map_or(0, |known| known.3)
    }
}

struct Granted {
    lease: String,
    step: usize,
    accounts: Vec<String>,
    at: i64,
    latest_arrival: i64,
    expires_at: i64,
    settled: bool,
    permits: i64,
    tokens: i64,
    total_tokens: i64,
    spend: i64,
}

/// The first violation in what a ledger answered.
pub fn check(scenario: &Scenario, steps: &[Step]) -> Option<Violation> {
    let mut granted: Vec<Granted> = Vec::new();
    let mut limits = &scenario.limits;
    let mut since = Since::default();
    since.take_in(limits, 0);
    for (number, ((batch, _), step)) in scenario.batches("ledger").iter().zip(steps).enumerate() {
        if let Some(new) = &scenario.steps[number].new_limits {
            limits = new;
            since.take_in(limits, number);
        }
        take_in_ends(&mut granted, batch, &step.reply);
        for (op, answer) in batch.acquires.iter().zip(&step.reply.acquires) {
            if answer.0 != AcquireState::Granted {
                continue;
            }
            granted.push(Granted {
                lease: op.lease.clone(),
                step: number,
                accounts: accounts_of(scenario, &answer.2, op.shard, &op.common),
                at: step.reply.now,
                latest_arrival: step.reply.now + op.send_within,
                expires_at: answer.1,
                settled: false,
                permits: op.amounts.permits,
                tokens: op.amounts.input,
                total_tokens: op.amounts.total,
                spend: op.amounts.spend,
            });
            let newest = &granted[granted.len() - 1];
            for account in &newest.accounts {
                for limit in limits_of(scenario, limits, account) {
                    let counted = most_counted(&granted, account, *limit, newest, since.of(account, limit));
                    // A window is judged when something is added to it, and only what is counted in
                    // the dimension adds to it.
                    if amount(newest, limit.0) > 0 && counted > limit.2 {
                        let account = account.clone();
                        return Some(Violation { step: number, account, limit: *limit, counted });
                    }
                }
            }
        }
    }
    None
}

/// Each refusal's instant is the true earliest one. Those that a grant of the same batch followed
/// are left out: what they were told may no longer hold.
pub fn check_refusals(kernel: &Kernel, batch: &Batch, reply: &Reply) {
    let granted = |answer: &keybroker::ledger::Acquired| answer.0 == AcquireState::Granted;
    let last_grant = reply.acquires.iter().rposition(granted).map_or(0, |at| at + 1);
    for (op, answer) in batch.acquires.iter().zip(&reply.acquires).skip(last_grant) {
        let at = answer.1;
        if answer.0 != AcquireState::Refused {
            continue;
        }
        assert!(at > reply.now, "a refusal that ends at once: {answer:?}");
        let ask = |clock: i64| {
            let calendar = Calendar::around(clock);
            let batch = Batch {
                clock,
                day_ends: calendar.day_ends,
                month_ends: calendar.month_ends,
                settles: Vec::new(),
                renews: Vec::new(),
                acquires: vec![op.clone()],
                edits: Vec::new(),
                ..batch.clone()
            };
            kernel.clone().execute(clock, &batch).expect("the calendar covers the clock").acquires[0].clone()
        };
        if at < FOREVER {
            let then = ask(at);
            assert_ne!(
                then.0,
                AcquireState::Refused,
                "{op:?} was told {answer:?} and then refused: {then:?}"
            );
        }
        let before = ask((at - 1).min(reply.now + 400 * 86_400_000));
        assert_ne!(
            before.0,
            AcquireState::Granted,
            "{op:?} was told {answer:?} and could have had {before:?}"
        );
    }
}

fn take_in_ends(granted: &mut [Granted], batch: &Batch, reply: &Reply) {
    for (op, answer) in batch.settles.iter().zip(&reply.settles) {
        let Some(lease) = granted.iter_mut().rfind(|lease| lease.lease == op.lease) else { continue };
        if matches!(answer.0, SettleState::Already | SettleState::Unknown) {
            continue;
        }
        lease.settled = true;
        match op.charge {
            Charge::Refund => {
                (lease.permits, lease.tokens, lease.total_tokens, lease.spend) = (0, 0, 0, 0);
            }
            // More than estimated is the estimate's fault and may exceed a limit.
            Charge::TrueUp if op.input_tokens >= 0 => lease.tokens = lease.tokens.min(op.input_tokens),
            Charge::TrueUp | Charge::Keep => {}
        }
        if op.charge == Charge::TrueUp && op.total_tokens >= 0 {
            lease.total_tokens = lease.total_tokens.min(op.total_tokens);
        }
        if op.charge == Charge::TrueUp && op.spend >= 0 {
            lease.spend = lease.spend.min(op.spend);
        }
    }
    for (op, answer) in batch.renews.iter().zip(&reply.renews) {
        if let (RenewState::Renewed, Some(lease)) =
            (answer.0, granted.iter_mut().rfind(|lease| lease.lease == op.lease))
        {
            lease.expires_at = answer.1;
        }
    }
}

fn accounts_of(scenario: &Scenario, key: &str, shard: usize, common: &[usize]) -> Vec<String> {
    let index: usize = key.trim_start_matches("key").parse().expect("keys are numbered");
    let spec = &scenario.keys[index];
    let own = [
        format!("q/p{}/{}", spec.project, MODELS[shard % 2]),
        format!("k/{key}"),
        format!("b/b{}", spec.billing),
    ];
    own.into_iter().chain(common.iter().map(|index| COMMONS[*index].to_owned())).collect()
}

fn limits_of<'a>(scenario: &Scenario, limits: &'a Limits, account: &str) -> &'a [LimitSpec] {
    // An account that had no limits at first is not limited later in these scenarios.
    let (first, now) = match account.as_bytes()[0] {
        // A soft plan refuses nothing, and what Google names may stand in the place of a limit.
        _ if account == "c/soft" => return &[],
        b'q' if scenario.learning => return &[],
        b'c' => return &limits.consumer,
        b'w' if account == "w/pool" => return &limits.pool,
        b'w' | b'm' | b'p' => return &[],
        b'q' => (&scenario.limits.project_model, &limits.project_model),
        b'k' => (&scenario.limits.key, &limits.key),
        _ => (&scenario.limits.billing, &limits.billing),
    };
    if first.is_empty() { &[] } else { now }
}

fn amount(lease: &Granted, dimension: Dimension) -> i64 {
    match dimension {
        Dimension::Requests | Dimension::InFlight => lease.permits,
        Dimension::InputTokens => lease.tokens,
        Dimension::TotalTokens => lease.total_tokens,
        Dimension::Spend => lease.spend,
    }
}

/// The most that Google could count in one window together with the newest lease, over all ways
/// in which requests can take their time to arrive.
fn most_counted(granted: &[Granted], account: &str, limit: LimitSpec, newest: &Granted, since: usize) -> i64 {
    let LimitSpec(dimension, span, _) = limit;
    let charged = granted
        .iter()
        .filter(|lease| lease.step >= since && lease.accounts.iter().any(|known| known == account));
    let sum = |counts: &dyn Fn(&Granted) -> bool| -> i64 {
        charged.clone().filter(|lease| counts(lease)).map(|lease| amount(lease, dimension)).sum()
    };
    match span {
        Span::Trailing(length) => sum(&|lease| lease.latest_arrival > newest.at - length),
        Span::Held => sum(&|lease| !lease.settled && lease.expires_at > newest.at),
        Span::Day => {
            let in_day = |at: i64| {
                let (start, end) = day_of(at);
                sum(&|lease| lease.at < end && lease.latest_arrival >= start)
            };
            in_day(newest.at).max(in_day(newest.latest_arrival))
        }
        Span::Month => {
            let in_month = |at: i64| {
                let (start, end) = month_of(at);
                sum(&|lease| lease.at < end && lease.latest_arrival >= start)
            };
            in_month(newest.at).max(in_month(newest.latest_arrival))
        }
    }
}

fn pacific_date(at: i64) -> Date {
    let zone = TimeZone::get("America/Los_Angeles").expect("the time zone is known");
    Timestamp::from_millisecond(at).expect("a real instant").to_zoned(zone).date()
}

fn midnight(date: Date) -> i64 {
    let zone = TimeZone::get("America/Los_Angeles").expect("the time zone is known");
    date.to_zoned(zone).expect("a real date").timestamp().as_millisecond()
}

fn day_of(at: i64) -> (i64, i64) {
    let date = pacific_date(at);
    (midnight(date), midnight(date.tomorrow().expect("a real date")))
}

fn month_of(at: i64) -> (i64, i64) {
    let date = pacific_date(at);
    let next = date.last_of_month().tomorrow().expect("a real date");
    (midnight(date.first_of_month()), midnight(next))
}
