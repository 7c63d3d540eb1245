//! The Lua scripts and the Rust kernel give the same answers to the same operations at the same
//! instants, and neither ever lets a window exceed its limit.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]
#![allow(clippy::result_large_err, reason = "a failed run carries its scenario")]

mod ledger_model;

use std::{cell::Cell, time::Duration};

use keybroker::ledger::{
    Acquire, AcquireState, Amounts, Charge, Dimension, Ledger, LimitSpec, Order, Settle, Span,
    kernel::Kernel,
    redis::{RedisLedger, Scripts},
};
use keybroker_tests::{chaos::control::FIXED_WINDOW, harness::redis::RedisServer};
use ledger_model::{
    KeySpec, Limits, Scenario, Step, StepSpec, Usage, cases, check, large_scenario, run_large_on_kernel,
    run_on_kernel, scenario, usage,
};
use proptest::prop_assert_eq;
use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner,
};

const SEQUENCES: u32 = 2_000;
/// How many of them with the entries of windows kept as Lua keeps them.
const SEQUENCES_TOGETHER: u32 = 400;
const STEPS: usize = 50;
const LARGE_SEQUENCES: u32 = 30;
const LARGE_STEPS: usize = 20;

/// Keeps two entries apart already, as Lua does with those of a full window, so that short scenarios get there.
const APART: [(&str, &str); 2] = [
    ("local ENTRIES_TOGETHER = 192", "local ENTRIES_TOGETHER = 16"),
    ("local ENTRIES_RECENT = 64", "local ENTRIES_RECENT = 16"),
];

#[test]
fn lua_and_rust_give_the_same_answers_and_no_window_exceeds_its_limit() {
    for (cases, changes) in [(cases(SEQUENCES), &APART[..]), (cases(SEQUENCES_TOGETHER), &[])] {
        agree(cases, &Bench::new(changes));
    }
}

fn agree(cases: u32, bench: &Bench) {
    bench
        .run(cases, true, |scenario, specified, observed| {
            for (number, (specified, observed)) in specified.iter().zip(observed).enumerate() {
                if specified != observed {
                    let what = differences(specified, observed).join("\n");
                    return Err(format!("step {number}:\n{what}\n{scenario:#?}"));
                }
            }
            check(scenario, specified)
                .map_or(Ok(()), |violation| Err(format!("{violation:?} in {scenario:#?}")))
        })
        .expect("the ledgers agree");
}

#[test]
fn a_fixed_window_in_lua_is_found_to_disagree() {
    let bench = Bench::new(&[FIXED_WINDOW]);
    bench.run(SEQUENCES, false, same).expect_err("a fixed window gives other answers");
}

/// Rules of which a wrong variant must be found by the scenarios, so that they are seen to reach it.
const VARIANTS: [(&str, &str, &str); 15] = [
    (
        "an account that becomes ready earlier and stays full",
        "if smallest_ready(account) < before_at then",
        "if before_at > now and smallest_ready(account) <= now then",
    ),
    ("a shard named twice", "if opened[name] == nil then", "if true then"),
    ("limits that are not known", "(not required or account.row[1] > 0)", "true"),
    ("a limit newer than the lease", "row[9] >= window[5] and ", ""),
    ("the ramp after a cooldown", "if ramp_from > 0 and window[2] > 0 then", "if false then"),
    ("the ramp of a model, which all its keys share", "math.max(own, common_ramp)", "own"),
    (
        "a limit that was learned",
        "else window[3] = math.min(configured, learned) end",
        "else window[3] = configured end",
    ),
    ("the health of a key", "math.max(health_of(candidate), 1)", "100"),
    ("who was used least recently", "math.max(passed, now * TICKS) + 1", "now * TICKS"),
    (
        "a passing account that is probed",
        "math.max(row[2], row[5], row[11] > 0",
        "math.max(row[2], row[11] > 0",
    ),
    ("a soft plan", "if row[9] == SOFT then return at", "if false then return at"),
    ("money that was spent", "elseif window[1] == 's' then used = op[6] end", "end"),
    ("older entries that have ended", "window[4], window[9] = older[i] .. window[4], 0", "window[9] = 0"),
    ("an entry among the older ones", "entry_at(window[4], 1) > ends", "false"),
    ("a step that only counts", "if block[4] and till > now then", "if block[4] then"),
];

#[test]
fn wrong_variants_in_lua_are_found_to_disagree() {
    for (rule, from, to) in VARIANTS {
        let found = Bench::new(&[APART[0], APART[1], (from, to)]).run(cases(SEQUENCES), false, same);
        assert!(found.is_err(), "no scenario reaches {rule}");
    }
}

#[test]
fn a_fixed_window_is_found_to_exceed_its_limit() {
    let bench = Bench::new(&[FIXED_WINDOW]);
    bench
        .run(SEQUENCES, false, |scenario, _, observed| {
            check(scenario, observed).map_or(Ok(()), |violation| Err(format!("{violation:?}")))
        })
        .expect_err("a fixed window lets trailing windows exceed the limit");
}

#[test]
fn lua_and_rust_agree_on_more_keys_than_an_acquire_tries() {
    Bench::new(&[]).run_large(LARGE_SEQUENCES).expect("the ledgers agree");
}

#[test]
fn lua_and_rust_agree_on_a_batch_with_more_accounts_and_leases_than_luas_stack_holds() {
    let bench = Bench::new(&[]);
    let keys = (0..400).map(|project| KeySpec { project, billing: 0, class: 0, weight: 1, unapplied: false });
    let limits = |most| vec![LimitSpec(Dimension::Requests, Span::Trailing(60_000), most)];
    let acquire = Acquire { common: vec![0], usage: "a\u{1f}m1".to_owned(), ..one_request() };
    let settle = |at: usize| {
        let settle = Settle {
            shard: 0,
            charge: Charge::Refund,
            input_tokens: -1,
            total_tokens: -1,
            clear: true,
            memo: "again".to_owned(),
            lease: String::new(),
            blocks: Vec::new(),
            spend: -1,
            health: 0,
            learned: Vec::new(),
            outcome: "ok".to_owned(),
        };
        (at, settle)
    };
    let step = |advance, acquires, settles| StepSpec {
        advance,
        new_limits: None,
        acquires,
        settles,
        renews: vec![],
        edits: vec![],
    };
    let scenario = Scenario {
        start: 1_784_012_345_678,
        keys: keys.collect(),
        limits: Limits {
            key: limits(20),
            project_model: limits(20),
            billing: vec![],
            pool: limits(100_000),
            consumer: vec![],
        },
        order: Order::Share,
        learning: false,
        steps: vec![
            step(0, vec![acquire.clone(); 9_000], vec![]),
            step(1_000, vec![acquire; 10], (0..9_000).chain(0..9_000).map(settle).collect()),
            step(700_000, vec![], vec![]),
            step(1, vec![], (0..100).map(settle).collect()),
        ],
    };
    let mut kernel = Kernel::default();
    let mut specified = run_large_on_kernel(&mut kernel, &scenario);
    let mut observed = bench.runtime.block_on(bench.run_on_redis("large", &scenario));
    specified.iter_mut().chain(&mut observed).for_each(without_epochs);
    assert!(specified == observed, "the ledgers agree");
    let granted =
        |step: &Step| step.reply.acquires.iter().filter(|answer| answer.0 == AcquireState::Granted).count();
    assert_eq!(specified.iter().map(granted).collect::<Vec<_>>(), [8_000, 10, 0, 0]);
}

/// A lease a second for 40 seconds fills the windows of its account, which then end.
#[test]
fn entries_that_lua_keeps_apart_leave_no_field_behind_when_they_end() {
    let bench = Bench::new(&[]);
    let limits = |most| vec![LimitSpec(Dimension::Requests, Span::Trailing(60_000), most)];
    let acquire = one_request();
    let step = |advance| StepSpec {
        advance,
        new_limits: None,
        acquires: vec![acquire.clone()],
        settles: vec![],
        renews: vec![],
        edits: vec![],
    };
    let scenario = |steps| Scenario {
        start: 1_784_012_345_678,
        keys: vec![KeySpec { project: 0, billing: 0, class: 0, weight: 1, unapplied: false }],
        limits: Limits {
            key: vec![],
            project_model: limits(100),
            billing: vec![],
            pool: vec![],
            consumer: vec![],
        },
        order: Order::Share,
        learning: false,
        steps,
    };
    let fields = |pool: &str, steps| {
        bench.runtime.block_on(bench.run_on_redis(pool, &scenario(steps)));
        let mut connection = bench.server.connect().unwrap();
        let accounts = format!("kb:{{{pool}}}:accounts");
        redis::cmd("HLEN").arg(accounts).query::<usize>(&mut connection).unwrap()
    };
    let filling = vec![step(1_000); 40];
    let of_accounts = fields("one", vec![step(1_000)]);
    assert_eq!(fields("full", filling.clone()), of_accounts + 1);
    assert_eq!(fields("ended", [filling, vec![step(200_000)]].concat()), of_accounts);
}

fn same(_: &Scenario, specified: &[Step], observed: &[Step]) -> Result<(), String> {
    if specified == observed { Ok(()) } else { Err("they differ".to_owned()) }
}

fn one_request() -> Acquire {
    Acquire {
        lease: String::new(),
        shard: 0,
        amounts: Amounts { permits: 1, ..Amounts::default() },
        ttl: 60_000,
        send_within: 1_000,
        only: Vec::new(),
        exclude: Vec::new(),
        common: Vec::new(),
        usage: String::new(),
        note: String::new(),
    }
}

/// Redis takes a large catalogue in pieces, each of them an epoch of its own.
fn without_epochs(step: &mut Step) {
    let windows = step.accounts.iter_mut().flatten().flat_map(|account| &mut account.windows);
    windows.for_each(|window| window.since = 0);
}

fn differences(specified: &Step, observed: &Step) -> Vec<String> {
    let mut found = Vec::new();
    if specified.reply != observed.reply {
        found.push(format!("Rust {:?}\nLua  {:?}", specified.reply, observed.reply));
    }
    for (specified, observed) in specified.accounts.iter().zip(&observed.accounts) {
        if specified != observed {
            found.push(format!("Rust {specified:?}\nLua  {observed:?}"));
        }
    }
    found
}

struct Bench {
    server: RedisServer,
    runtime: tokio::runtime::Runtime,
    ledger: RedisLedger,
    pool: Cell<usize>,
}

impl Bench {
    /// A Redis of its own; each change replaces a text of the script, as known-bad variants do.
    fn new(changes: &[(&str, &str)]) -> Self {
        let server = RedisServer::start().expect("redis-server is installed by make setup");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut ledger = RedisLedger::new(&server.url(), Duration::from_secs(10)).unwrap();
        if !changes.is_empty() {
            let scripts =
                changes.iter().fold(Scripts::default(), |scripts, (from, to)| scripts.changed(from, to));
            ledger = ledger.with_scripts(scripts);
        }
        Self { server, runtime, ledger, pool: Cell::new(0) }
    }

    /// Runs scenarios until one is judged wrong: with `keep_failures` others each time, else the same each
    /// time, so that what is to be found is found each time.
    fn run(
        &self,
        cases: u32,
        keep_failures: bool,
        judge: impl Fn(&Scenario, &[Step], &[Step]) -> Result<(), String>,
    ) -> Result<(), TestError<Scenario>> {
        let regressions =
            || Box::new(FileFailurePersistence::Direct("tests/regressions/ledgers_agree.txt")) as Box<_>;
        let config = Config {
            cases,
            max_shrink_iters: if keep_failures { 2_000 } else { 0 },
            failure_persistence: keep_failures.then(regressions),
            ..Config::default()
        };
        let fixed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner =
            if keep_failures { TestRunner::new(config) } else { TestRunner::new_with_rng(config, fixed) };
        runner.run(&scenario(STEPS), |scenario| {
            self.pool.set(self.pool.get() + 1);
            let mut kernel = Kernel::default();
            let specified = run_on_kernel(&mut kernel, &scenario);
            let pool = format!("p{}", self.pool.get());
            let observed = self.runtime.block_on(self.run_on_redis(&pool, &scenario));
            if keep_failures {
                let used = self.runtime.block_on(usage(&self.ledger, &pool, &kernel)).unwrap();
                let specified: Usage = kernel.changes.usage.into_iter().collect();
                prop_assert_eq!(specified, used);
            }
            judge(&scenario, &specified, &observed).map_err(TestCaseError::fail)
        })
    }

    /// Runs scenarios with more keys than an acquire tries until the answers differ.
    fn run_large(&self, cases: u32) -> Result<(), TestError<Scenario>> {
        let config = Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
        TestRunner::new(config).run(&large_scenario(LARGE_STEPS), |scenario| {
            self.pool.set(self.pool.get() + 1);
            let mut specified = run_large_on_kernel(&mut Kernel::default(), &scenario);
            let mut observed =
                self.runtime.block_on(self.run_on_redis(&format!("p{}", self.pool.get()), &scenario));
            specified.iter_mut().chain(&mut observed).for_each(without_epochs);
            for (number, (specified, observed)) in specified.iter().zip(&observed).enumerate() {
                if specified != observed {
                    let what = differences(specified, observed).join("\n");
                    return Err(TestCaseError::fail(format!("step {number}: {what}")));
                }
            }
            let violation = check(&scenario, &specified);
            violation.map_or(Ok(()), |violation| Err(TestCaseError::fail(format!("{violation:?}"))))
        })
    }

    async fn run_on_redis(&self, pool: &str, scenario: &Scenario) -> Vec<Step> {
        let opened = Ledger::open(&self.ledger, pool, "digest").await.unwrap();
        let ids = scenario.account_ids();
        let mut steps = Vec::new();
        for (batch, apply) in scenario.batches(&opened.ledger_id) {
            for spec in apply {
                Ledger::apply(&self.ledger, pool, &opened.ledger_id, &spec).await.unwrap();
            }
            let reply = Ledger::execute(&self.ledger, pool, &batch).await.unwrap();
            let inspection = self.ledger.inspect_at(pool, batch.clock, &ids).await.unwrap();
            steps.push(Step::new(reply, inspection.accounts));
        }
        steps
    }
}
