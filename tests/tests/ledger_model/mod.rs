//! Random catalogues and operations for a ledger, and a checker that knows nothing of its rules.

#![allow(unreachable_pub, dead_code, unused_imports)]

mod checker;
mod generator;

pub use checker::check;
pub use generator::{large_scenario, scenario};

use std::collections::{BTreeMap, BTreeSet};

use keybroker::ledger::{
    AccountSpec, Acquire, Batch, CandidateSpec, CommonSpec, Edit, Ledger, LedgerError, LimitSpec, Mode,
    Order, Renew, Reply, Settle, ShardSpec, Used, account::Account, calendar::Calendar, kernel::Kernel,
    shard,
};

/// A catalogue and what is done with it.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub start: i64,
    pub keys: Vec<KeySpec>,
    pub limits: Limits,
    pub order: Order,
    /// What Google names stands in the place of what was configured.
    pub learning: bool,
    pub steps: Vec<StepSpec>,
}

/// One key: its project and place in the order.
#[derive(Debug, Clone)]
pub struct KeySpec {
    pub project: usize,
    pub billing: usize,
    pub class: i64,
    pub weight: i64,
    /// It names an account whose limits no catalogue ever applies.
    pub unapplied: bool,
}

/// Limits by kind of account; an account without limits is sparse.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    pub key: Vec<LimitSpec>,
    pub project_model: Vec<LimitSpec>,
    pub billing: Vec<LimitSpec>,
    pub pool: Vec<LimitSpec>,
    pub consumer: Vec<LimitSpec>,
}

/// What happens at one instant.
#[derive(Debug, Clone)]
pub struct StepSpec {
    pub advance: i64,
    pub new_limits: Option<Limits>,
    pub acquires: Vec<Acquire>,
    pub settles: Vec<(usize, Settle)>,
    pub renews: Vec<(usize, Renew)>,
    pub edits: Vec<Edit>,
}

/// What a ledger answered, and how its accounts stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub reply: Reply,
    pub accounts: Vec<Option<Account>>,
}

impl Step {
    pub fn new(reply: Reply, accounts: Vec<Option<Account>>) -> Self {
        let now = reply.now;
        let live =
            |account: Account| (!account.is_empty(now)).then(|| without_what_ended(account.live(now), now));
        Self { reply, accounts: accounts.into_iter().map(|account| account.and_then(live)).collect() }
    }
}

/// The words of a block and the beginning of a ramp that have ended say nothing any more, and may be kept or not.
fn without_what_ended(mut account: Account, now: i64) -> Account {
    if account.streak == 0 && !account.probing && account.blocked_until <= now {
        account.blocked_until = 0;
        account.reason.clear();
    }
    account.ramp_from = account.ramp(now);
    account
}

pub const MODELS: [&str; 2] = ["m1", "m2"];

/// The accounts that every batch brings along: the pool's, consumers' that pass, the second of which has a
/// soft plan, and some that hold no limits.
pub const COMMONS: [&str; 7] = ["w/pool", "c/a", "c/soft", "b/b0", "p/p0", "w/none", "m/m1"];

/// The shards that a batch names: one of them twice, and one that was never applied.
pub const SHARDS: [&str; 4] = ["m1", "m2", "m1", "none"];

impl Scenario {
    /// The batches in order, each with the shards to apply before it.
    pub fn batches(&self, ledger_id: &str) -> Vec<(Batch, Vec<ShardSpec>)> {
        let (mut now, mut shard_of, mut generation) = (self.start, Vec::new(), 1);
        let mut specs = self.shards(&self.limits, generation);
        let mut commons = commons(&self.limits, generation);
        let mut batches = Vec::new();
        for step in &self.steps {
            now += step.advance;
            if let Some(limits) = &step.new_limits {
                generation += 1;
                specs = self.shards(limits, generation);
                commons = self::commons(limits, generation);
            }
            let known: Vec<usize> = shard_of.clone();
            let reusable = known.len();
            let name = |index: usize| format!("l{}", index % (known.len() + 2));
            // Now and then a lease is named with the wrong shard, as a forged id would.
            let shard = |index: usize, other: usize| {
                let of_lease = known.get(index % (known.len() + 2)).copied();
                if index.is_multiple_of(11) { other } else { of_lease.unwrap_or(other) }
            };
            let calendar = Calendar::around(now);
            let batch = Batch {
                ledger_id: ledger_id.to_owned(),
                clock: now,
                day_ends: calendar.day_ends,
                month_ends: calendar.month_ends,
                rebase_at: 5 * shard::SCALE,
                shards: SHARDS.iter().map(|model| format!("g/{model}")).collect(),
                settles: step
                    .settles
                    .iter()
                    .map(|(at, op)| Settle { lease: name(*at), shard: shard(*at, op.shard), ..op.clone() })
                    .collect(),
                renews: step
                    .renews
                    .iter()
                    .map(|(at, op)| Renew { lease: name(*at), shard: shard(*at, op.shard), ..op.clone() })
                    .collect(),
                acquires: step
                    .acquires
                    .iter()
                    .map(|op| {
                        // A caller may take an id that it took in an earlier batch.
                        let reused = op.lease.parse().ok().filter(|lease: &usize| *lease < reusable);
                        let lease = reused.unwrap_or(shard_of.len());
                        shard_of.resize(shard_of.len().max(lease + 1), 0);
                        shard_of[lease] = op.shard;
                        Acquire { lease: format!("l{lease}"), ..op.clone() }
                    })
                    .collect(),
                commons: commons.clone(),
                edits: step.edits.clone(),
            };
            batches.push((batch, std::mem::take(&mut specs)));
        }
        batches
    }

    fn shards(&self, limits: &Limits, generation: i64) -> Vec<ShardSpec> {
        MODELS.iter().map(|model| self.shard(model, limits, generation)).collect()
    }

    fn shard(&self, model: &str, limits: &Limits, generation: i64) -> ShardSpec {
        let kinds = |key: &KeySpec, name: &str| {
            [
                (format!("q/p{}/{model}", key.project), &limits.project_model),
                (format!("k/{name}"), &limits.key),
                (format!("b/b{}", key.billing), &limits.billing),
                (format!("p/p{}", key.project), &NO_LIMITS),
            ]
        };
        let mut accounts: Vec<AccountSpec> = Vec::new();
        let mut candidates = Vec::new();
        for (index, key) in self.keys.iter().enumerate() {
            let name = format!("key{index}");
            let mut candidate = CandidateSpec {
                name: name.clone(),
                class: key.class,
                step: shard::SCALE / key.weight,
                limited: Vec::new(),
                sparse: Vec::new(),
                tag: format!("p{}", key.project),
            };
            if key.unapplied {
                candidate.limited.push(format!("x/{name}"));
            }
            for (id, limits) in kinds(key, &name) {
                // What is limited is decided once: a shard's candidates never change.
                let first = match id.as_bytes()[0] {
                    b'q' => &self.limits.project_model,
                    b'k' => &self.limits.key,
                    b'b' => &self.limits.billing,
                    _ => &NO_LIMITS,
                };
                if first.is_empty() {
                    candidate.sparse.push(id);
                } else {
                    candidate.limited.push(id.clone());
                    if !accounts.iter().any(|known| known.id == id) {
                        let mode = if self.learning { Mode::Learning } else { Mode::Hard };
                        accounts.push(AccountSpec { id, limits: limits.clone(), mode });
                    }
                }
            }
            candidates.push(candidate);
        }
        ShardSpec { shard: format!("g/{model}"), generation, accounts, candidates, order: self.order }
    }

    pub fn account_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = COMMONS.map(str::to_owned).to_vec();
        for (index, key) in self.keys.iter().enumerate() {
            ids.push(format!("k/key{index}"));
            ids.push(format!("b/b{}", key.billing));
            ids.push(format!("p/p{}", key.project));
            ids.extend(MODELS.iter().map(|model| format!("q/p{}/{model}", key.project)));
        }
        ids.sort();
        ids.dedup();
        ids
    }
}

fn commons(limits: &Limits, generation: i64) -> Vec<CommonSpec> {
    let spec = |id: &&str| {
        let (limits, mode) = match *id {
            "w/pool" => (limits.pool.clone(), Mode::Hard),
            "c/a" => (limits.consumer.clone(), Mode::Hard),
            "c/soft" => (limits.consumer.clone(), Mode::Soft),
            _ => (Vec::new(), Mode::Hard),
        };
        let generation = if limits.is_empty() && !id.starts_with(['w', 'c']) { 0 } else { generation };
        CommonSpec { id: (*id).to_owned(), generation, limits, mode, passing: id.starts_with('c') }
    };
    COMMONS.iter().map(spec).collect()
}

/// How many scenarios to run: `PROPTEST_CASES` if that is more than `least`.
pub fn cases(least: u32) -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .map_or(least, |cases: u32| cases.max(least))
}

/// Sums by the end of the day and name.
pub type Usage = BTreeMap<(i64, String), Used>;

/// What a ledger says was used on the days on which the kernel says that something was.
pub async fn usage(ledger: &dyn Ledger, pool: &str, kernel: &Kernel) -> Result<Usage, LedgerError> {
    let days: BTreeSet<i64> = kernel.changes.usage.keys().map(|(day_end, _)| *day_end).collect();
    let days: Vec<i64> = days.into_iter().collect();
    let rows = ledger.usage(pool, &days).await?;
    Ok(rows.into_iter().map(|row| ((row.day_end, row.name), row.used)).collect())
}

static NO_LIMITS: Vec<LimitSpec> = Vec::new();

/// Runs the scenario on the kernel. Every refusal is checked for its instant: one millisecond
/// earlier the same request is refused, at the instant it is granted.
pub fn run_on_kernel(kernel: &mut Kernel, scenario: &Scenario) -> Vec<Step> {
    run_on_kernel_with(kernel, scenario, checker::check_refusals)
}

/// The same without the check of refusals, which are bounded in pools of more than `MAX_TRIES` keys.
pub fn run_large_on_kernel(kernel: &mut Kernel, scenario: &Scenario) -> Vec<Step> {
    run_on_kernel_with(kernel, scenario, |_, _, _| {})
}

fn run_on_kernel_with(
    kernel: &mut Kernel,
    scenario: &Scenario,
    check_refusals: fn(&Kernel, &Batch, &Reply),
) -> Vec<Step> {
    let ids = scenario.account_ids();
    let mut steps = Vec::new();
    for (batch, apply) in scenario.batches("ledger") {
        apply.iter().for_each(|spec| kernel.apply(spec));
        let reply = kernel.execute(batch.clock, &batch).expect("the calendar covers the clock");
        check_refusals(kernel, &batch, &reply);
        let accounts = ids.iter().map(|id| kernel.account(id).cloned()).collect();
        steps.push(Step::new(reply, accounts));
    }
    steps
}
